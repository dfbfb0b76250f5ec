"""From evidence to the one finding that explains it; the unknown stays unknown."""

from __future__ import annotations

import re

from leadline.diagnose.rule import Evidence
from leadline.diagnose.rules import containers, kubernetes, runtime, sglang_startup, startup
from leadline.records import Finding

# In order: the more telling rule stands before the more general one.
RULES = (
    *containers.RULES,
    *kubernetes.RULES,
    *sglang_startup.RULES,
    *startup.RULES,
    *sglang_startup.LAST_RULES,
    *kubernetes.LAST_RULES,
    *runtime.RULES,
)
RUNTIME_RULES = (*containers.RUNTIME_RULES, *kubernetes.END_RULES, *runtime.RULES)

_TELLING = re.compile(r"error|fail|exception|fatal|abort|cannot|could not", re.IGNORECASE)


def explain(evidence: Evidence) -> Finding:
    """The first rule that applies, or an honest 'unknown' with the most telling lines."""
    # A server that was ready has left its start behind: its old lines explain nothing now.
    for rule in RUNTIME_RULES if evidence.failure else RULES:
        if finding := rule.apply(evidence):
            return finding
    return _unknown(evidence)


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
