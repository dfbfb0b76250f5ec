"""A rule is a code, a severity, a source and a check; its docstring says why."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from leadline.lint.command import Command
from leadline.lint.finding import Finding, Hit, Severity
from leadline.lint.reading import Reading

Check = Callable[[Command, str], Iterable[Hit]]
"""Of one command and one version of its engine."""


FileCheck = Callable[[Reading], Iterable[Hit]]
"""Of a whole file, beside its commands."""


@dataclass(frozen=True)
class _Described:
    code: str
    severity: Severity
    source: str
    check: Callable[..., Iterable[Hit]]

    @property
    def title(self) -> str:
        return self._text[0].rstrip(".")

    @property
    def why(self) -> str:
        return " ".join(" ".join(self._text[1:]).split())

    @property
    def _text(self) -> list[str]:
        return (inspect.getdoc(self.check) or "").splitlines()

    def found(self, hit: Hit, file: str, versions: tuple[str, ...]) -> Finding:
        return Finding(
            code=self.code,
            severity=hit.severity or self.severity,
            file=file,
            line=hit.place.line,
            what=hit.what,
            why=hit.why or self.why,
            source=hit.source or self.source,
            cure=hit.cure,
            versions=versions,
            edits=hit.edits,
        )


@dataclass(frozen=True)
class Rule(_Described):
    def apply(self, command: Command, version: str) -> Iterator[Finding]:
        for hit in self.check(command, version):
            yield self.found(hit, command.file, (f"{command.engine}=={version}",))


@dataclass(frozen=True)
class FileRule(_Described):
    def apply(self, reading: Reading, file: str) -> Iterator[Finding]:
        for hit in self.check(reading):
            yield self.found(hit, file, ())


def rule(code: str, severity: Severity, source: str) -> Callable[[Check], Rule]:
    """Makes a rule of a check; the first line of its docstring is the rule's title."""
    return lambda check: Rule(code, severity, source, check)


def file_rule(code: str, severity: Severity, source: str) -> Callable[[FileCheck], FileRule]:
    return lambda check: FileRule(code, severity, source, check)
