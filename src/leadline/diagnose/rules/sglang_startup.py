"""What SGLang prints when it does not start.

Whatever ends its scheduler, the server then kills itself: the exit status is SIGKILL, and no
evidence of a lack of memory. These rules therefore stand before those that read the status.
"""

from __future__ import annotations

import re

from leadline.diagnose.rule import Evidence, Quote, Rule, always

_SOURCE = "SGLang 0.5.6.post2, log recorded on CPU"
_CHILD_FAILED = r"Scheduler hit an exception|Received sigquit from a child process"


def _beyond_training(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"context_length \(\d+\) is greater than the derived context_length")


def _lower_window(evidence: Evidence) -> str:
    derived = re.search(r"derived context_length \((\d+)\)", " ".join(_beyond_training(evidence)))
    longest = f" to at most {int(derived[1]):,}" if derived else ""
    return (
        f"lower context_length{longest}; SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 overrides it "
        "and ends in wrong output beyond what the model was trained for"
    )


def _pool_too_small(evidence: Evidence) -> Quote:
    return evidence.log_lines(
        r"Memory pool size is too small|Not enough memory\. Please try to increase"
    )[:1]


def _scheduler_killed(evidence: Evidence) -> Quote:
    killed = r"scheduler is dead|scheduler .*died|Exit code: -9"
    return () if evidence.failure else evidence.log_lines(killed)


def _scheduler_failed(evidence: Evidence) -> Quote:
    if evidence.failure or not evidence.log_lines(_CHILD_FAILED):
        return ()
    return evidence.log_lines(r"^\s*\w*(Error|Exception)\b.*")[-1:] + evidence.log_lines(
        r"Received sigquit"
    )


RULES = (
    Rule(
        code="START020",
        title="The window is longer than the model was trained for",
        cause="exceeds_trained_context",
        explanation="context_length exceeds what config.json allows.",
        check=_beyond_training,
        remedy=_lower_window,
        source=_SOURCE,
    ),
    Rule(
        code="START021",
        title="No memory is left for SGLang's KV cache",
        cause="oom",
        explanation="Weights and KV cache share mem_fraction_static of the free memory; what the "
        "weights leave of it, or max_total_tokens, is too little for a single request.",
        check=_pool_too_small,
        remedy=always(
            "raise mem_fraction_static, raise or leave out max_total_tokens, or use more devices"
        ),
        source=_SOURCE,
    ),
    Rule(
        code="START022",
        title="SGLang's scheduler was killed",
        cause="oom",
        explanation="The scheduler process is gone without an exception of its own: SIGKILL comes "
        "from the kernel's out-of-memory killer, or from a person.",
        check=_scheduler_killed,
        remedy=always(
            "look for 'Out of memory' in the kernel log (dmesg); if it is there, lower "
            "mem_fraction_static or free memory"
        ),
        source=_SOURCE,
    ),
)

# Behind the rules that know the exception.
LAST_RULES = (
    Rule(
        code="START023",
        title="SGLang's scheduler failed",
        cause="start_failed",
        explanation="Its exception stands in the log; the server then killed itself, so that its "
        "exit status (SIGKILL) does not mean a lack of memory.",
        check=_scheduler_failed,
        remedy=always("the exception says what it could not do; the log has its whole trace"),
        source=_SOURCE,
    ),
)
