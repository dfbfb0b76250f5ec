"""What the requests of a load ask for, and when each is sent: all drawn before the first is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import exp, log
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

from leadline.errors import SpecError
from leadline.load import arrivals
from leadline.spec import Cell, Distribution, Load, Lognormal, Uniform, Workload


class Asked(NamedTuple):
    """One request of a load, before it has a prompt."""

    input_tokens: int
    output_tokens: int
    at_s: float
    """After the load's start; nothing for users, who send when they have their answer."""


def require_load(cell: Cell) -> None:
    """``SpecError`` for a load that cannot be run, before anything is started."""
    load, workload = cell.workload.load, cell.workload
    if load and load.trace:
        arrivals.read_trace(Path(load.trace))
    for name, asked in (("shared_prefix", workload.shared_prefix), ("turns", workload.turns > 1)):
        if asked:
            raise SpecError(
                f"Leadline cannot send {name} yet, only read it",
                where=f"cell {cell.key}: workload.{name}",
                cure="leave it out",
            )


def draw_requests(workload: Workload, load: Load, longest: int, seed: str) -> list[Asked]:
    """``longest`` is what ``max`` stands for."""
    if load.trace:
        lines = arrivals.read_trace(Path(load.trace))[: load.requests]
        return [Asked(line.input_tokens, line.output_tokens, line.at_s) for line in lines]
    count = load.count
    asked = longest if workload.input_tokens == "max" else workload.input_tokens
    inputs = draw_lengths(asked, count, f"{seed}/input")
    outputs = draw_lengths(workload.output_tokens, count, f"{seed}/output")
    times = draw_times(load, count, seed) or [0.0] * count
    return [Asked(*facts) for facts in zip(inputs, outputs, times, strict=True)]


def draw_lengths(length: int | Distribution, count: int, seed: str) -> list[int]:
    """A list is taken in turn; the others follow from ``seed``."""
    if isinstance(length, int):
        return [length] * count
    if isinstance(length, tuple):
        return [length[number % len(length)] for number in range(count)]
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    drawn = _uniform(length, rng) if isinstance(length, Uniform) else _lognormal(length, rng)
    return [next(drawn) for _ in range(count)]


def draw_times(load: Load, count: int, seed: str) -> list[float]:
    """When each request is sent, in seconds; nothing for a closed loop."""
    rate = load.rate
    if rate is None:
        return []
    if load.arrivals == "constant":
        return arrivals.constant(rate, count)
    if load.arrivals == "bursts":
        return arrivals.bursts(rate, load.burst, count)
    if load.arrivals == "ramp":
        return arrivals.ramp(rate, load.last_rate or rate, count)
    return arrivals.poisson(rate, count, f"{seed}/arrivals")


def _uniform(length: Uniform, rng: random.Random) -> Iterator[int]:
    while True:
        yield rng.randint(*length.uniform)


def _lognormal(length: Lognormal, rng: random.Random) -> Iterator[int]:
    """The tail is cut, not heaped up at its end: drawn from what lies between the limits."""
    shape = length.lognormal
    normal = NormalDist(log(shape.median), shape.sigma)
    low, high = normal.cdf(log(shape.low)), normal.cdf(log(shape.high))
    while True:
        share = rng.uniform(low, high)
        drawn = exp(normal.inv_cdf(share)) if 0 < share < 1 else shape.median
        yield min(max(round(drawn), shape.low), shape.high)
