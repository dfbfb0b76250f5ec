"""A whole log explained: what failed first, what followed from it, what is worth knowing.

The first cause wins, not the last line: lines of processes that end because another one did are
consequences, whatever they say. What no signature knows is shown as unknown, with the exception
that came first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from leadline.diagnose.facts import LogFacts
from leadline.diagnose.log import Log, LoggedException, LogLine, shorten
from leadline.diagnose.rule import Evidence, first_of
from leadline.diagnose.rules.kubernetes import RULES as CLUSTER_RULES
from leadline.diagnose.rules.state import RULES as STATE_RULES
from leadline.diagnose.signature import Signature, Weight, list_signatures
from leadline.records import Finding

DIAGNOSIS_SCHEMA = "leadline.diagnosis/1"

_ORDER: tuple[Weight, ...] = ("cause", "general", "request", "consequence", "note")
_STOPPED = "CON005"
_NAMED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): ")
_FATAL = re.compile(r"\b(?:fatal|panic|abort(?:ed|ing)|terminate called)\b", re.IGNORECASE)
_MOST_UNKNOWN = 5
# By itself, or told to: SIGINT, SIGTERM.
_GOOD_ENDS = (None, "exit code 0", "exit code 130", "exit code 143")
_FRAMES = 2


class Diagnosis(BaseModel):
    """Of one log."""

    model_config = ConfigDict(frozen=True)

    source: str = ""
    engine: str = ""
    version: str = ""
    ready: bool = False
    """Whether the server ever said that it was ready."""
    lines: int = 0
    primary: Finding | None = None
    """What failed first; ``None`` where nothing wrong was found."""
    consequences: tuple[Finding, ...] = ()
    """What is explained by it, or came after it."""
    notes: tuple[Finding, ...] = ()

    @property
    def is_clean(self) -> bool:
        return self.primary is None

    @property
    def is_unknown(self) -> bool:
        return self.primary is not None and self.primary.code == "UNKNOWN"


@dataclass(frozen=True)
class _Hit:
    signature: Signature
    lines: tuple[LogLine, ...]

    @property
    def rank(self) -> tuple[int, int]:
        return _ORDER.index(self.signature.weight), self.lines[0].number


def diagnose(log: Log, facts: LogFacts, source: str = "") -> Diagnosis:
    hits = _find_hits(log)
    primary, rest = _choose(hits, log, facts)
    return Diagnosis(
        source=source,
        engine=facts.engine,
        version=facts.version,
        ready=log.ready_line is not None,
        lines=len(log.lines),
        primary=primary,
        consequences=tuple(_tell(hit, log, facts) for hit in rest),
        notes=(*_notes(hits, log, facts), *_silence(primary, hits, log)),
    )


def heed_state(diagnosis: Diagnosis, evidence: Evidence) -> Diagnosis:
    """With what a container's state knows beside its log: the log's own cause comes first."""
    state = first_of((*STATE_RULES, *CLUSTER_RULES), evidence)
    if state is None and diagnosis.primary is None:
        state = _unexplained_end(evidence)
    if state is None:
        return diagnosis
    if diagnosis.primary and not diagnosis.is_unknown:
        return diagnosis.model_copy(update={"consequences": (*diagnosis.consequences, state)})
    behind = (diagnosis.primary,) if diagnosis.primary else ()
    update = {"primary": state, "consequences": (*behind, *diagnosis.consequences)}
    return diagnosis.model_copy(update=update)


def _unexplained_end(evidence: Evidence) -> Finding | None:
    """What ended with an error is no clean run, whatever its log leaves out."""
    if evidence.exit_status in _GOOD_ENDS:
        return None
    return Finding(
        code="UNKNOWN",
        title="It ended with an error that its log does not tell",
        cause="unknown",
        explanation="None of the known causes fits what is left of the log.",
        evidence=(f"state: {evidence.exit_status}",),
        remedy="read its last lines; the log of an earlier start may tell more",
        source="no rule matched",
    )


def find_cause(log: Log) -> Finding | None:
    """The first cause that a signature knows, for those who have other evidence beside the log."""
    facts = LogFacts(log)
    hits = [hit for hit in _find_hits(log) if hit.signature.weight in ("cause", "general")]
    return _tell(hits[0], log, facts) if hits else None


def _find_hits(log: Log) -> list[_Hit]:
    """By weight, then by line; of one line only the first signature of a weight speaks."""
    taken: dict[int, Weight] = {}
    hits = []
    for signature in list_signatures():
        lines = tuple(line for line in signature.matches(log) if _may_speak(line, signature, taken))
        if lines:
            taken |= {line.number: signature.weight for line in lines}
            hits.append(_Hit(signature, lines))
    return sorted(hits, key=lambda hit: hit.rank)


def _may_speak(line: LogLine, signature: Signature, taken: dict[int, Weight]) -> bool:
    if line.number not in taken:
        return True
    # A line that tells a cause tells no less for being a consequence elsewhere.
    return _ORDER.index(signature.weight) < _ORDER.index(taken[line.number])


def _choose(hits: list[_Hit], log: Log, facts: LogFacts) -> tuple[Finding | None, list[_Hit]]:
    failures = [hit for hit in hits if hit.signature.weight != "note"]
    if failures and failures[0].signature.weight in ("cause", "general"):
        return _tell(failures[0], log, facts), failures[1:]
    fatal = _telling(log, tuple(failures))
    if fatal:
        return _tell_unknown(fatal, log), failures
    if failures and failures[0].signature.weight == "request":
        return _tell(failures[0], log, facts), failures[1:]
    # Parts that miss each other while a server is told to end, or is not up yet, are no failure.
    loud = tuple(line for hit in failures for line in hit.lines if not line.is_quiet)
    if loud and not _was_stopped(hits):
        return _tell_unknown(loud[:_MOST_UNKNOWN], log), failures
    return None, []


def _was_stopped(hits: list[_Hit]) -> bool:
    return any(hit.signature.code == _STOPPED for hit in hits)


def _tell(hit: _Hit, log: Log, facts: LogFacts) -> Finding:
    return hit.signature.find(hit.lines, log, facts)


def _telling(log: Log, hits: tuple[_Hit, ...]) -> tuple[LogLine, ...]:
    """Uncaught exceptions in their order, else lines of level ERROR, that no signature explains."""
    known = {line.number for hit in hits for line in hit.lines}
    known |= set(_excused(log, hits)) | {item.number for item in log.exceptions if item.quiet}
    loud = [item for item in log.exceptions if not item.quiet and item.number not in known]
    if loud:
        return tuple(_distinct(log.lines[item.number - 1] for item in loud))[:_MOST_UNKNOWN]
    errors = (line for line in log.lines if _is_error(line) and line.number not in known)
    return tuple(_distinct(errors))[:_MOST_UNKNOWN]


def _excused(log: Log, hits: tuple[_Hit, ...]) -> Iterator[int]:
    """The trace of a request that failed alone is part of what is known of it."""
    for hit in hits:
        if hit.signature.weight == "request":
            for line in hit.lines:
                behind = (item.number for item in log.exceptions if item.number > line.number)
                yield from list(behind)[:1]


def _is_error(line: LogLine) -> bool:
    if line.level in ("ERROR", "CRITICAL"):
        return bool(line.text.strip()) and not line.text.startswith((" ", "Traceback"))
    if line.level:
        return False
    return bool(_NAMED.match(line.text) or (_FATAL.search(line.text) and "=" not in line.text[:40]))


def _distinct(lines: Iterator[LogLine]) -> Iterator[LogLine]:
    seen = set()
    for line in lines:
        if line.text not in seen:
            seen.add(line.text)
            yield line


def _tell_unknown(lines: tuple[LogLine, ...], log: Log) -> Finding:
    first = log.exception_at(lines[0].number)
    frames = _innermost(first) if first else ()
    return Finding(
        code="UNKNOWN",
        title="A failure that no rule knows",
        cause="unknown",
        explanation="None of the known causes fits; these lines tell the most, the first first.",
        evidence=(shorten(lines[0].raw), *frames, *(shorten(line.raw) for line in lines[1:])),
        line_numbers=tuple(line.number for line in lines),
        remedy="read the log from these lines on, and report them so that a rule can be written",
        source="no rule matched",
    )


def _innermost(exception: LoggedException) -> tuple[str, ...]:
    return tuple(f"  raised in {frame}" for frame in exception.frames[-_FRAMES:])


def _notes(hits: list[_Hit], log: Log, facts: LogFacts) -> Iterator[Finding]:
    yield from (_tell(hit, log, facts) for hit in hits if hit.signature.weight == "note")


def _silence(primary: Finding | None, hits: list[_Hit], log: Log) -> Iterator[Finding]:
    """A start that ends without a word: still at work, or killed from outside."""
    if primary or _was_stopped(hits) or not log.is_starting:
        return
    last = next(line for line in reversed(log.lines) if line.text.strip())
    yield Finding(
        code="LOG001",
        title="The log ends before the server was ready",
        cause="silence",
        explanation="No line tells of a failure. The server is still starting, or it was killed "
        "from outside, which leaves no word: out of memory, a probe, a person.",
        evidence=(shorten(last.raw),),
        line_numbers=(last.number,),
        remedy="see whether the process lives; if not, look at its exit status (137 is SIGKILL), "
        "dmesg for 'Out of memory', and in Kubernetes the pod's last state",
        source="no line matched",
    )
