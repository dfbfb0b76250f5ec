"""Deployments that took turns, each against the first: ratios of what the same prompts took.

A pair is one trial of both: the same ids, one after the other. The ratio is the geometric mean of
the pairs' ratios; its interval is that of drawing whole pairs again (bootstrap, percentiles).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from leadline.metrics.intervals import CONFIDENCE, FEWEST_GROUPS, Estimate
from leadline.spec import Campaign
from leadline.verdict.schema import CellVerdict, Measure, Ratio, Trial

MEASURES: tuple[Measure, ...] = ("ttft_s", "tpot_s", "e2e_s")
_REPLICATES = 4000


def compare_cells(campaign: Campaign, cells: Sequence[CellVerdict]) -> tuple[Ratio, ...]:
    """Of an interleaved campaign, every workload of every deployment against the first's."""
    if campaign.order != "interleaved":
        return ()
    return tuple(_compare_all([cell for cell in cells if not cell.is_load]))


def _compare_all(cells: Sequence[CellVerdict]) -> Iterator[Ratio]:
    first = cells[0].deployment if cells else ""
    baselines = {_workload(cell): cell for cell in cells if cell.deployment == first}
    for cell in cells:
        if cell.deployment != first and (baseline := baselines.get(_workload(cell))):
            refused = _difference(baseline, cell)
            for measure in MEASURES[:1] if refused else MEASURES:
                yield _ratio(baseline, cell, measure, refused)


def _workload(cell: CellVerdict) -> str:
    return cell.cell.removeprefix(f"{cell.deployment}/")


def _difference(ours: CellVerdict, theirs: CellVerdict) -> str:
    """What makes a comparison unfair, or nothing."""
    for cell in (ours, theirs):
        if cell.status in ("skipped", "infeasible") or not cell.trials:
            return f"{cell.deployment} has no result"
        if not cell.sound:
            return f"{cell.deployment}: {cell.reason or 'not every proof holds'}"
    pairs = list(zip(ours.trials, theirs.trials, strict=False))
    if len(ours.trials) != len(theirs.trials):
        return f"{len(ours.trials)} trials against {len(theirs.trials)}"
    if any(a.record.sent.ids_sha256 != b.record.sent.ids_sha256 for a, b in pairs):
        return "the prompts are not the same ids: the tokenizers differ"
    counts = [(a.measures.completion_tokens, b.measures.completion_tokens) for a, b in pairs]
    if unequal := [f"{a} against {b}" for a, b in counts if a != b]:
        return f"answers of {unequal[0]} tokens"
    return ""


def _ratio(ours: CellVerdict, theirs: CellVerdict, measure: Measure, refused: str) -> Ratio:
    place = {
        "workload": _workload(theirs),
        "baseline": ours.deployment,
        "deployment": theirs.deployment,
    }
    if refused:
        return Ratio(**place, measure=measure, refused=refused)
    ratios = _paired(ours.trials, theirs.trials, measure)
    if not ratios:
        return Ratio(**place, measure=measure, refused=f"no {measure} was measured")
    return Ratio(
        **place,
        measure=measure,
        pairs=len(ratios),
        ratio=estimate_ratio(ratios),
        lowest=min(ratios),
        highest=max(ratios),
    )


def _paired(ours: Sequence[Trial], theirs: Sequence[Trial], measure: Measure) -> list[float]:
    values = (
        (getattr(a.measures, measure), getattr(b.measures, measure))
        for a, b in zip(ours, theirs, strict=True)
    )
    return [b / a for a, b in values if a and b]


def estimate_ratio(ratios: Sequence[float]) -> Estimate:
    """Geometric mean, with an interval where there are pairs enough for one."""
    logs = np.log(np.asarray(ratios))
    value = float(np.exp(logs.mean()))
    if logs.size < FEWEST_GROUPS:
        return Estimate(
            value=value, refused=f"{logs.size} pairs; an interval needs {FEWEST_GROUPS}"
        )
    drawn = np.random.default_rng(0).integers(0, logs.size, (_REPLICATES, logs.size))
    tails = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    low, high = np.exp(np.quantile(logs[drawn].mean(axis=1), tails))
    return Estimate(value=value, low=float(low), high=float(high))
