"""What a rule says, and the change that would mend it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from leadline.lint.command import Place, Span

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Edit:
    """``span`` of the file becomes ``text``; with ``part``, only the first such part of it."""

    span: Span
    text: str
    part: str = ""


@dataclass(frozen=True)
class Hit:
    """One place that a rule objects to; the rule adds its code, severity and source."""

    what: str
    place: Place
    cure: str
    why: str = ""
    """More than the rule's own docstring says."""
    source: str = ""
    """Where this very fact comes from, if not from the rule's source."""
    edits: tuple[Edit, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True)
class Finding:
    code: str
    severity: Severity
    file: str
    line: int
    what: str
    why: str
    source: str
    cure: str
    versions: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = field(default=(), compare=False)

    @property
    def is_fixable(self) -> bool:
        return bool(self.edits)
