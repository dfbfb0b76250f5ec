"""What the requests of a load ask for, and when each is sent: all drawn before the first is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from leadline.errors import SpecError
from leadline.load import arrivals
from leadline.prompts.lengths import (
    Lengths,
    ListedLengths,
    LognormalLengths,
    UniformLengths,
    draw_lengths,
)
from leadline.prompts.trace import TraceLine, read_trace, require_blocks
from leadline.spec import Cell, Distribution, Load, Lognormal, Uniform, Workload


class Asked(NamedTuple):
    """One request of a load, before it has a prompt."""

    input_tokens: int
    output_tokens: int
    at_s: float
    """After the load's start; nothing for users, who send when they have their answer."""
    conversation: int = 0
    """Requests of one follow each other."""
    more: bool = False
    """Another turn of the same conversation follows."""
    recorded: TraceLine | None = None
    """Whose prefixes are to be replayed."""


def require_load(cell: Cell) -> None:
    """``SpecError`` for a load that cannot be run, before anything is started."""
    load = cell.workload.load
    if load and load.trace:
        has_prefixes = any(one.recorded for one in _replay(load))
        if has_prefixes and cell.workload.shared_prefix:
            raise SpecError(
                "the trace has prefixes of its own, and a shared prefix is asked for too",
                where=load.trace,
                cure="leave them out: --no-trace-prefixes (campaign: load.trace_prefixes: false)",
            )


def draw_requests(workload: Workload, load: Load, longest: int, seed: str) -> list[Asked]:
    """``longest`` is what ``max`` stands for."""
    if load.trace:
        return list(_replay(load))
    count = -(-load.count // workload.turns)
    asked = longest if workload.input_tokens == "max" else workload.input_tokens
    inputs = draw_lengths(_lengths(asked), count, f"{seed}/input")
    outputs = draw_lengths(_lengths(workload.output_tokens), load.count, f"{seed}/output")
    times = draw_times(load, count, seed) or [0.0] * count
    turns = _take_turns(inputs, times, workload.turns)
    found = [
        Asked(tokens, output, at_s, conversation, more)
        for output, (tokens, at_s, conversation, more) in zip(outputs, turns, strict=False)
    ]
    return [*found[:-1], found[-1]._replace(more=False)]


def _replay(load: Load) -> Iterator[Asked]:
    lines = _read_trace(load)
    has_prefixes = load.trace_prefixes and any(line.hash_ids for line in lines)
    for line in lines:
        recorded = line if has_prefixes else None
        yield Asked(line.input_tokens, line.output_tokens, line.at_s, recorded=recorded)


def _read_trace(load: Load) -> list[TraceLine]:
    path = Path(load.trace or "")
    lines = read_trace(path)[: load.requests]
    if load.trace_prefixes:
        require_blocks(path, lines, load.trace_block_tokens)
    return lines


def _take_turns(
    inputs: list[int], times: list[float], turns: int
) -> Iterator[tuple[int, float, int, bool]]:
    """Each turn of each conversation adds an equal part of its whole length."""
    for number, (tokens, at_s) in enumerate(zip(inputs, times, strict=True)):
        for turn in range(1, turns + 1):
            yield tokens * turn // turns, at_s, number, turn < turns


def _lengths(length: int | Distribution) -> Lengths:
    if isinstance(length, Uniform):
        return UniformLengths(*length.uniform)
    if isinstance(length, Lognormal):
        shape = length.lognormal
        return LognormalLengths(shape.median, shape.sigma, shape.low, shape.high)
    return ListedLengths(length if isinstance(length, tuple) else (length,))


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
