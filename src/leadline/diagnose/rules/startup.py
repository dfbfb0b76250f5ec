"""Failures before the server is ready."""

from __future__ import annotations

import re

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
    if evidence.log_lines(r"Received sigquit from a child process"):
        return ()  # SGLang kills itself so, whatever the reason
    killed = evidence.start_cause == "exited" and evidence.exit_status == "killed by SIGKILL"
    return (f"the server was {evidence.exit_status}", *evidence.log[-1:]) if killed else ()


def _bad_option(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"error: (unrecognized arguments|argument |invalid|the following)")


def _pool_too_small(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"To serve at least one request with the model")[:1]


def _fit_pool(evidence: Evidence) -> str:
    """VLLM names the longest window itself; both directions help here."""
    line = " ".join(_pool_too_small(evidence))
    longest = re.search(r"estimated maximum model length is (\d+)", line)
    lower = f" to at most {int(longest[1]):,}" if longest else ""
    return (
        f"lower max_model_len{lower}, or raise gpu_memory_utilization (on CPU: "
        "VLLM_CPU_KVCACHE_SPACE)"
    )


def _less_than_one(evidence: Evidence) -> Quote:
    return evidence.log if evidence.start_cause == "unusable" else ()


def _more_than_the_machine(evidence: Evidence) -> Quote:
    return evidence.log_lines(
        r"on kv cache allocation is less than requested memory for kv|"
        r"DefaultCPUAllocator: can't allocate memory"
    )[:1]


def _no_pool_at_all(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"No available memory for the cache blocks")[:1]


def _beyond_training(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"is greater than the derived max_model_len")[:1]


def _indivisible(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"attention heads .* must be divisible by tensor parallel size")[:1]


def _no_such_repository(evidence: Evidence) -> Quote:
    return evidence.log_lines(
        r"LocalEntryNotFoundError|RepositoryNotFoundError|GatedRepoError|HFValidationError|"
        r"is not a local folder and is not a valid model identifier|"
        r"OSError: (Can't load the configuration of|We couldn't connect to)"
    )[:1]


def _missing_module(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"ModuleNotFoundError: No module named")


def _install(evidence: Evidence) -> str:
    if any("'sglang'" in line for line in _missing_module(evidence)):
        return (
            "give the Python of SGLang's environment: target: {kind: process, executable: "
            "/path/to/bin/python}"
        )
    return "pip install 'leadline[embedded]' for the embedded llama.cpp"


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
        code="START010",
        title="The KV cache cannot hold one request of the whole window",
        cause="oom",
        explanation="vLLM refuses to start: its KV pool is smaller than max_model_len needs.",
        check=_pool_too_small,
        remedy=_fit_pool,
        source="vLLM 0.12.0 and 0.32.0, start-up check of kv_cache_utils",
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
    Rule(
        code="START016",
        title="The KV cache asked for is larger than the memory of the machine",
        cause="oom",
        explanation="On a CPU vLLM takes the KV cache that it is told to take; there is not so "
        "much memory free.",
        check=_more_than_the_machine,
        remedy=always("lower VLLM_CPU_KVCACHE_SPACE (GiB), or free memory"),
        source="vLLM 0.32.0, v1/worker/cpu_worker.py; torch's CPU allocator",
    ),
    Rule(
        code="START011",
        title="No memory is left for the KV cache",
        cause="oom",
        explanation="Weights and activations already exceed what the engine may take.",
        check=_no_pool_at_all,
        remedy=always(
            "raise gpu_memory_utilization, lower max_num_seqs or "
            "max_num_batched_tokens, or use more devices"
        ),
        source="vLLM, kv_cache_utils",
    ),
    Rule(
        code="START012",
        title="The window is longer than the model was trained for",
        cause="exceeds_trained_context",
        explanation="max_model_len exceeds what config.json allows.",
        check=_beyond_training,
        remedy=always(
            "lower max_model_len to the length that the message names; "
            "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 overrides it and ends in wrong output or a "
            "crash beyond the RoPE table"
        ),
        source="vLLM 0.12.0, ModelConfig; vllm issues 44286, 20904, 17924",
    ),
    Rule(
        code="START013",
        title="The tensor-parallel size does not divide the attention heads",
        cause="invalid_parallelism",
        explanation="Every rank must hold the same number of heads.",
        check=_indivisible,
        remedy=always(
            "set tensor_parallel_size to a divisor of the number of heads that the message names"
        ),
        source="vLLM 0.12.0, VllmConfig",
    ),
    Rule(
        code="START014",
        title="The model is neither a folder nor to be had from the hub",
        cause="model_missing",
        explanation="There is no such folder here, and the hub did not give it: unknown, gated, or "
        "not reachable.",
        check=_no_such_repository,
        remedy=always(
            "correct model; for a gated one export HF_TOKEN; without network give a folder"
        ),
        source="huggingface_hub errors as vLLM 0.12.0 and 0.32.0 print them, transformers' as "
        "SGLang does",
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
        remedy=_install,
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
