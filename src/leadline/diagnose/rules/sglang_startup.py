"""What SGLang leaves when it does not start, and no signature knows why.

Whatever ends its scheduler, the server then kills itself: the exit status is SIGKILL, and no
evidence of a lack of memory. This rule therefore stands before those that read the status.
"""

from __future__ import annotations

from leadline.diagnose.rule import Evidence, Quote, Rule, always

_CHILD_FAILED = r"Scheduler hit an exception|Received sigquit from a child process"


def _scheduler_failed(evidence: Evidence) -> Quote:
    if evidence.failure or not evidence.log_lines(_CHILD_FAILED):
        return ()
    return evidence.log_lines(r"^\s*\w*(Error|Exception)\b.*")[-1:] + evidence.log_lines(
        r"Received sigquit"
    )


RULES = (
    Rule(
        code="START023",
        title="SGLang's scheduler failed",
        cause="start_failed",
        explanation="Its exception stands in the log; the server then killed itself, so that its "
        "exit status (SIGKILL) does not mean a lack of memory.",
        check=_scheduler_failed,
        remedy=always("the exception says what it could not do; the log has its whole trace"),
        source="SGLang 0.5.6.post2, log recorded on CPU",
    ),
)
