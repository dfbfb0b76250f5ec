"""What is said of a search: every question with its answer, the limit, the frontier."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from leadline.metrics.limit import Limit

State = Literal["proven", "failed", "undecided", "predicted"]
Ending = Literal["found", "nothing passes", "not started", "stopped", "unfinished"]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class SearchStep(_Result):
    level: int
    take: int
    """1 for the first time; a level is asked again only to be sure."""
    asked_because: str
    cell: str
    deployment: str
    status: str
    """Of that cell; ``skipped`` while it runs."""
    cause: str = ""
    reason: str = ""
    finding: str = ""
    """Title of the diagnosis, where it failed."""


class HealStep(_Result):
    """A remedy that was applied as a new deployment."""

    after: int
    """So many questions had been asked."""
    failed: str
    """The cell whose failure it is to cure."""
    code: str
    title: str
    remedy: str
    changes: dict[str, Any]
    """Settings and variables as they are since; those of earlier remedies among them."""


class FrontierPoint(_Result):
    input_tokens: int
    concurrency: int
    cache: str
    """How prompts meet the prefix cache: ``cold``, or what they share."""
    state: State
    search: str
    deployment: str
    source: str
    """The cell that shows it, or what foretells it."""


class SearchVerdict(_Result):
    key: str
    """The campaign's cell without its level."""
    deployment: str
    unit: Literal["input_tokens", "concurrency"]
    ending: Ending
    start: int | None = None
    """The plan's own answer, as it was before the first run."""
    source: str = ""
    """What it follows from."""
    resolution: int = 1
    lowest: int | None = None
    highest: int | None = None
    """No level outside is asked."""
    limit: Limit | None = None
    steps: tuple[SearchStep, ...] = ()
    heals: tuple[HealStep, ...] = ()
    points: tuple[FrontierPoint, ...] = ()
    problem: str = ""
    """Why it was not started."""

    @property
    def is_monotone(self) -> bool:
        """Nothing passed above what failed."""
        return self.limit is None or self.limit.is_monotone
