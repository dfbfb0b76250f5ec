"""From evidence to the one finding that explains it; the unknown stays unknown."""

from __future__ import annotations

import re

from leadline.diagnose.diagnosis import find_cause
from leadline.diagnose.log import read_log
from leadline.diagnose.rule import Evidence, Rule, first_of
from leadline.diagnose.rules import runtime, sglang_startup, startup, state
from leadline.diagnose.signature import Signature, list_signatures
from leadline.records import Finding

# In order: the more telling rule stands before the more general one. The signatures of log lines
# stand between those that know more than the log and those that know only how it ended.
RULES: tuple[Rule | Signature, ...] = (
    *startup.RULES,
    *state.RULES,
    *list_signatures(),
    *sglang_startup.RULES,
    *startup.LAST_RULES,
    *runtime.RULES,
)

_TELLING = re.compile(r"error|fail|exception|fatal|abort|cannot|could not", re.IGNORECASE)


def explain(evidence: Evidence) -> Finding:
    """The first rule that applies, or an honest 'unknown' with the most telling lines."""
    return (_explain_request if evidence.failure else _explain_start)(evidence) or _unknown(
        evidence
    )


def _explain_request(evidence: Evidence) -> Finding | None:
    found = first_of(runtime.RULES, evidence)
    # A server that was ready has left its start behind: its old lines explain nothing now. One that
    # died tells in its last lines why.
    if found and found.code == "RUN001" and (cause := find_cause(read_log(evidence.log))):
        quotes = (*found.evidence[:2], *cause.evidence)
        return cause.model_copy(update={"evidence": quotes, "line_numbers": ()})
    return found


def _explain_start(evidence: Evidence) -> Finding | None:
    return (
        first_of((*startup.RULES, *state.RULES), evidence)
        or find_cause(read_log(evidence.log))
        or first_of((*sglang_startup.RULES, *startup.LAST_RULES, *runtime.RULES), evidence)
    )


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
