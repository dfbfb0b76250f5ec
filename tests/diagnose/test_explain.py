"""Each rule on lines that real engines have printed; none on the lines of another failure."""

from __future__ import annotations

from typing import Any

import pytest
from tests.diagnose import cluster_words

from leadline.diagnose.explain import RULES, explain
from leadline.diagnose.rule import Evidence
from leadline.diagnose.rules import runtime
from leadline.diagnose.signature import list_signatures
from leadline.records import Failure, FailureKind


def failed(kind: FailureKind, message: str, **facts: Any) -> Evidence:
    return Evidence(failure=Failure(kind=kind, message=message), **facts)


def exited(*log: str, status: str = "exit code 1") -> Evidence:
    return Evidence(start_cause="exited", exit_status=status, log=log)


LLAMACPP_BIND = "srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 18080"
GGUF_MISSING = (
    "gguf_init_from_file: failed to open GGUF file '/nope.gguf' (No such file or directory)"
)
GGUF_MAGIC = "gguf_init_from_file_impl: invalid magic characters: 'PK', expected 'GGUF'"
KV_TOO_LARGE = (
    "llama_init_from_model: failed to initialize the context: "
    "failed to allocate buffer for kv cache"
)
VLLM_BAD_FLAG = "vllm: error: unrecognized arguments: --no-such-flag 3"
LLAMACPP_BAD_FLAG = "llamacpp_server: error: argument --ctx-size: invalid int value: 'lots'"
UVICORN_BIND = (
    "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): "
    "address already in use"
)
SGLANG_BAD_FLAG = "launch_server.py: error: unrecognized arguments: --max-totl-tokens 5"
SGLANG_NO_MODEL = "OSError: Can't load the configuration of '/models/absent'. If you were trying"
SGLANG_NO_HUB = (
    "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find "
    "them in the cached files."
)
SGLANG_BEYOND_TRAINING = (
    "ValueError: Warning: User-specified context_length (262144) is greater than the derived "
    "context_length (131072). This may lead to incorrect model outputs or CUDA errors."
)
SGLANG_SCHEDULER = "Scheduler hit an exception: Traceback (most recent call last):"
SGLANG_SMALL_POOL = "AssertionError: Memory pool size is too small"
SGLANG_NO_MEMORY = "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."
SGLANG_SIGQUIT = "Received sigquit from a child process. It usually means the child failed."
SGLANG_DEAD = "Rank 0 scheduler is dead. Please check if there are relevant logs."
DOCKER_LIMIT = "Docker: OOMKilled: the container went over its memory limit"
DOCKER_NO_ENGINE = "Docker: no engine answers: [Errno 2] No such file or directory"
DOCKER_NO_IMAGE = (
    "Docker: the image vllm/vllm-openai:v0.0.0 cannot be pulled: manifest for "
    "vllm/vllm-openai:v0.0.0 not found: manifest unknown"
)
DOCKER_NO_GPU = 'Docker: could not select device driver "" with capabilities: [[gpu]]'
DOCKER_NO_DEVICE = (
    'Docker: error gathering device information while adding custom device "/dev/neuron0": '
    "no such file or directory"
)
DOCKER_TAKEN = (
    'Docker: Conflict. The container name "/scout-vllm" is already in use by container "8f0c".'
)
DOCKER_NO_PROGRAM = "[FATAL tini (7)] exec /no/such/program failed: No such file or directory"
DOCKER_LOOP = "Docker: restarted 3 times; it does not stay up"
NO_LIBNUMA = (
    "Failed to import from vllm._C: ImportError('libnuma.so.1: cannot open shared object file: "
    "No such file or directory')"
)
NO_MODULE = "ModuleNotFoundError: No module named 'xllamacpp'"
VLLM_KV_TOO_SMALL = (
    "ValueError: To serve at least one request with the models's max seq len (200000), (4.29 GiB "
    "KV cache is needed, which is larger than the available KV cache memory (1.00 GiB)."
)
VLLM_CORE_FAILED = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)
VLLM_NO_KV = (
    "ValueError: No available memory for the cache blocks. Try increasing "
    "`gpu_memory_utilization` when initializing the engine."
)
VLLM_BEYOND_TRAINING = (
    "  Value error, User-specified max_model_len (16384) is greater than the derived "
    "max_model_len (max_position_embeddings=8192.0 or model_max_length=None in model's "
    "config.json)."
)
VLLM_HEADS = (
    "  Value error, Total number of attention heads (8) must be divisible by tensor parallel "
    "size (3). [type=value_error]"
)
HUB_MISSING = (
    "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot "
    "folder for the specified revision on the local disk."
)
VLLM_CPU_MEMORY = (
    "ValueError: Available memory on node 0 (12.98/23.54 GiB) on kv cache allocation is less than "
    "requested memory for kv (4000.0 GiB). Decrease --kv-cache-memory-bytes, "
    "VLLM_CPU_KVCACHE_SPACE, or reduce CPU memory used by other processes."
)
VLLM_LESS_THAN_ONE = (
    "(EngineCore_DP0 pid=1) INFO 11-22 10:38:15 [kv_cache_utils.py:1291] Maximum concurrency for "
    "4,000,000 tokens per request: 0.52x"
)
VLLM_STATISTICS = (
    "(APIServer pid=1) INFO 11-22 10:44:54 [loggers.py:236] Engine 000: Avg prompt throughput: 0.0 "
    "tokens/s, Avg generation throughput: 0.0 tokens/s, Running: 0 reqs, Waiting: 1 reqs, GPU KV "
    "cache usage: 0.0%, Prefix cache hit rate: 0.0%"
)
NO_TOKEN = "no first token within 60 s"
STUCK = {"running": 0.0, "waiting": 1.0, "kv_usage": 0.0}
PROGRESS = "0.01.257.918 I cmn          init: llama threadpool init, n_threads = 2"

VLLM_TOO_LONG = (
    "HTTP 400: This model's maximum context length is 4095 tokens. However, your request has "
    "4097 input tokens. Please reduce the length of the input messages."
)
SGLANG_TOO_LONG = "The input (9000 tokens) is longer than the model's context length (8192 tokens)."
SGLANG_POOL = (
    "HTTP 400: Input length (8000 tokens) exceeds the maximum allowed length (4090 tokens)."
)
SGLANG_SUM = "HTTP 400: Requested token count exceeds the model's maximum context length"
LLAMACPP_FULL = "Context size has been exceeded."
LLAMACPP_TOO_LONG = (
    "HTTP 400: request (20000 tokens) exceeds the available context size (8192 tokens), "
    "try increasing it"
)
SGLANG_ABORTED = (
    "HTTP 200, but finish_reason abort after 1 output tokens, and 1 prompt tokens counted"
)
VLLM_REJECTED = "HTTP 400: max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"
GONE = "ClientPayloadError: Response payload is not completed"


def refused(line: str) -> Evidence:
    return Evidence(start_cause="refused", log=(line,))


CASES = [
    ("DOCKER001", "oom", exited("loading", DOCKER_LIMIT, status="killed by SIGKILL")),
    (
        "DOCKER001",
        "oom",
        failed("disconnected", "closed", exit_status="killed by SIGKILL", log=(DOCKER_LIMIT,)),
    ),
    ("DOCKER002", "unreachable", refused(DOCKER_NO_ENGINE)),
    ("DOCKER003", "image_missing", refused(DOCKER_NO_IMAGE)),
    ("DOCKER004", "no_gpu", refused(DOCKER_NO_GPU)),
    ("DOCKER005", "no_device", refused(DOCKER_NO_DEVICE)),
    ("DOCKER006", "name_taken", refused(DOCKER_TAKEN)),
    ("DOCKER007", "program_missing", exited(DOCKER_NO_PROGRAM, status="exit code 127")),
    ("DOCKER008", "restart_loop", exited("loading", DOCKER_LOOP)),
    ("DOCKER010", "library_missing", exited(NO_LIBNUMA)),
    (
        "START001",
        "port_in_use",
        Evidence(
            start_cause="port_in_use",
            log=("bind 127.0.0.1:18080: Address already in use", "held by pid 7 (python3.11)"),
        ),
    ),
    ("START001", "port_in_use", exited(PROGRESS, LLAMACPP_BIND)),
    ("START001", "port_in_use", exited(UVICORN_BIND)),
    ("START002", "model_missing", exited(PROGRESS, GGUF_MISSING)),
    ("START003", "model_invalid", exited(GGUF_MAGIC)),
    ("START004", "oom", exited(PROGRESS, KV_TOO_LARGE)),
    ("START005", "oom", exited(PROGRESS, status="killed by SIGKILL")),
    ("START006", "bad_option", exited(VLLM_BAD_FLAG, status="exit code 2")),
    ("START006", "bad_option", exited(LLAMACPP_BAD_FLAG, status="exit code 2")),
    ("START007", "engine_missing", exited(NO_MODULE)),
    ("START006", "bad_option", exited(SGLANG_BAD_FLAG, status="exit code 2")),
    ("START014", "model_missing", exited(SGLANG_NO_MODEL)),
    ("START014", "model_missing", exited(SGLANG_NO_HUB)),
    ("START020", "exceeds_trained_context", exited(SGLANG_BEYOND_TRAINING)),
    (
        "START021",
        "oom",
        exited(SGLANG_SCHEDULER, SGLANG_SMALL_POOL, SGLANG_SIGQUIT, status="killed by SIGKILL"),
    ),
    (
        "START021",
        "oom",
        exited(SGLANG_SCHEDULER, SGLANG_NO_MEMORY, SGLANG_SIGQUIT, status="killed by SIGKILL"),
    ),
    ("START022", "oom", exited(SGLANG_DEAD)),
    (
        "START023",
        "start_failed",
        exited(SGLANG_SCHEDULER, "KeyError: 'x'", SGLANG_SIGQUIT, status="killed by SIGKILL"),
    ),
    ("START008", "start_timeout", Evidence(start_cause="timeout", log=(PROGRESS,))),
    ("START008", "start_timeout", Evidence(start_cause="timeout")),
    ("START010", "oom", exited(VLLM_KV_TOO_SMALL, VLLM_CORE_FAILED)),
    ("START015", "oom", Evidence(start_cause="unusable", log=(VLLM_LESS_THAN_ONE,))),
    ("START016", "oom", exited(VLLM_CPU_MEMORY, VLLM_CORE_FAILED)),
    ("START011", "oom", exited(VLLM_NO_KV, VLLM_CORE_FAILED)),
    ("START012", "exceeds_trained_context", exited(VLLM_BEYOND_TRAINING)),
    ("START013", "invalid_parallelism", exited(VLLM_HEADS)),
    ("START014", "model_missing", exited(HUB_MISSING)),
    ("CON010", "oom", Evidence(exit_status="exit code 137", oom_killed=True, memory_limit="4 GiB")),
    ("CON011", "killed", Evidence(exit_status="exit code 137")),
    ("CON012", "crashed", Evidence(exit_status="killed by SIGBUS")),
    ("RUN001", "crashed", failed("disconnected", GONE, exit_status="killed by SIGKILL")),
    ("RUN001", "crashed", failed("unreachable", "refused", exit_status="exit code 139")),
    ("RUN002", "too_long", failed("refused", VLLM_TOO_LONG)),
    ("RUN002", "too_long", failed("stream_error", SGLANG_TOO_LONG)),
    ("RUN002", "too_long", failed("refused", SGLANG_POOL)),
    (
        "RUN002",
        "too_long",
        failed("aborted", SGLANG_ABORTED, input_tokens=8187, window_tokens=8192, pool_tokens=9000),
    ),
    ("RUN002", "too_long", failed("refused", SGLANG_SUM)),
    (
        "RUN020",
        "too_long",
        failed("refused", SGLANG_POOL, input_tokens=8000, window_tokens=8192, pool_tokens=4096),
    ),
    ("RUN020", "too_long", failed("refused", SGLANG_POOL, input_tokens=8000, window_tokens=8192)),
    (
        "RUN020",
        "too_long",
        failed("aborted", SGLANG_ABORTED, input_tokens=8000, window_tokens=8192, pool_tokens=4096),
    ),
    ("RUN021", "aborted", failed("aborted", SGLANG_ABORTED, input_tokens=80, pool_tokens=4096)),
    ("RUN022", "truncated", Evidence(answered_tokens=94, output_tokens=500)),
    ("RUN002", "too_long", failed("refused", LLAMACPP_TOO_LONG)),
    ("RUN003", "rejected", failed("refused", VLLM_REJECTED)),
    ("RUN003", "rejected", failed("refused", "HTTP 500: CUDA error")),
    ("RUN010", "hang", failed("timeout", NO_TOKEN, waiting=(STUCK, STUCK, STUCK))),
    ("RUN010", "hang", failed("timeout", NO_TOKEN, log=(VLLM_STATISTICS,))),
    ("RUN010", "hang", failed("timeout", NO_TOKEN, input_tokens=6000, pool_tokens=4096)),
    ("RUN004", "hang", failed("timeout", "no first token within 60 s")),
    ("RUN005", "stalled", failed("stalled", "no further chunk within 60 s after 9 chunks")),
    ("RUN006", "stream_error", failed("stream_error", "EngineCore encountered an issue.")),
    ("RUN023", "kv_full", failed("stream_error", LLAMACPP_FULL)),
    ("RUN023", "kv_full", failed("refused", f"HTTP 500: {LLAMACPP_FULL}")),
    ("RUN007", "disconnected", failed("disconnected", GONE)),
    ("RUN008", "unreachable", failed("unreachable", "Cannot connect to host")),
    ("RUN009", "malformed", failed("malformed", "the answer holds no event of a token stream")),
    *cluster_words.CASES,
]


SIZE: dict[str, Any] = {"input_tokens": 200, "output_tokens": 8, "window_setting": "ctx_size"}


@pytest.mark.parametrize(
    ("evidence", "to"),
    [
        (failed("stream_error", LLAMACPP_FULL, at_once=3, **SIZE), "624"),
        (failed("refused", LLAMACPP_TOO_LONG, window_parts=4, **SIZE), "832"),
        (failed("refused", LLAMACPP_TOO_LONG, at_once=3, **SIZE), "208"),
        (failed("refused", LLAMACPP_TOO_LONG, **SIZE | {"window_setting": ""}), None),
        (failed("refused", LLAMACPP_TOO_LONG, window_setting="ctx_size"), None),
    ],
)
def test_how_far_the_window_is_to_be_raised(evidence: Evidence, to: str | None) -> None:
    """For all that share it, or for each of the parts that it has; nothing is guessed."""
    turns = [(turn.setting, turn.way, turn.to) for turn in explain(evidence).turns]
    assert turns == ([("ctx_size", "raise", to)] if to else [])


@pytest.mark.parametrize(("code", "cause", "evidence"), CASES)
def test_each_failure_gets_its_rule(code: str, cause: str, evidence: Evidence) -> None:
    finding = explain(evidence)
    assert (finding.code, finding.cause) == (code, cause)
    assert finding.evidence
    assert finding.remedy
    assert finding.source


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_no_rule_applies_to_the_failure_of_another(rule: Any) -> None:
    # Of the same failure a more general rule may say less: those stand behind in the order.
    more_general = {
        "DOCKER001": {"MEM024", "START005", "RUN001", "RUN007", "RUN008"},
        "DOCKER002": {"DOCKER007"},
        "DOCKER003": {"CON003"},
        "DOCKER004": {"GPU001"},
        "DOCKER005": {"DOCKER007"},
        "K8S001": {"CON006"},
        "K8S002": {"CON006"},
        "K8S004": {"CON006"},
        "K8S014": {"CON004"},
        "K8S003": {"CON006"},
        "K8S006": {"CON003"},
        "K8S007": {"MEM024", "MEM025", "START005"},
        "K8S008": {"START005"},
        "START015": {"SCH002"},
        "START010": {"CON900"},
        "START011": {"CON900"},
        "START016": {"CON900"},
        "START021": {"START023", "CON900"},
        "START023": {"CON900"},
        "RUN006": {"CON900"},
        "RUN001": {"RUN007", "RUN008"},
        "RUN002": {"RUN003", "RUN006", "RUN021"},
        "RUN010": {"RUN004"},
        "RUN023": {"RUN003", "RUN006"},
        "RUN020": {"RUN002", "RUN003", "RUN021"},
    }
    for code, _, evidence in CASES:
        if rule.apply(evidence) is not None:
            assert code == rule.code or rule.code in more_general.get(code, ())


def test_every_rule_is_shown_on_a_real_failure() -> None:
    signatures = {signature.code for signature in list_signatures()}  # see test_signatures.py
    assert {rule.code for rule in RULES} == {code for code, _, _ in CASES} | signatures


def test_codes_are_unique() -> None:
    # START001 is told by our own check before the start, or by the log: one code, one title.
    named = {(rule.code, rule.title) for rule in RULES}
    assert len(named) == len({code for code, _ in named}) == len(RULES) - 1


def test_the_evidence_is_quoted_word_for_word() -> None:
    assert explain(exited(PROGRESS, GGUF_MISSING)).evidence == (GGUF_MISSING,)
    assert explain(failed("refused", VLLM_TOO_LONG)).evidence == (VLLM_TOO_LONG,)


def test_a_server_that_was_ready_and_went_over_its_memory_limit() -> None:
    evidence = failed(
        "disconnected", GONE, exit_status="killed by SIGKILL", log=("one", cluster_words.OOM)
    )
    assert explain(evidence).code == "K8S007"


def test_too_few_devices_are_named() -> None:
    finding = explain(Evidence(start_cause="unplaced", log=(cluster_words.NO_GPU,)))
    assert "free nvidia.com/gpu" in finding.remedy


def test_the_holder_of_the_port_is_quoted() -> None:
    log = ("bind 127.0.0.1:1: Address already in use", "held by pid 7 (python3.11)")
    evidence = Evidence(start_cause="port_in_use", log=log)
    assert explain(evidence).evidence == log


def test_a_crash_quotes_how_the_server_ended_and_its_last_words() -> None:
    evidence = failed(
        "disconnected", GONE, exit_status="killed by SIGKILL", log=("one", "two", "three")
    )
    assert explain(evidence).evidence == (
        "the server ended: killed by SIGKILL",
        GONE,
        "two",
        "three",
    )


def test_a_prompt_that_is_too_long_is_told_by_how_much() -> None:
    evidence = failed(
        "refused", LLAMACPP_TOO_LONG, input_tokens=8190, output_tokens=24, window_tokens=8192
    )
    assert explain(evidence).remedy == (
        "lower workload.input_tokens by 22 to 8,168, or raise the window from 8,192 by as much"
    )


def test_a_window_that_is_shorter_than_it_says_is_told_so() -> None:
    evidence = failed(
        "refused", LLAMACPP_TOO_LONG, input_tokens=100, output_tokens=24, window_tokens=8192
    )
    assert explain(evidence).remedy.startswith("the server's real window is shorter")


def test_without_a_known_window_the_direction_is_still_told() -> None:
    remedy = explain(failed("refused", LLAMACPP_TOO_LONG)).remedy
    assert remedy == "lower workload.input_tokens, or raise the server's context window"


def test_a_request_that_is_never_scheduled_is_told_by_the_engines_own_gauges() -> None:
    evidence = failed(
        "timeout",
        NO_TOKEN,
        input_tokens=6000,
        output_tokens=8,
        pool_tokens=4096,
        waiting=(STUCK, STUCK),
    )
    finding = explain(evidence)
    assert finding.evidence == (
        NO_TOKEN,
        "the request takes 6,008 of KV cache, which holds 4,096 at most",
        "the engine's gauges, 2 looks alike: kv_usage 0, running 0, waiting 1",
    )
    assert "at most 4,096" in finding.remedy


def test_a_request_that_runs_slowly_is_no_livelock() -> None:
    busy = {"running": 1.0, "waiting": 0.0, "kv_usage": 0.4}
    queued = {"running": 1.0, "waiting": 1.0, "kv_usage": 0.4}
    facts = {"input_tokens": 100, "pool_tokens": 4096}
    for looks in ((busy, busy), (STUCK, busy), (queued, queued)):
        assert explain(failed("timeout", NO_TOKEN, waiting=looks, **facts)).code == "RUN004"


def test_metrics_that_were_not_answered_prove_nothing_and_are_told() -> None:
    told = "the engine's metrics: 2 of 2 looks not answered"
    late = explain(failed("timeout", NO_TOKEN, waiting=({}, {})))
    assert (late.code, late.evidence) == ("RUN004", (NO_TOKEN, told))
    facts = {"input_tokens": 6000, "pool_tokens": 4096}
    stuck = explain(failed("timeout", NO_TOKEN, waiting=({}, {}), **facts))
    assert (stuck.code, stuck.evidence[-1]) == ("RUN010", told)
    seen = explain(failed("timeout", NO_TOKEN, waiting=({}, STUCK), **facts))
    assert (
        seen.evidence[-1] == "the engine's gauges, 1 looks alike: kv_usage 0, running 0, waiting 1"
    )


def test_the_plans_own_remedy_is_told_for_a_cache_that_is_too_small() -> None:
    remedy = "lower max_model_len to at most 2,097,024"
    evidence = Evidence(start_cause="unusable", log=(VLLM_LESS_THAN_ONE,), remedy=remedy)
    assert explain(evidence).remedy == remedy


def test_a_hang_names_the_length_and_the_time_limit_to_raise() -> None:
    remedy = explain(failed("timeout", "no first token", input_tokens=2_097_152)).remedy
    assert "2,097,152 tokens" in remedy
    assert "timeouts.first_token_s" in remedy


@pytest.mark.parametrize("old_line", [GGUF_MISSING, KV_TOO_LARGE, VLLM_BAD_FLAG, UVICORN_BIND])
def test_old_lines_of_the_start_do_not_explain_a_later_request(old_line: str) -> None:
    evidence = failed("refused", VLLM_REJECTED, log=(old_line,))
    assert explain(evidence).code == "RUN003"


@pytest.mark.parametrize(
    ("available", "remedy"),
    [("the estimated maximum model length is 46592.", "lower max_model_len to at most 46,592, or")],
)
def test_a_pool_too_small_names_the_window_that_fits(available: str, remedy: str) -> None:
    finding = explain(exited(f"{VLLM_KV_TOO_SMALL} Based on the available memory, {available}"))
    assert finding.remedy.startswith(remedy)
    assert explain(exited(VLLM_KV_TOO_SMALL)).remedy.startswith("lower max_model_len, or raise")


@pytest.mark.parametrize("line", [VLLM_CORE_FAILED])
def test_what_no_rule_knows_stays_unknown(line: str) -> None:
    finding = explain(exited("INFO loading", line, "INFO goodbye"))
    assert (finding.code, finding.cause) == ("UNKNOWN", "start_failed")
    assert finding.evidence == ("the server ended: exit code 1", line)


def test_an_unknown_failure_without_telling_lines_quotes_the_last() -> None:
    finding = explain(exited(*(f"line {n}" for n in range(9))))
    assert finding.evidence[1:] == ("line 4", "line 5", "line 6", "line 7", "line 8")


def test_an_unknown_failure_of_a_request_quotes_its_message() -> None:
    finding = explain(failed("prompt", "no tokenizer"))
    assert (finding.code, finding.cause) == ("UNKNOWN", "unknown")
    assert finding.evidence == ("no tokenizer",)


def test_without_any_evidence_nothing_is_claimed() -> None:
    finding = explain(Evidence())
    assert (finding.code, finding.evidence) == ("UNKNOWN", ())


def test_at_most_three_lines_are_quoted() -> None:
    lines = [f"{KV_TOO_LARGE} of layer {layer}" for layer in range(10)]
    assert explain(exited(*lines)).evidence == tuple(lines[:3])


def test_the_rules_for_requests_need_a_failed_request() -> None:
    for rule in runtime.RULES:
        assert rule.apply(Evidence(log=(VLLM_TOO_LONG, SGLANG_TOO_LONG))) is None
