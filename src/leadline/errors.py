"""Every error a user can meet. The message says what is wrong, where, and the cure."""

from __future__ import annotations


class LeadlineError(Exception):
    """Base of all errors shown to the user as one message, without a traceback."""

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", cure: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.cure = cure

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        cure = f"\n  cure: {self.cure}" if self.cure else ""
        return f"{place}{self.what}{cure}"


class SpecError(LeadlineError):
    """Wrong use: a campaign file, an option or a prompt request that cannot be meant."""

    exit_code = 3


class PlanError(LeadlineError):
    """The facts needed for a plan are missing or contradict each other."""

    exit_code = 3


class DeployError(LeadlineError):
    """A target could not start, find or stop what it was asked to."""


class EngineError(LeadlineError):
    """A server answers, but not as the engine it is said to be."""


class LoadError(LeadlineError):
    """A request could not be made at all."""


class AccessError(LoadError):
    """The server refuses our credentials or does not serve the model: the caller's to mend."""

    exit_code = 3


class JournalError(LeadlineError):
    """A run directory is missing, locked, foreign or damaged."""
