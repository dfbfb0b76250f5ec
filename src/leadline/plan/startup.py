"""How long an engine takes to start: recorded starts, scaled by the weights to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from leadline.catalog.reading import read_record, read_table
from leadline.plan.ledger import Kind
from leadline.plan.schema import Plan, Seconds

PROBE_FACTOR = 2
"""A start that takes twice the slowest estimate is no longer a slow start."""


@dataclass(frozen=True)
class _Span:
    least: float
    middle: float
    most: float


def estimate_start(plan: Plan) -> Seconds:
    """From the command to a ready server; downloads are not in it, and compilation on GPUs is.

    Processes and imports, then the whole checkpoint at the rates recorded, then profiling, KV
    cache and graphs. On Neuron the graphs are compiled instead, unless they lie in the cache.
    """
    prepare, rate, initialise = _recorded()
    gib = plan.memory.weights_gib * plan.gpus
    compiling, kind, source = _compiling(plan.engine)
    return Seconds(
        floor=0.0,
        low=prepare.least + gib / rate.most + initialise.least,
        expected=prepare.middle + gib / rate.middle + (compiling.middle or initialise.middle),
        high=prepare.most + gib / rate.least + (compiling.most or initialise.most),
        kind=kind,
        source=source,
    )


@cache
def _recorded() -> tuple[_Span, _Span, _Span]:
    """Seconds to prepare, GiB/s of loading, seconds to initialise."""
    starts = read_record("startup")["starts"]
    rates = [row["weights_gib_per_rank"] * row["ranks"] / row["load_s"] for row in starts]
    return (
        _span([row["prepare_s"] for row in starts]),
        _span(rates),
        _span([row["init_s"] for row in starts]),
    )


def _compiling(engine: str) -> tuple[_Span, Kind, str]:
    """What compiling a model's graphs takes, 0 where engines compile within initialising."""
    facts = read_table("time")["compile"].get(engine.partition("==")[0])
    if facts is None:
        return _Span(0, 0, 0), "recorded", read_record("startup")["source"]
    return _Span(0, facts["expected_s"], facts["most_s"]), facts["kind"], facts["source"]


def _span(values: Sequence[float]) -> _Span:
    return _Span(min(values), median(values), max(values))
