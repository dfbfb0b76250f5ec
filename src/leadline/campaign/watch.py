"""What a campaign tells those who watch it, as it happens."""

from __future__ import annotations

from typing import Protocol

from leadline.plan.time import Prediction


class Watcher(Protocol):
    """All methods return at once; the campaign never waits for a display."""

    def run_started(self, name: str, path: str, trials: int | None, resumed: bool) -> None:
        """``trials`` is ``None`` for a search: each follows from the one before."""

    def note(self, text: str) -> None:
        """A decision that is worth a line."""

    def phase(self, deployment: str, text: str) -> None:
        """A deployment is doing something that takes time."""

    def trial_started(
        self, cell: str, trial: int, of: int, tokens: int, prediction: Prediction | None
    ) -> None: ...

    def chunk(self, count: int) -> None:
        """The ``count``-th chunk of the running trial has arrived."""

    def load_progress(self, ended: int, of: int) -> None:
        """Each second while a load runs."""

    def trial_ended(
        self, cell: str, trial: int, summary: str, remaining_s: float | None
    ) -> None: ...

    def problem(self, title: str, detail: str) -> None: ...
