"""What a start of a campaign would do and take, before it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leadline.plan.campaign_plans import CellPlan
from leadline.plan.estimate import CellEstimate, Estimate, show_amount
from leadline.plan.time import Prediction
from leadline.spec import Budget, Turn
from leadline.units import show_seconds

_SOURCES = {
    "measured": "measured before",
    "plan": "the plan",
    "unknown": "",
}
_SHOWN_TURNS = 8


def sum_up(estimate: Estimate, refused: Sequence[CellPlan], budget: Budget) -> Iterator[str]:
    """The estimate in a few lines."""
    if estimate.is_search:
        yield "a search: its questions follow from its answers, how many is not known beforehand"
        yield from _caps(estimate, budget)
        return
    totals = f"{_counts(estimate)}: {_totals(estimate, budget)}"
    yield totals if estimate.trials else "nothing is to be measured"
    if 0 < len(estimate.unknown) < len(estimate.cells):
        yield f"  not in it, for nothing is known of them yet: {_name(estimate.unknown)}"
    if refused:
        keys = [entry.cell.key for entry in refused]
        yield f"  not tried, for the plan rules them out: {_name(keys)}"
    yield from _caps(estimate, budget)


def render_forecast(
    estimate: Estimate, turns: Sequence[Turn], refused: Sequence[CellPlan], budget: Budget
) -> Group:
    """One line for each start and cell, in their order, then the sum."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Deployment, cells", overflow="fold")
    table.add_column("Trials", justify="right")
    for title in ("Time", "From"):
        table.add_column(title, no_wrap=True)
    for start in estimate.starts:
        beside = f"start: {show_seconds(start.seconds.expected)}" if start.seconds else ""
        table.add_row(Text(start.deployment, style="bold"), "", beside, "")
        for entry in estimate.cells:
            if entry.cell.deployment == start.deployment:
                name, trials = f"  {entry.cell.workload_key}", str(entry.trials)
                table.add_row(name, trials, _time(entry), _SOURCES[entry.source])
    lines = [*_refusals(refused), *_order(estimate, turns), *sum_up(estimate, refused, budget)]
    shown: list[RenderableType] = [table] if estimate.cells else []
    return Group(*shown, *(Text(line) for line in lines))


def _counts(estimate: Estimate) -> str:
    cells, starts = len(estimate.cells), len(estimate.starts)
    counts = f"{_plural(estimate.trials, 'trial')} of {_plural(cells, 'cell')}"
    at_once = ", all up at once" if estimate.together and starts > 1 else ""
    return f"{counts} on {_plural(starts, 'start')}{at_once}"


def _totals(estimate: Estimate, budget: Budget) -> str:
    if len(estimate.unknown) == len(estimate.cells):
        return "how long they take is not known beforehand"
    amounts = estimate.amounts(budget)
    rest = [name for name in ("device_hours", "usd") if amounts[name]]
    shown = [_range(estimate.time_s), *(show_amount(name, amounts[name] or 0) for name in rest)]
    return f"{'about' if estimate.is_complete else 'at least'} {', '.join(shown)}"


def _caps(estimate: Estimate, budget: Budget) -> Iterator[str]:
    for name, amount in estimate.amounts(budget).items():
        cap = getattr(budget, name)
        if cap is not None:
            ends = ": it will end the run early" if amount and amount > cap else ""
            yield f"  budget: {show_amount(name, cap)}{ends}"


def _refusals(refused: Sequence[CellPlan]) -> Iterator[str]:
    for entry in refused:
        if found := entry.refusal:
            yield f"infeasible {entry.cell.key}: {found.reason}; cure: {found.cure}"


def _order(estimate: Estimate, turns: Sequence[Turn]) -> Iterator[str]:
    """Only where it is not that of the table."""
    if estimate.together:
        shown = [f"{turn.cell.key} #{turn.trial}" for turn in turns[:_SHOWN_TURNS]]
        more = ", …" if len(turns) > _SHOWN_TURNS else ""
        yield f"in turns: {', '.join(shown)}{more}"


def _time(entry: CellEstimate) -> str:
    if entry.seconds is None:
        return "not known"
    least = "at least " if entry.at_least else ""
    return f"{least}{show_seconds(entry.seconds.expected)}"


def _range(seconds: Prediction) -> str:
    low, expected, high = map(show_seconds, seconds)
    return expected if low == high else f"{expected} ({low} to {high})"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _name(keys: Sequence[str], shown: int = 4) -> str:
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return ", ".join(keys[:shown]) + more
