"""How much a server can take: which load to try next, and what all of them together say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from leadline.metrics.load_verdict import LoadVerdict
from leadline.spec import Levels, Sweep, UserRange

# Less growth of throughput than this, for a doubled load, is none.
LEAST_GROWTH = 0.05
# Neighbours of a bisection are near enough at this distance.
PRECISION = 0.1


class SweepStep(BaseModel):
    model_config = ConfigDict(frozen=True)

    level: float
    """Users, or requests per second."""
    load: LoadVerdict

    @property
    def passes(self) -> bool:
        """Enough of all its requests were good, and the client was not the bottleneck."""
        enough = self.load.good_share >= self.load.load.goals.share
        return enough and self.load.status != "inconclusive"

    @property
    def throughput(self) -> float:
        return self.load.output_tokens_per_s or 0.0


class SweepVerdict(BaseModel):
    model_config = ConfigDict(frozen=True)

    unit: Literal["users", "rate"]
    steps: tuple[SweepStep, ...]
    """By rising load."""
    largest: float | None
    """The largest load that passed, with no smaller one that did not."""
    next_failing: float | None
    """The smallest load above it that was measured and did not pass."""
    saturated_at: float | None
    """The smallest load whose throughput no larger one exceeded by 5 %; ``None`` if only the
    largest one measured is so: then it may still grow."""

    @property
    def chosen(self) -> LoadVerdict:
        """The largest load that passed, else the smallest."""
        found = [step for step in self.steps if step.level == self.largest]
        return (found or self.steps)[0].load


def judge_sweep(sweep: Sweep, steps: Sequence[SweepStep]) -> SweepVerdict:
    """Nothing is said of loads between those that were measured."""
    ordered = sorted(steps, key=lambda step: step.level)
    passing, failing = _edge(ordered)
    return SweepVerdict(
        unit=sweep.unit,
        steps=tuple(ordered),
        largest=passing,
        next_failing=failing,
        saturated_at=_saturation(ordered),
    )


def next_level(levels: Levels, steps: Sequence[SweepStep]) -> float | None:
    """The load to try after these; ``None`` when they are enough."""
    tried = {step.level for step in steps}
    if isinstance(levels, tuple):
        return next((level for level in levels if level not in tried), None)
    if not tried:
        return levels.low
    ordered = sorted(steps, key=lambda step: step.level)
    passing, failing = _edge(ordered)
    if failing is None:
        highest = ordered[-1].level
        done = highest >= levels.high or (_no_goals(ordered) and _saturation(ordered))
        return None if done else min(levels.high, highest * 2)
    return None if passing is None else _between(passing, failing, isinstance(levels, UserRange))


def _between(passing: float, failing: float, whole: bool) -> float | None:
    if failing - passing <= max(PRECISION * passing, 1 if whole else 0):
        return None
    middle = (passing + failing) / 2
    return middle // 1 if whole else middle


def _edge(ordered: Sequence[SweepStep]) -> tuple[float | None, float | None]:
    """(largest passing below the smallest failing, smallest failing)."""
    failing = next((step.level for step in ordered if not step.passes), None)
    below = [step.level for step in ordered if failing is None or step.level < failing]
    return (below[-1] if below else None), failing


def _saturation(ordered: Sequence[SweepStep]) -> float | None:
    most = max((step.throughput for step in ordered), default=0.0)
    enough = [step.level for step in ordered if step.throughput * (1 + LEAST_GROWTH) >= most]
    return enough[0] if most and enough[0] < ordered[-1].level else None


def _no_goals(steps: Sequence[SweepStep]) -> bool:
    return not any(step.load.load.goals.limits for step in steps)
