"""Failures before the server is ready that more than its log tells.

What a log line tells alone is a signature: ``catalog/failures``.
"""

from __future__ import annotations

from leadline.diagnose.rule import Evidence, Quote, Rule, always


def _port_in_use(evidence: Evidence) -> Quote:
    return evidence.log if evidence.start_cause == "port_in_use" else ()


def _less_than_one(evidence: Evidence) -> Quote:
    return evidence.log if evidence.start_cause == "unusable" else ()


def _killed_at_start(evidence: Evidence) -> Quote:
    if evidence.log_lines(r"Received sigquit from a child process"):
        return ()  # SGLang kills itself so, whatever the reason
    status = evidence.exit_status or ""
    killed = evidence.start_cause == "exited" and status.endswith("killed by SIGKILL")
    return (f"the server ended: {status}", *evidence.log[-1:]) if killed else ()


def _too_slow(evidence: Evidence) -> Quote:
    if evidence.start_cause != "timeout":
        return ()
    return evidence.log[-2:] or ("the server printed nothing",)


RULES = (
    Rule(
        code="START001",
        title="The port is already in use",
        cause="port_in_use",
        explanation="Another process listens on the port that the server was to use.",
        check=_port_in_use,
        remedy=always(
            "stop that process, choose another target.port, or leave the port out: "
            "then a free one is taken"
        ),
        source="bind(2): EADDRINUSE",
    ),
    Rule(
        code="START015",
        title="The engine is up, but its KV cache cannot hold one request of the whole window",
        cause="oom",
        explanation="A maximum concurrency below 1.00x: a request that the engine admits and that "
        "is longer than its KV cache waits for ever. No request was sent.",
        check=_less_than_one,
        remedy=lambda evidence: (
            evidence.remedy or "lower max_model_len, or give the KV cache more memory"
        ),
        source="the engine's log; vLLM issue 39734, reproduced on 0.12.0",
    ),
)

# Behind what the log itself tells.
LAST_RULES = (
    Rule(
        code="START005",
        title="The server was killed while starting",
        cause="oom",
        explanation="SIGKILL comes from the kernel's out-of-memory killer, or from a person.",
        check=_killed_at_start,
        remedy=always(
            "look for 'Out of memory' in the kernel log (dmesg); if it is there, lower "
            "ctx_size or free memory"
        ),
        source="Linux OOM killer sends SIGKILL",
    ),
    Rule(
        code="START008",
        title="The server was not ready in time",
        cause="start_timeout",
        explanation="It was still running, but did not become healthy within timeouts.start_s.",
        check=_too_slow,
        remedy=always(
            "if the last log line shows progress, raise timeouts.start_s; if not, the "
            "line names what it waits for"
        ),
        source="readiness contract: /health answers 200",
    ),
)
