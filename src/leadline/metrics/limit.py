"""How far something goes: which level to ask next, and what all answers together say.

Nothing is remembered: both follow from the answers so far alone, so that a search that was killed
goes on with the very decisions that it would have made.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

Answered = Literal["pass", "fail", "unknown"]

# A level that twice gave no answer is left aside; with two such levels the search ends.
_TRIES = 2
_MOST_UNDECIDED = 2
# A level that passed once and failed once is asked again, at most so often in all.
_MOST_TAKES = 5
# Where the plan is wrong it is seldom far wrong: the first step away from it, as a share of it.
_FIRST_STEP = 32


class Answer(NamedTuple):
    level: int
    outcome: Answered


class Ask(NamedTuple):
    level: int
    take: int
    """1 for the first time; a level is asked again only to be sure."""
    reason: str


@dataclass(frozen=True)
class Grid:
    levels: Sequence[int]
    """Rising; all that could be asked."""
    start: int
    """One of them: the plan's own answer."""
    resolution: int
    """A pass and a fail no further apart than this are near enough."""
    checks: bool = True
    """Look for a fail below the limit and for a pass above it, where none was asked yet."""


class Limit(BaseModel):
    """What the answers say; ``None`` where no level is such."""

    model_config = ConfigDict(frozen=True)

    holds_to: int | None
    """The highest level that passed with no lower one that failed."""
    fails_from: int | None
    """The lowest level that failed."""
    highest_pass: int | None
    """Above ``holds_to`` only where a level in between failed, again when it was repeated."""
    fails_above: int | None
    """The lowest level above ``highest_pass`` that failed."""
    undecided: tuple[int, ...] = ()
    """Levels that gave no answer however often they were asked."""
    wavering: tuple[int, ...] = ()
    """Levels that both passed and failed; what most of their answers say holds."""
    asked: int
    """Questions, repeats included."""

    @property
    def is_monotone(self) -> bool:
        return self.holds_to == self.highest_pass


def next_ask(grid: Grid, answers: Sequence[Answer]) -> Ask | None:
    """The question that follows from these answers; ``None`` when they are enough."""
    known = _Known(grid, answers)
    if not answers:
        return Ask(grid.start, 1, "the plan's own answer")
    found = next(known.owed(), None)
    if found is None and len(known.undecided) < _MOST_UNDECIDED:
        found = next(known.wanted(), None)
    if found is None:
        return None
    level, reason = found
    return Ask(level, known.takes(level) + 1, reason)


def judge_limit(grid: Grid, answers: Sequence[Answer]) -> Limit:
    known = _Known(grid, answers)
    return Limit(
        holds_to=known.holds_to,
        fails_from=min(known.fails, default=None),
        highest_pass=known.highest_pass,
        fails_above=known.fails_above,
        undecided=tuple(sorted(known.undecided)),
        wavering=tuple(level for level in known.given if len(set(known.decided(level))) > 1),
        asked=len(answers),
    )


Question = tuple[int, str]


class _Known:
    """The answers by level."""

    def __init__(self, grid: Grid, answers: Iterable[Answer]) -> None:
        self.grid = grid
        self.given: dict[int, list[Answered]] = {}
        for level, outcome in answers:
            self.given.setdefault(level, []).append(outcome)

    def takes(self, level: int) -> int:
        return len(self.given.get(level, ()))

    def decided(self, level: int) -> list[Answered]:
        return [outcome for outcome in self.given[level] if outcome != "unknown"]

    def owed(self) -> Iterator[Question]:
        """Questions that must be asked again before anything follows from them."""
        for level in self.given:
            outcomes = self.decided(level)
            if not outcomes and self.takes(level) < _TRIES:
                yield level, "again: it gave no answer that can be trusted"
            elif outcomes and _is_tie(outcomes) and self.takes(level) < _MOST_TAKES:
                yield level, "again: it passed and it failed"
        if not self.is_contradiction_sure:
            for level, what in self._contradiction():
                if not self.is_firm(level) and self.takes(level) < _MOST_TAKES:
                    yield level, f"again: it {what}"
                    return

    def wanted(self) -> Iterator[Question]:
        """What brings the limit nearer, then what tests that there is one."""
        yield from self._toward_limit()
        if self.grid.checks:
            yield from self._checks()
        yield from self._below_gap()

    def _toward_limit(self) -> Iterator[Question]:
        best, above = self.highest_pass, self.fails_above
        if best is None:
            yield from self._downward()
        elif above is None:
            yield from self._upward(best)
        else:
            yield from self._between(best, above)

    def _downward(self) -> Iterator[Question]:
        """Further down each time, while nothing passes."""
        lowest = min((*self.fails, *self.undecided))
        step = self._first_step * 2 ** (len(self.fails) + len(self.undecided) - 1)
        wanted = max(lowest - step, self.grid.levels[0])
        index = min(bisect_right(self.grid.levels, wanted), self._index(lowest)) - 1
        if index >= 0:
            yield self.grid.levels[index], f"lower: {lowest:,} and above do not pass"

    def _upward(self, best: int) -> Iterator[Question]:
        """Just above first; further up each time, while nothing fails."""
        passed = len(self.passes)
        step = self.grid.resolution if passed == 1 else self._first_step * 2 ** (passed - 2)
        index = max(bisect_left(self.grid.levels, best + step), self._index(best) + 1)
        level = self._free(range(min(index, len(self.grid.levels) - 1), self._index(best), -1))
        if level is not None:
            reason = "just above" if passed == 1 else "higher"
            yield level, f"{reason}: {best:,} passes, nothing above failed"

    def _between(self, low: int, high: int) -> Iterator[Question]:
        if high - low > self.grid.resolution:
            middle = self._nearest((low + high) / 2, low, high)
            if middle is not None:
                yield middle, f"between {low:,}, which passes, and {high:,}, which fails"

    def _checks(self) -> Iterator[Question]:
        levels, best, above = self.grid.levels, self.highest_pass, self.fails_above
        if best is not None and not any(level < best for level in (*self.passes, *self.fails)):
            check = self._nearest((levels[0] + best) / 2, levels[0] - 1, best)
            if check is not None:
                yield check, f"a check: does a level below {best:,} pass too?"
        if above is not None and not any(level > above for level in self.fails):
            check = self._nearest(min(2 * above, (above + levels[-1]) / 2), above, levels[-1] + 1)
            if check is not None:
                yield check, f"a check: does a level above {above:,} fail too?"

    def _below_gap(self) -> Iterator[Question]:
        """Where passes lie above fails: how far it goes without a gap."""
        if self.holds_to == self.highest_pass:
            return
        lowest = min(self.fails)
        if self.holds_to is not None:
            yield from self._between(self.holds_to, lowest)
        else:
            middle = self._nearest((self.grid.levels[0] + lowest) / 2, -1, lowest)
            if middle is not None:
                yield middle, f"below {lowest:,}, the lowest that fails"

    @cached_property
    def is_contradiction_sure(self) -> bool:
        """A level failed, a higher one passed, and both did so again."""
        firm = [(level, self._belief(level)) for level in self.given if self.is_firm(level)]
        fails = [level for level, belief in firm if belief == "fail"]
        return any(level > min(fails) for level, b in firm if b == "pass") if fails else False

    def _contradiction(self) -> Iterator[Question]:
        best = self.highest_pass
        below = [level for level in self.fails if best is not None and level < best]
        if best is not None and below:
            yield best, f"passed although {max(below):,} failed"
            yield max(below), f"failed although {best:,} passed"

    def is_firm(self, level: int) -> bool:
        outcomes = self.decided(level)
        return abs(outcomes.count("pass") - outcomes.count("fail")) > 1 or (
            len(outcomes) > _TRIES and not _is_tie(outcomes)
        )

    @cached_property
    def passes(self) -> list[int]:
        return [level for level in self.given if self._belief(level) == "pass"]

    @cached_property
    def fails(self) -> list[int]:
        return [level for level in self.given if self._belief(level) == "fail"]

    @cached_property
    def undecided(self) -> list[int]:
        return [level for level in self.given if self._belief(level) == "unknown"]

    @cached_property
    def highest_pass(self) -> int | None:
        return max(self.passes, default=None)

    @cached_property
    def fails_above(self) -> int | None:
        best = self.highest_pass
        return min((n for n in self.fails if best is None or n > best), default=None)

    @cached_property
    def holds_to(self) -> int | None:
        lowest = min(self.fails, default=None)
        return max((n for n in self.passes if lowest is None or n < lowest), default=None)

    def _belief(self, level: int) -> Answered:
        outcomes = self.decided(level)
        if not outcomes or (_is_tie(outcomes) and self.takes(level) >= _MOST_TAKES):
            return "unknown"
        return "pass" if outcomes.count("pass") * 2 > len(outcomes) else "fail"

    @property
    def _first_step(self) -> int:
        return max(self.grid.resolution, self.grid.start // _FIRST_STEP)

    def _index(self, level: int) -> int:
        return bisect_left(self.grid.levels, level)

    def _nearest(self, wanted: float, low: int, high: int) -> int | None:
        """The level nearest to it, strictly between the two, that was not asked yet."""
        first, last = bisect_right(self.grid.levels, low), bisect_left(self.grid.levels, high) - 1
        if first > last:
            return None
        middle = min(max(bisect_left(self.grid.levels, wanted), first), last)
        return self._free([*range(middle, last + 1), *range(middle - 1, first - 1, -1)])

    def _free(self, indexes: Iterable[int]) -> int | None:
        found = (self.grid.levels[index] for index in indexes)
        return next((level for level in found if level not in self.given), None)


def _is_tie(outcomes: Sequence[Answered]) -> bool:
    return outcomes.count("pass") == outcomes.count("fail")
