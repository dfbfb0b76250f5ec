"""From evidence to the one finding that explains it; the unknown stays unknown."""

from __future__ import annotations

import re

from leadline.diagnose.diagnosis import find_cause
from leadline.diagnose.log import read_log
from leadline.diagnose.rule import Evidence, Rule, first_of
from leadline.diagnose.rules import (
    containers,
    kubernetes,
    runtime,
    sglang_startup,
    startup,
    state,
)
from leadline.diagnose.signature import Signature, list_signatures
from leadline.records import Finding

# What the platform says comes before what the engine says, and both before how it ended.
_PLATFORM = (*containers.RULES, *kubernetes.RULES)
_LAST = (*sglang_startup.RULES, *startup.LAST_RULES, *kubernetes.LAST_RULES)
_RUNTIME = (*containers.RUNTIME_RULES, *kubernetes.END_RULES, *runtime.RULES)

# In order: the more telling rule stands before the more general one. The signatures of log lines
# stand between those that know more than the log and those that know only how it ended.
RULES: tuple[Rule | Signature, ...] = (
    *_PLATFORM,
    *startup.RULES,
    *state.RULES,
    *list_signatures(),
    *_LAST,
    *runtime.RULES,
)

_TELLING = re.compile(r"error|fail|exception|fatal|abort|cannot|could not", re.IGNORECASE)


def explain(evidence: Evidence) -> Finding:
    """The first rule that applies, or an honest 'unknown' with the most telling lines."""
    return (_explain_request if evidence.failure else _explain_start)(evidence) or _unknown(
        evidence
    )


def _explain_request(evidence: Evidence) -> Finding | None:
    found = first_of(_RUNTIME, evidence)
    # A server that was ready has left its start behind: its old lines explain nothing now. One that
    # died tells in its last lines why.
    if found and found.code == "RUN001" and (cause := find_cause(read_log(evidence.log))):
        quotes = (*found.evidence[:2], *cause.evidence)
        return cause.model_copy(update={"evidence": quotes, "line_numbers": ()})
    return found


def _explain_start(evidence: Evidence) -> Finding | None:
    return (
        first_of((*_PLATFORM, *startup.RULES, *state.RULES), evidence)
        or _explain_log(evidence)
        or first_of((*_LAST, *runtime.RULES), evidence)
    )


def _explain_log(evidence: Evidence) -> Finding | None:
    """Of the log alone; where that is only what a cluster said, its own rule tells more."""
    cause = find_cause(read_log(evidence.log))
    if cause and cause.code.startswith("CON"):
        return first_of(kubernetes.LAST_RULES, evidence) or cause
    return cause


def _unknown(evidence: Evidence) -> Finding:
    lines = [line for line in evidence.log if _TELLING.search(line)] or list(evidence.log)
    quote = [f"the server ended: {evidence.exit_status}"] if evidence.exit_status else []
    if evidence.failure:
        quote.append(evidence.failure.message)
    return Finding(
        code="UNKNOWN",
        title="A failure that no rule knows",
        cause="start_failed" if evidence.start_cause else "unknown",
        explanation="None of the known causes fits; these lines tell the most.",
        evidence=(*quote, *lines[-5:]),
        remedy="read the log from these lines on, and report them so that a rule can be written",
        source="no rule matched",
    )
