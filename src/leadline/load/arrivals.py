"""When requests are sent in an open loop: seconds after the start, in order, drawn before the run.

Nothing here knows of answers: a slow server does not slow down its users.
"""

from __future__ import annotations

import random
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import orjson

from leadline.errors import SpecError


class TraceLine(NamedTuple):
    """One request of a recorded day."""

    at_s: float
    input_tokens: int
    output_tokens: int


def constant(rate: float, count: int) -> list[float]:
    """One request each ``1 / rate`` seconds."""
    return [number / rate for number in range(count)]


def poisson(rate: float, count: int, seed: str) -> list[float]:
    """Independent users: exponential gaps of mean ``1 / rate``."""
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    at_s = 0.0
    arrivals = []
    for _ in range(count):
        arrivals.append(at_s)
        at_s += rng.expovariate(rate)
    return arrivals


def bursts(rate: float, size: int, count: int) -> list[float]:
    """``size`` requests at once, as often as gives ``rate`` on average."""
    return [number // size * size / rate for number in range(count)]


def ramp(first_rate: float, last_rate: float, count: int) -> list[float]:
    """The rate grows or falls evenly in time; ``count`` requests in all.

    n(t) = first t + (last - first) t² / 2T, with T = 2 count / (first + last), solved for t.
    """
    total_s = 2 * count / (first_rate + last_rate)
    growth = (last_rate - first_rate) / total_s
    # Of the two forms of the root, the one that also holds for no growth.
    return [
        2 * number / (first_rate + sqrt(max(0.0, first_rate**2 + 2 * growth * number)))
        for number in range(count)
    ]


def read_trace(path: Path) -> list[TraceLine]:
    """A trace of JSON lines with ``timestamp`` (ms), ``input_length`` and ``output_length``.

    That is Mooncake's form; other fields are passed over. ``SpecError`` names the first bad line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", where=str(path), cure="check the path"
        ) from error
    found = [_read_line(path, n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise SpecError("the trace is empty", where=str(path), cure="give one with requests")
    ordered = sorted(found)
    return [line._replace(at_s=line.at_s - ordered[0].at_s) for line in ordered]


def _read_line(path: Path, number: int, line: bytes) -> TraceLine:
    try:
        facts = orjson.loads(line)
        return TraceLine(
            at_s=float(facts["timestamp"]) / 1000,
            input_tokens=int(facts["input_length"]),
            output_tokens=int(facts["output_length"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise SpecError(
            f"line {number} is not a request: {error}",
            where=str(path),
            cure='write {"timestamp": MS, "input_length": TOKENS, "output_length": TOKENS}',
        ) from error
