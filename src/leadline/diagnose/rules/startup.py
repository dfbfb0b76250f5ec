"""Failures before the server is ready."""

from __future__ import annotations

from leadline.diagnose.rule import Evidence, Quote, Rule, always

_LLAMACPP = "llama.cpp server, log recorded from xllamacpp 2026.10.11549"


def _port_in_use(evidence: Evidence) -> Quote:
    if evidence.start_cause == "port_in_use":
        return evidence.log
    return evidence.log_lines(r"couldn't bind HTTP server socket|address already in use")


def _model_missing(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"failed to open GGUF file|no such file or directory.*gguf")


def _not_a_model(evidence: Evidence) -> Quote:
    return evidence.log_lines(
        r"invalid magic|failed to read (magic|header|key-value)|tensor .* not within"
    )


def _kv_allocation(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"failed to allocate buffer for kv cache|failed to allocate .*buffer")


def _killed_at_start(evidence: Evidence) -> Quote:
    killed = evidence.start_cause == "exited" and evidence.exit_status == "killed by SIGKILL"
    return (f"the server was {evidence.exit_status}", *evidence.log[-1:]) if killed else ()


def _bad_option(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"error: (unrecognized arguments|argument |invalid|the following)")


def _missing_module(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"ModuleNotFoundError: No module named")


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
        source=f"bind(2): EADDRINUSE; {_LLAMACPP}",
    ),
    Rule(
        code="START002",
        title="The model file does not exist",
        cause="model_missing",
        explanation="The engine could not open the file that the deployment names.",
        check=_model_missing,
        remedy=always("correct the path under model, or download the file"),
        source=_LLAMACPP,
    ),
    Rule(
        code="START003",
        title="The model file is damaged or of another format",
        cause="model_invalid",
        explanation="The file opens, but its header is not that of a GGUF model.",
        check=_not_a_model,
        remedy=always("download the file again and compare its hash; llama.cpp reads GGUF only"),
        source=_LLAMACPP,
    ),
    Rule(
        code="START004",
        title="The KV cache does not fit into memory",
        cause="oom",
        explanation="The engine reserves the whole KV cache at start, in proportion to ctx_size; "
        "the allocation failed.",
        check=_kv_allocation,
        remedy=always(
            "lower ctx_size (the plan names the longest that fits), or choose a smaller "
            "cache_type_k and cache_type_v"
        ),
        source=_LLAMACPP,
    ),
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
        code="START006",
        title="The engine does not know an option",
        cause="bad_option",
        explanation="The command line was refused before anything was loaded.",
        check=_bad_option,
        remedy=always("correct or remove that entry of `settings`"),
        source="argparse error line",
    ),
    Rule(
        code="START007",
        title="The engine is not installed",
        cause="engine_missing",
        explanation="The Python package of the engine is absent from this environment.",
        check=_missing_module,
        remedy=always("pip install 'leadline[embedded]' for the embedded llama.cpp"),
        source="Python import error",
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
