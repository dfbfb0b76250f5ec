"""A search in words: its answer, every question with its reason, and the frontier of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from leadline.metrics.limit import Limit
from leadline.report.phrases import NOTHING
from leadline.units import show_tokens
from leadline.verdict import FrontierPoint, RunVerdict, SearchStep, SearchVerdict

STEP_COLUMNS = ("", "asked", "why", "answer")
FRONTIER_COLUMNS = ("search", "cache", "concurrency", "context", "proven to", "fails from", "plan")
_STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow", "infeasible": "yellow"}
_NOUNS = {"input_tokens": "prompt tokens", "concurrency": "at once"}


class Line(NamedTuple):
    """What one search adds to the frontier: along its own axis, at its place on the other."""

    search: str
    cache: str
    concurrency: str
    context: str
    proven: str
    fails: str
    plan: str


def word_answer(item: SearchVerdict) -> str:
    """The result in one sentence, and how sure it is."""
    limit = item.limit
    if item.ending == "not started":
        return f"Not started: {item.problem or 'nothing was tried'}."
    if limit is None or not limit.asked:
        return "Nothing was asked yet: the same command goes on."
    said = _word_limit(limit, item)
    if item.ending == "unfinished":
        return f"Not finished: so far, {said[0].lower()}{said[1:]} The same command goes on."
    if item.ending == "stopped":
        return f"Stopped after {limit.asked} runs (search.most_runs): {said[0].lower()}{said[1:]}"
    return said


def _word_limit(limit: Limit, item: SearchVerdict) -> str:
    best = limit.highest_pass
    if best is None:
        lowest = f", the lowest asked {show_tokens(limit.fails_from)}" if limit.fails_from else ""
        return f"No level passes{lowest}."
    passes = f"{show_tokens(best)} {_NOUNS[item.unit]} {'passes' if best == 1 else 'pass'}"
    if not limit.is_monotone:
        holds = f"{show_tokens(limit.holds_to)}" if limit.holds_to else "no level"
        return (
            f"Not monotone: {passes} although {show_tokens(limit.fails_from or 0)} did not, each "
            f"seen again; without a gap it holds to {holds}."
        )
    if limit.fails_above is not None:
        return f"{passes}, {show_tokens(limit.fails_above)} do not."
    return f"{passes}, {'the most that was allowed' if best == item.highest else 'so far'}."


def word_start(item: SearchVerdict) -> str:
    if item.start is None:
        return ""
    held = item.limit.highest_pass if item.limit else None
    against = f"; {_word_distance(item.start, held)}" if held else ""
    healed = f", after {len(item.heals)} remedies" if item.heals else ""
    return f"started at {show_tokens(item.start)} ({item.source}){against}{healed}"


def _word_distance(start: int, held: int) -> str:
    if held == start:
        return "it holds to that very level"
    share = abs(held - start) / start
    return f"the limit lies {share:.0%} {'above' if held > start else 'below'} it"


def word_doubts(item: SearchVerdict) -> Iterator[str]:
    """What a careful reader should know of the answers."""
    if item.limit is None:
        return
    for levels, text in (
        (item.limit.wavering, "both passed and failed; what most of its answers say counts"),
        (item.limit.undecided, "gave no answer that can be trusted"),
    ):
        if levels:
            yield f"{', '.join(map(show_tokens, levels))} {text}"


def word_step(number: int, step: SearchStep) -> tuple[str, str, str, str]:
    answer = f"{step.status} ({step.cause})" if step.cause else step.status
    if told := step.finding or step.reason:
        answer += f": {told}"
    return str(number), show_tokens(step.level), step.asked_because, answer


def word_steps(item: SearchVerdict) -> Iterator[tuple[str, str, str, str]]:
    """Every question in order, remedies where they were applied."""
    for number, step in enumerate(item.steps, start=1):
        yield from _word_heals(item, number - 1)
        yield word_step(number, step)
    yield from _word_heals(item, len(item.steps))


def _word_heals(item: SearchVerdict, after: int) -> Iterator[tuple[str, str, str, str]]:
    for heal in item.heals:
        if heal.after == after:
            changes = ", ".join(f"{name} {value}" for name, value in heal.changes.items())
            yield "→", changes, f"{heal.code} {heal.title}", f"remedy applied: {heal.remedy}"


def word_frontier(verdict: RunVerdict) -> list[Line]:
    """One line for each search."""
    return [_word_line(item) for item in verdict.searches if item.limit]


def _word_line(item: SearchVerdict) -> Line:
    limit, is_length = item.limit, item.unit == "input_tokens"
    assert limit is not None  # noqa: S101  (word_frontier asks)
    point = next(iter(item.points), None)
    beside = _beside(point, is_length=is_length)
    foretold = [p for p in item.points if p.state == "predicted"]
    plan = NOTHING
    if foretold:
        plan = show_tokens(foretold[0].input_tokens if is_length else foretold[0].concurrency)
    return Line(
        search=item.key,
        cache=point.cache if point else NOTHING,
        concurrency=NOTHING if is_length and not point else ("↔" if not is_length else beside),
        context="↔" if is_length else beside,
        proven=_level(limit.holds_to),
        fails=_level(limit.fails_from),
        plan=plan,
    )


def _beside(point: FrontierPoint | None, *, is_length: bool) -> str:
    if point is None:
        return NOTHING
    return show_tokens(point.concurrency if is_length else point.input_tokens)


def _level(level: int | None) -> str:
    return NOTHING if level is None else show_tokens(level)


FRONTIER_CAPTION = (
    "↔: what was searched. Proven and failed are real runs; the plan's figure was made before "
    "them. Nothing is said of levels between the two."
)


def print_searches(console: Console, verdict: RunVerdict) -> None:
    for item in verdict.searches:
        console.print(_render(item))
    lines = word_frontier(verdict)
    if len(lines) > 1:
        console.print(_table("the frontier", FRONTIER_COLUMNS, lines))
        console.print(Text(FRONTIER_CAPTION, style="dim"))


def _render(item: SearchVerdict) -> RenderableType:
    style = "bold green" if item.ending == "found" and item.is_monotone else "bold yellow"
    parts: list[RenderableType] = [
        Text(f"\n{item.key}", style="bold"),
        Text(word_answer(item), style=style),
    ]
    if start := word_start(item):
        parts.append(Text(start))
    parts += [Text(f"! {text}", style="yellow") for text in word_doubts(item)]
    if item.steps or item.heals:
        parts.append(_table("", STEP_COLUMNS, list(word_steps(item))))
    return Group(*parts)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(
        title=Text(title, style="bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in columns:
        is_number = column in ("asked", "concurrency", "context", "proven to", "fails from", "plan")
        table.add_column(
            column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold"
        )
    for row in rows:
        *rest, last = row
        style = _STYLES.get(last.split(" ")[0].rstrip(":"), "")
        table.add_row(*rest, Text(last, style=style))
    return table
