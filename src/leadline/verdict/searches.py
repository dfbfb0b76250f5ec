"""Searches, read from the journal: what was asked and why, what the answers say, the frontier.

The campaign itself decides by these functions what to ask next: so a search that was killed goes
on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from leadline.metrics.limit import Answer, Answered, Ask, Grid, judge_limit, next_ask
from leadline.spec import Campaign, Cell, Search, Workload, level_cell, search_key
from leadline.spec.search import change_cell
from leadline.units import show_tokens
from leadline.verdict.facts import Facts
from leadline.verdict.schema import CellVerdict
from leadline.verdict.search_schema import (
    Ending,
    FrontierPoint,
    HealStep,
    SearchStep,
    SearchVerdict,
    State,
)

# Failures that say nothing of how much would work.
_UNTELLING = frozenset(
    {
        "access", "bad_option", "engine_missing", "image_missing", "library_missing",
        "model_invalid", "model_missing", "name_taken", "no_device", "no_gpu", "port_in_use",
        "program_missing", "prompt", "shm", "unreachable",
    }
)  # fmt: skip
_STATES: dict[str, State] = {"pass": "proven", "fail": "failed", "unknown": "undecided"}


@dataclass(frozen=True)
class Question:
    cell: Cell
    ask: Ask
    heals: int
    """So many remedies were in force."""


@dataclass(frozen=True)
class Course:
    """One search so far."""

    search: Search
    seed: Cell
    key: str
    opened: Mapping[str, Any]
    """The event that says which levels there are and where it starts; empty before."""
    questions: tuple[Question, ...]
    heals: tuple[HealStep, ...]

    @property
    def changes(self) -> dict[str, Any]:
        """Settings that remedies have changed."""
        return dict(self.heals[-1].changes) if self.heals else {}

    @property
    def opening(self) -> Cell:
        """What starts the server of which the levels are not known yet."""
        return change_cell(self.seed, *split_changes(self.changes))

    @cached_property
    def grid(self) -> Grid:
        facts = self.opened
        levels = facts["levels"] or range(facts["lowest"], facts["highest"] + 1, facts["step"])
        return Grid(levels, facts["start"], facts["resolution"])

    def answers(self, cells: Mapping[str, CellVerdict]) -> list[Answer]:
        """A failure that a remedy was applied to is no answer any more; what passed stays so."""
        return [
            Answer(question.ask.level, outcome)
            for question in self.questions
            if (outcome := read_answer(cells[question.cell.key]))
            and (question.heals == len(self.heals) or outcome == "pass")
        ]


def split_changes(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings, and what is written like an environment variable."""
    env = {name: str(value) for name, value in changes.items() if name.isupper()}
    return {name: value for name, value in changes.items() if name not in env}, env


def read_courses(campaign: Campaign, events: Sequence[Mapping[str, Any]]) -> list[Course]:
    """Every search of the campaign, in its order."""
    if campaign.search is None:
        return []
    return [_read_course(campaign.search, seed, events) for seed in campaign.cells()]


def _read_course(search: Search, seed: Cell, events: Sequence[Mapping[str, Any]]) -> Course:
    key = search_key(search, seed)
    questions: list[Question] = []
    heals: list[HealStep] = []
    opened: Mapping[str, Any] = {}
    for line in (line for line in events if line.get("search") == key):
        if line["event"] == "search_opened":
            opened = line
        elif line["event"] == "search_asked":
            ask = Ask(line["level"], line["take"], line["reason"])
            changes = split_changes(line["changes"])
            cell = level_cell(search, seed, ask.level, ask.take, *changes)
            questions.append(Question(cell, ask, len(heals)))
        elif line["event"] == "search_healed":
            facts = {name: line[name] for name in HealStep.model_fields if name != "after"}
            heals.append(HealStep(after=len(questions), **facts))
    return Course(search, seed, key, opened, tuple(questions), tuple(heals))


def list_cells(campaign: Campaign, facts: Facts) -> list[Cell]:
    """What a run is made of: all cells of its campaign, or those that its searches asked for."""
    if campaign.search is None:
        return list(campaign.cells())
    failed = {line["cell"] for line in facts.named("cell_failed")}
    courses = read_courses(campaign, facts.events)
    cells = {q.cell.key: q.cell for course in courses for q in course.questions}
    openings = {course.opening.key: course.opening for course in courses if not course.opened}
    missed = [c for k, c in openings.items() if k in failed or facts.is_away(c.deployment)]
    return [*cells.values(), *missed]


def read_answer(cell: CellVerdict) -> Answered | None:
    """``None``: it has not been asked to the end."""
    if cell.status == "skipped" or cell.cause == "interrupted":
        return None
    if cell.status == "pass":
        return "pass"
    if cell.status == "inconclusive" or cell.cause in _UNTELLING:
        return "unknown"
    return "fail"


def judge_searches(
    campaign: Campaign, facts: Facts, cells: Iterable[CellVerdict]
) -> Iterator[SearchVerdict]:
    by_key = {cell.cell: cell for cell in cells}
    for course in read_courses(campaign, facts.events):
        yield _judge(course, by_key, facts)


def _judge(course: Course, cells: Mapping[str, CellVerdict], run: Facts) -> SearchVerdict:
    facts = {"key": course.key, "deployment": course.seed.deployment, "heals": course.heals}
    unit = course.search.maximise
    if not course.opened:
        failed = cells.get(course.opening.key)
        ending: Ending = "not started" if failed else "unfinished"
        problem = failed.reason if failed else ""
        return SearchVerdict(**facts, unit=unit, ending=ending, problem=problem)
    answers = course.answers(cells)
    opened = {name: course.opened[name] for name in ("start", "source", "resolution")}
    return SearchVerdict(
        **facts,
        **opened,
        unit=unit,
        lowest=course.grid.levels[0],
        highest=course.grid.levels[-1],
        ending=_ending(course, answers, cells, run),
        limit=judge_limit(course.grid, answers),
        steps=tuple(_step(item, cells[item.cell.key], run) for item in course.questions),
        points=tuple(_points(course, cells)),
    )


def _ending(
    course: Course, answers: Sequence[Answer], cells: Mapping[str, CellVerdict], run: Facts
) -> Ending:
    asked = [question.cell for question in course.questions]
    if any(read_answer(cells[cell.key]) is None or run.is_away(cell.deployment) for cell in asked):
        return "unfinished"
    if next_ask(course.grid, answers) is not None:
        return "stopped" if len(course.questions) >= course.search.most_runs else "unfinished"
    passes = any(answer.outcome == "pass" for answer in answers)
    return "found" if passes else "nothing passes"


def _step(question: Question, cell: CellVerdict, run: Facts) -> SearchStep:
    found = run.finding(question.cell) if cell.status == "fail" else None
    return SearchStep(
        level=question.ask.level,
        take=question.ask.take,
        asked_because=question.ask.reason,
        cell=cell.cell,
        deployment=cell.deployment,
        status=cell.status,
        cause=cell.cause,
        reason=cell.reason,
        finding=found.title if found else "",
    )


def _points(course: Course, cells: Mapping[str, CellVerdict]) -> Iterator[FrontierPoint]:
    """One for each level that was asked, and one for what the plan said of this search."""
    cache = word_cache_mode(course.seed.workload)
    place = {"cache": cache, "search": course.key}
    for question in course.questions:
        if outcome := read_answer(cells[question.cell.key]):
            yield FrontierPoint(
                **place,
                **_coordinates(course, question.ask.level),
                state=_STATES[outcome],
                deployment=question.cell.deployment,
                source=question.cell.key,
            )
    if (foretold := course.opened["foretold"]) is not None:
        yield FrontierPoint(
            **place,
            **_coordinates(course, foretold),
            state="predicted",
            deployment=course.seed.deployment,
            source=course.opened["source"],
        )


def _coordinates(course: Course, level: int) -> dict[str, int]:
    beside = course.opened["beside"]
    if course.search.maximise == "input_tokens":
        return {"input_tokens": level, "concurrency": beside}
    return {"input_tokens": beside, "concurrency": level}


def word_cache_mode(workload: Workload) -> str:
    """How the prompts meet a prefix cache."""
    if shared := workload.shared_prefix:
        if shared.tokens:
            return f"{show_tokens(shared.tokens)} tokens shared"
        share = shared.share or shared.hit_rate or 0.0
        return f"{share:.0%} {'shared' if shared.share else 'from the cache'}"
    if workload.turns > 1:
        return f"{workload.turns} turns"
    return "cold" if workload.cold else "any cache"
