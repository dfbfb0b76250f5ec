"""Logs of real engines: the first cause is told, with its line; healthy ones are left in peace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leadline.diagnose.diagnosis import Diagnosis, diagnose, heed_state
from leadline.diagnose.facts import LogFacts
from leadline.diagnose.log import read_log, split_lines
from leadline.diagnose.rule import Evidence
from leadline.diagnose.signature import list_signatures
from leadline.plan.deployment import plan_deployment

DATA = Path(__file__).parents[1] / "data"
FAILURES = DATA / "failures"

# File to (code, words of its first quoted line, words of the cure).
EXPECTED = {
    "llamacpp-xl": ("TIME006", "cancel task", "time limit"),
    "sglang-0.5.6-1": ("REQ002", "500 Internal Server Error", "exception that ends the trace"),
    "sglang-0.5.6-3": ("REQ001", "Input length (8000 tokens)", "4,090 tokens are allowed"),
    "vllm-0.12-bad-flag": ("START006", "--no-such-flag", "correct or remove"),
    "vllm-0.12-bad-json": ("START036", "2 validation errors", "quote JSON once"),
    "vllm-0.12-kv-too-small": ("START010", "max seq len (200000)", "to at most 46,592"),
    "vllm-0.12-llama4-moe-cpu-assert": ("START042", "assert not apply_router", "on GPUs"),
    "vllm-0.12-maxlen-gt-derived": ("START012", "(16384)", "from 16,384 to at most 8,192"),
    "vllm-0.12-maxlen-too-large": ("START037", "num_gpu_blocks_override=0", "16,384 blocks"),
    "vllm-0.12-missing-hub-model": ("START014", "LocalEntryNotFoundError", "correct model"),
    "vllm-0.12-missing-model": ("START014", "LocalEntryNotFoundError", "correct model"),
    "vllm-0.12-tp-not-divisible": ("START013", "attention heads (8)", "1, 2, 4, 8"),
    "vllm-0.19-device-busy-codellama": ("MEM003", "60.87/79.19", "utilization to 0.75"),
    "vllm-0.19-device-busy-scout": ("MEM003", "60.33/79.19", "utilization to 0.75"),
    "vllm-0.19-dp2-on-one-gpu": ("GPU020", "local rank 1", "data_parallel_size 2 wants 2"),
    "vllm-0.19-gated": ("HUB001", "403 Client Error", "accept the terms"),
    "vllm-0.19-sampler-oom": ("MEM010", "warming up sampler", "from 0.95 to at most 0.93"),
    "vllm-0.32-enginecore-sigkill-serving": ("RUN030", "exited unexpectedly", "dmesg"),
    "vllm-0.32-kv-too-small-override": ("START010", "(16384)", "to at most 4,096"),
    "vllm-0.32-l4-nohybrid-kv": ("START010", "(4000000)", "to at most 2,097,024"),
    "vllm-0.32-tp2-numa": ("START041", "NUMA nodes", "2 workers, 1 NUMA"),
    "vllm-0.32-worker-sigkill-serving": ("RUN030", "VllmWorker-1 died", "dmesg"),
}
HEALTHY = {
    "llamacpp-server-native",
    "sglang-0.5.6-2",
    "vllm-0.12-healthy",
    "vllm-0.19-healthy",
    "vllm-0.32-stopped",
}


def explained(text: str, **facts: Any) -> Diagnosis:
    log = read_log(split_lines(text))
    return diagnose(log, LogFacts(log, **facts), "log")


def read(name: str) -> str:
    return (FAILURES / f"{name}.log").read_text(encoding="utf-8")


def test_every_log_here_is_expected() -> None:
    assert {path.stem for path in FAILURES.glob("*.log")} == {*EXPECTED, *HEALTHY}
    for path in FAILURES.glob("*.log"):
        assert len(split_lines(path.read_text(encoding="utf-8"))) <= 60


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_first_cause_of_a_real_log_is_told(name: str) -> None:
    code, line, cure = EXPECTED[name]
    found = explained(read(name)).primary
    assert found is not None
    assert found.code == code
    assert line in found.evidence[0]
    assert cure in found.remedy
    quoted = split_lines(read(name))[found.line_numbers[0] - 1]
    assert line in quoted


@pytest.mark.parametrize("name", sorted(HEALTHY))
def test_a_healthy_log_is_left_in_peace(name: str) -> None:
    assert explained(read(name)).is_clean


@pytest.mark.parametrize("path", sorted((DATA / "engine-logs").glob("*.log")), ids=str)
def test_recorded_starts_are_healthy(path: Path) -> None:
    assert explained(path.read_text(encoding="utf-8")).is_clean


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_log_cut_at_any_line_makes_nothing_crash_and_no_other_cause(name: str) -> None:
    lines = split_lines(read(name))
    general = {item.code for item in list_signatures() if item.weight == "general"}
    final = {EXPECTED[name][0], "UNKNOWN", *general}
    for end in range(len(lines)):
        found = explained("\n".join(lines[:end])).primary
        if found is not None and name != "vllm-0.19-sampler-oom":
            assert found.code in final


def test_before_the_sampler_says_its_own_words_the_shortage_itself_is_told() -> None:
    lines = split_lines(read("vllm-0.19-sampler-oom"))
    codes = {
        found.code
        for end in range(len(lines) + 1)
        if (found := explained("\n".join(lines[:end])).primary)
    }
    assert codes <= {"MEM010", "MEM014", "MEM017", "UNKNOWN"}


# --- the first cause, not the last line ------------------------------------------------------

WORKER = "(Worker_TP1 pid=7) ERROR 04-22 15:14:02 [multiproc_executor.py:857] "
CORE = "(EngineCore pid=5) ERROR 04-22 15:14:10 [core.py:1108] "
SERVER = "(APIServer pid=1) "
END = f"{SERVER}RuntimeError: Engine core initialization failed. See root cause above."


def trace(prefix: str, exception: str, *functions: str) -> list[str]:
    frames = [f'{prefix}  File "x.py", line {n}, in {name}' for n, name in enumerate(functions, 1)]
    return [f"{prefix}Traceback (most recent call last):", *frames, f"{prefix}{exception}"]


def test_traces_of_several_processes_do_not_mix() -> None:
    first = trace(WORKER, "KeyError: 'model.layers.0.mlp'", "worker_main", "load_weights")
    second = trace(CORE, "Exception: WorkerProc initialization failed", "run_engine_core")
    mixed = [line for pair in zip(first, second, strict=False) for line in pair]
    found = explained("\n".join([*mixed, *first[3:], END]))
    assert found.is_unknown
    assert found.primary is not None
    assert "KeyError: 'model.layers.0.mlp'" in found.primary.evidence[0]
    assert "raised in x.py:2 load_weights" in " ".join(found.primary.evidence)
    assert [item.code for item in found.consequences] == ["CON900"]


def test_an_unknown_failure_is_not_guessed_from_what_followed() -> None:
    lines = [*trace(CORE, "ZeroDivisionError: integer modulo by zero", "step"), END]
    found = explained("\n".join(lines))
    assert found.is_unknown
    assert found.primary is not None
    assert found.primary.line_numbers[0] == 3


OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 80.00 GiB of which 400.00 MiB is free."
)


@pytest.mark.parametrize(
    ("function", "code", "way"),
    [
        ("load_model", "MEM011", "raise tensor_parallel_size"),
        ("profile_run", "MEM014", "lower max_num_batched_tokens"),
        ("initialize_kv_cache", "MEM015", "lower gpu_memory_utilization"),
        ("capture_model", "MEM012", "lower gpu_memory_utilization"),
        ("execute_model", "MEM016", "lower gpu_memory_utilization"),
        ("something_else", "MEM017", "lower"),
    ],
)
def test_the_phase_of_a_shortage_decides_its_cure(function: str, code: str, way: str) -> None:
    given = "INFO 04-22 19:52:54 [utils.py:233] non-default args: {'gpu_memory_utilization': 0.95}"
    lines = [f"vLLM API server version 0.19.0\n{given}", *trace(CORE, OOM, "main", function)]
    found = explained("\n".join(lines)).primary
    assert found is not None
    assert (found.code, way in found.remedy) == (code, True)


def test_the_share_is_lowered_by_what_was_missing() -> None:
    """2 GiB wanted, 0.39 free of 80: 1.61 GiB are 2 % of the device; 1 % more is left free."""
    given = "INFO 04-22 19:52:54 [utils.py:233] non-default args: {'gpu_memory_utilization': 0.95}"
    lines = ["vLLM API server version 0.19.0", given, *trace(CORE, OOM, "execute_model")]
    found = explained("\n".join(lines)).primary
    assert found is not None
    assert {turn.setting: turn.to for turn in found.turns}["gpu_memory_utilization"] == "0.91"
    assert "from 0.95 to at most 0.91" in found.remedy


def test_sglangs_request_table_is_told_from_the_kv_cache() -> None:
    """The 80 GiB of sglang#5755: 2,048 rows of a window of 10M tokens."""
    arguments = (
        "[2025-04-25 10:00:00] server_args=ServerArgs(model_path='x', context_length=10485760)"
    )
    oom = OOM.replace("2.00 GiB", "80.04 GiB")
    found = explained(
        "\n".join([arguments, *trace("[2025-04-25 10:00:00 TP0] ", oom, "ReqToTokenPool")])
    ).primary
    assert found is not None
    assert found.code == "MEM013"
    assert "the table has 2,049 rows of 10,485,760 tokens: set max_running_requests to 25" in (
        found.remedy
    )


def test_a_plan_computes_what_the_log_does_not_tell() -> None:
    plan = plan_deployment(
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "8xH200",
        "vllm==0.12.0",
        settings={"tensor_parallel_size": 8, "max_model_len": "8M"},
    )
    line = "ValueError: To serve at least one request with the models's max seq len (8388608), (192"
    found = explained(line, plan=plan).primary
    assert found is not None
    assert f"{plan.limits.max_startable_len:,}" in found.remedy


def test_a_queue_that_never_moves_is_a_failure_and_one_look_is_none() -> None:
    example = next(item.example for item in list_signatures() if item.code == "SCH001")
    assert explained(example).is_clean
    found = explained("\n".join([example] * 3)).primary
    assert found is not None
    assert found.cause == "hang"


def test_the_line_of_source_tells_the_table_too() -> None:
    """As quoted in sglang#6744: only the first line of the trace is stamped."""
    text = (
        "[2025-05-29 14:59:00 TP5] Scheduler hit an exception: Traceback (most recent call last):\n"
        '  File "model_runner.py", line 300, in initialize\n    self.init_memory_pool(\n'
        '  File "memory_pool.py", line 70, in __init__\n    self.req_to_token = torch.zeros(\n'
        f"{OOM}\n"
        "[2025-05-29 14:59:00] Received sigquit from a child process. It usually means the child "
        "failed."
    )
    found = explained(text)
    assert found.primary is not None
    assert found.primary.code == "MEM013"
    assert [item.code for item in found.consequences] == ["CON900"]


@pytest.mark.parametrize(
    "line",
    [
        "AttributeError: 'LlamaConfig' object has no attribute 'foo'",
        "ValueError: rope_scaling should have a 'rope_type' key",
        "2025-Nov-01 10:27:42.285788  2998:2998  ERROR  NMGR:something  went wrong",
        "2026-01-01 10:00:00,123 - server - ERROR - it broke",
        "terminate called after throwing an instance of 'std::bad_function_call'",
    ],
)
def test_a_failure_that_no_rule_knows_is_shown_not_passed_over(line: str) -> None:
    found = explained(f"INFO all well\n{line}\nINFO goodbye")
    assert found.is_unknown
    assert found.primary is not None
    assert found.primary.line_numbers == (2,)


def test_what_a_quiet_level_reports_is_dealt_with() -> None:
    quiet = "(APIServer pid=1) DEBUG 04-22 15:13:26 [renderers/hf.py:122] "
    assert explained("\n".join(trace(quiet, "ValueError: no chat template", "render"))).is_clean


def test_an_ignored_exception_is_no_failure() -> None:
    lines = ["Exception ignored in: <function X.__del__>", *trace("", "OSError: closed", "close")]
    assert explained("\n".join(lines)).is_clean


def test_a_start_that_ends_without_a_word_is_noted_not_accused() -> None:
    found = explained("INFO 04-22 15:13:26 [gpu.py:1] Starting to load model a/b...\nLoading 40%")
    assert found.is_clean
    assert [item.code for item in found.notes] == ["LOG001"]


def test_a_progress_bar_ends_no_line() -> None:
    """Numbers must be those of grep and sed: a carriage return is none of a new line."""
    text = f"Loading:  10%\rLoading: 100%\n{OOM}\n"
    found = explained(text).primary
    assert found is not None
    assert found.line_numbers == (2,)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "\x1b[0;36m(EngineCore_DP0 pid=1)\x1b[0;0m ERROR 11-22 10:58:16 [core.py:843] ",
        "2026-11-22T10:58:16.123456789Z ",
        "vllm-1  | (EngineCore pid=1) ERROR 11-22 10:58:16 [core.py:843] ",
        "[rank0]: ",
        "[TP0] ",
        "Aug 17 18:42:18 host vllm[8052]: (EngineCore pid=8052) ",
        "[2026-11-22 10:58:16 TP0] ",
    ],
)
def test_what_stands_before_a_line_does_not_hide_it(prefix: str) -> None:
    found = explained(f"{prefix}{OOM}").primary
    assert found is not None
    assert found.code == "MEM017"


# --- the state of a container -----------------------------------------------------------------

OOM_KILLED = Evidence(exit_status="exit code 137", oom_killed=True, memory_limit="4 GiB")


def test_a_container_killed_for_memory_is_explained_by_its_state() -> None:
    found = heed_state(explained("Loading weights"), OOM_KILLED)
    assert found.primary is not None
    assert found.primary.code == "CON010"
    assert "memory limit 4 GiB" in found.primary.evidence[0]


def test_the_logs_own_cause_comes_before_the_state() -> None:
    found = heed_state(explained(OOM), OOM_KILLED)
    assert found.primary is not None
    assert found.primary.code == "MEM017"
    assert [item.code for item in found.consequences] == ["CON010"]


def test_a_container_that_ended_well_says_nothing() -> None:
    assert heed_state(explained("done"), Evidence(exit_status="exit code 0")).is_clean
