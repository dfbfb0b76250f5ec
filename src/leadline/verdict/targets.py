"""What a target costs: the same engine on the same prompts, once here and once there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from leadline.metrics.intervals import estimate_median
from leadline.metrics.statistics import Spread, spread
from leadline.spec import Campaign, Deployment
from leadline.verdict.schema import CellVerdict, DeploymentVerdict, TargetCost, TtftCost


def cost_targets(
    campaign: Campaign, deployments: Sequence[DeploymentVerdict], cells: Sequence[CellVerdict]
) -> Iterator[TargetCost]:
    """One for each two deployments that differ by their target alone."""
    if campaign.search:
        return  # its deployments differ by what was searched
    known = {cell.deployment: cell.settings for cell in campaign.cells()}
    started = [item for item in deployments if item.started]
    for first, second in combinations(started, 2):
        if _differ_by_target(known[first.key], known[second.key]):
            yield TargetCost(
                deployments=(first.key, second.key),
                targets=(known[first.key].target.kind, known[second.key].target.kind),
                start_s=(first.start_s, second.start_s),
                ttft=tuple(_compare_cells(first.key, second.key, cells)),
            )


def _differ_by_target(first: Deployment, second: Deployment) -> bool:
    """The environment may differ: a container has paths of its own."""
    same = ("engine", "model", "settings")
    equal = all(getattr(first, name) == getattr(second, name) for name in same)
    return equal and first.target.kind != second.target.kind


def _compare_cells(first: str, second: str, cells: Sequence[CellVerdict]) -> Iterator[TtftCost]:
    there = {_workload(cell): cell for cell in cells if cell.deployment == second}
    for cell in cells:
        other = there.get(_workload(cell))
        if cell.deployment == first and other and (pairs := _pair(cell, other)):
            yield TtftCost(
                input_tokens=cell.input_tokens,
                prompts=len(pairs),
                ttft_s=(_spread([a for a, _ in pairs]), _spread([b for _, b in pairs])),
                difference_s=estimate_median([b - a for a, b in pairs]),
            )


def _workload(cell: CellVerdict) -> str:
    return cell.cell.removeprefix(f"{cell.deployment}/")


def _pair(first: CellVerdict, second: CellVerdict) -> list[tuple[float, float]]:
    """TTFTs of one and the same prompt; of both the last."""
    found = [
        {
            trial.record.sent.ids_sha256: trial.measures.ttft_s
            for trial in cell.trials
            if trial.sound and trial.measures.ttft_s
        }
        for cell in (first, second)
    ]
    return [(found[0][key], found[1][key]) for key in found[0] if key in found[1]]


def _spread(values: list[float]) -> Spread:
    found = spread(values)
    assert found  # noqa: S101
    return found
