"""A rule is a code, a title, a cause, a check that quotes its evidence, and a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from leadline.records import Failure, Finding, Turn

_LINE_CHARS = 400

Quote = tuple[str, ...]
"""Lines of evidence, word for word; empty when the rule does not apply."""


@dataclass(frozen=True)
class Evidence:
    """All that a rule may look at, whether read live or from a run directory."""

    start_cause: str | None = None
    """Why the server is not up: ``exited``, ``timeout``, ``port_in_use``; ``unusable``: it is up,
    and says that it cannot hold one request."""
    exit_status: str | None = None
    log: tuple[str, ...] = ()
    failure: Failure | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    window_tokens: int | None = None
    pool_tokens: int | None = None
    """The longest request that the KV cache can hold, as the engine says or by the plan."""
    answered_tokens: int | None = None
    """Of an answer without a failure that says it has its full length."""
    waiting: tuple[Mapping[str, float], ...] = ()
    """The engine's gauges, one set for each look, while the request waited for its first token.

    Empty where it did not answer.
    """
    window_setting: str = ""
    """The engine's own name for its window, of a server that we can start with another."""
    window_parts: int = 1
    """So many slots have an equal part of what that setting gives."""
    at_once: int = 1
    """Requests that were under way together."""
    remedy: str = ""
    """What the plan says of a cache that is too small."""
    oom_killed: bool = False
    """The container's own state says so."""
    memory_limit: str = ""

    def log_lines(self, pattern: str) -> Quote:
        """The log lines that match, at most three; an endless one is cut, and shows it."""
        found = [line for line in self.log if re.search(pattern, line, re.IGNORECASE)]
        return tuple(
            line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}…" for line in found[:3]
        )


@dataclass(frozen=True)
class Rule:
    code: str
    title: str
    cause: str
    explanation: str
    check: Callable[[Evidence], Quote]
    remedy: Callable[[Evidence], str]
    source: str
    turns: Callable[[Evidence], tuple[Turn, ...]] = lambda _: ()
    """The remedy for machines, where the evidence says how far."""

    def apply(self, evidence: Evidence) -> Finding | None:
        quote = self.check(evidence)
        if not quote:
            return None
        return Finding(
            code=self.code,
            title=self.title,
            cause=self.cause,
            explanation=self.explanation,
            evidence=quote,
            remedy=self.remedy(evidence),
            turns=self.turns(evidence),
            source=self.source,
        )


def first_of(rules: Iterable[Rule], evidence: Evidence) -> Finding | None:
    return next((found for rule in rules if (found := rule.apply(evidence))), None)


def always(text: str) -> Callable[[Evidence], str]:
    """A remedy that does not depend on the evidence."""
    return lambda _: text
