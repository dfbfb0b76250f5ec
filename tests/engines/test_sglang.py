"""SGLang's command line, and what the real 0.5.6.post2 printed and answered (recorded on a CPU)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.factory import make_exchange, make_record, make_sent
from tests.plan.test_sglang import SCOUT, load_model

from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.engines.statements import load_phases, read_words
from leadline.errors import SpecError
from leadline.launch import Launch
from leadline.load.answer import read_events
from leadline.metrics.scrape import growth, read_counters
from leadline.plan.hardware import parse_hardware
from leadline.plan.sglang import longest_input, split_pools
from leadline.plan.sglang_settings import read_sglang_settings
from leadline.prove.structural import prove_cold, prove_count
from leadline.units import GIB

RECORDED = Path(__file__).parents[1] / "data" / "recorded" / "sglang-0.5.6.post2"
SGLANG = load_engine("sglang")


def launch(settings: dict[str, Any], executable: str | None = None) -> Launch:
    assert SGLANG.launch
    return SGLANG.launch(LaunchRequest("/models/tiny/", 8123, settings, {"A": "1"}, executable))


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


# --- the command line -----------------------------------------------------------------------


def test_it_is_started_by_its_python_on_this_machine_only_and_tells_of_its_cache() -> None:
    started = launch({"context_length": "2M", "tp_size": 8, "--disable-radix-cache": True})
    assert started.argv == (
        "python3", "-m", "sglang.launch_server", "--model-path", "/models/tiny/",
        "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", "8123",
        "--enable-metrics", "--enable-cache-report",
        "--context-length", "2097152", "--tp-size", "8", "--disable-radix-cache",
    )  # fmt: skip
    assert started.env == {"A": "1"}
    assert launch({}, "/opt/sglang/bin/python").argv[0] == "/opt/sglang/bin/python"


def test_what_is_on_by_default_can_be_left_off() -> None:
    assert "--enable-metrics" not in launch({"enable_metrics": False}).argv


@pytest.mark.parametrize(
    ("setting", "cure"),
    [("api_key", "on its command line only"), ("host", "127.0.0.1"), ("model-path", "give model")],
)
def test_secrets_and_what_leadline_sets_are_refused(setting: str, cure: str) -> None:
    with pytest.raises(SpecError) as caught:
        launch({setting: "x"})
    assert cure in str(caught.value.cure)


# --- its log --------------------------------------------------------------------------------


def test_its_start_up_log_tells_phases_pool_and_settings() -> None:
    lines = recorded("start.log").splitlines()
    table = load_phases("sglang")
    found = [next((doing for text, doing in table if text in line), "") for line in lines]
    assert list(dict.fromkeys(filter(None, found))) == [
        "starting the scheduler", "connecting the ranks", "downloading or finding the weights",
        "loading the weights", "allocating the KV cache", "preparing to run", "warming up",
        "answering the first health check",
    ]  # fmt: skip
    words = read_words(lines, SGLANG.statements, SGLANG.resolved)
    assert words.figures["device"] == "cpu"
    assert words.figures["kv_tokens"] == 4096
    assert words.figures["window_tokens"] == 8192
    assert words.figures["chunk_tokens"] == 2048
    assert words.figures["running_requests"] == 4
    assert words.settings["context_length"] == "8192"
    assert words.settings["enable_cache_report"] == "True"


@pytest.mark.parametrize(
    ("log", "code"),
    [
        ("bad-flag", "START006"),
        ("missing-model", "START014"),
        ("beyond-training", "START020"),
        ("pool-too-small", "START021"),
        ("port-in-use", "START001"),
        ("not-enough-memory", "START021"),
    ],
)
def test_each_recorded_failure_of_a_start_is_explained(log: str, code: str) -> None:
    status, *lines = recorded(f"{log}.log").splitlines()
    cause, _, exit_status = status.partition(": ")
    finding = explain(Evidence(start_cause=cause, exit_status=exit_status, log=tuple(lines)))
    assert (finding.code, bool(finding.remedy)) == (code, True)


def test_the_window_that_the_model_was_trained_for_is_named() -> None:
    finding = explain(
        Evidence(start_cause="exited", log=tuple(recorded("beyond-training.log").splitlines()))
    )
    assert finding.remedy.startswith("lower context_length to at most 131,072;")


# --- its lengths ----------------------------------------------------------------------------


def test_the_plan_and_the_server_name_the_same_longest_prompt() -> None:
    """The server's own limit is exclusive: a prompt must be shorter than max_req_input_len."""
    info = json.loads(recorded("server_info.json"))
    pool, window = info["max_total_num_tokens"], info["context_length"]
    settings = {name: info[name] for name in ("context_length", "max_total_tokens", "page_size")}
    model, device = load_model(SCOUT), parse_hardware("8xH200").device
    read = read_sglang_settings({**settings, "tp_size": 8}, model, device)
    pools = split_pools(model, read, 100 * GIB)
    assert pools.full_tokens == pool == 4096
    for output_tokens in (1, 5, 6, 8, 500):
        planned = longest_input(read, pools, output_tokens)
        assert planned == SGLANG.max_input_tokens(window, output_tokens, pool)
        assert planned < info["max_req_input_len"]
    assert SGLANG.max_input_tokens(window, 1, pool) == info["max_req_input_len"] - 1


# --- its streams ----------------------------------------------------------------------------


def read_stream(name: str) -> Any:
    answer = read_events([(1, (RECORDED / name).read_bytes())], SGLANG)
    return answer, answer.problem()


@pytest.mark.parametrize(
    ("stream", "kind", "words"),
    [
        ("stream-over-window.sse", "stream_error", "longer than the model's context length"),
        ("stream-over-sum.sse", "stream_error", "maximum context length of 8192 tokens"),
        ("stream-over-pool.sse", "aborted", "finish_reason abort after 1 output tokens, and 1"),
    ],
)
def test_what_is_too_long_comes_as_http_200_and_is_a_failure(
    stream: str, kind: str, words: str
) -> None:
    _, problem = read_stream(stream)
    assert problem is not None
    assert problem.kind == kind
    assert words in problem.message


def test_an_answer_that_is_cut_says_full_length_and_is_told_by_its_count() -> None:
    """16 tokens were asked for after 4,086 in a pool of 4,096: 8 came, without a word."""
    answer, problem = read_stream("stream-cut-short.sse")
    assert problem is None
    assert (answer.finish_reason, answer.usage["completion_tokens"]) == ("length", 8)
    finding = explain(
        Evidence(
            input_tokens=4086,
            output_tokens=16,
            answered_tokens=8,
            window_tokens=8192,
            pool_tokens=4096,
        )
    )
    assert finding.code == "RUN022"
    assert finding.remedy == (
        "the server stops at 4,094 tokens in all: lower workload.input_tokens by 8, or raise "
        "max_total_tokens or mem_fraction_static: the KV pool holds 4,096"
    )


def test_a_stream_that_was_not_asked_for_usage_proves_no_count() -> None:
    answer, problem = read_stream("stream-without-usage.sse")
    assert (problem, answer.usage) == (None, None)
    assert prove_count(make_record(make_exchange(usage=None))).outcome == "unknown"


@pytest.mark.parametrize(
    ("stream", "before", "after", "outcome"),
    [
        ("stream-cold.sse", "metrics-before.txt", "metrics-cold.txt", "pass"),
        ("stream-warm.sse", "metrics-cold.txt", "metrics-warm.txt", "fail"),
    ],
)
def test_cold_is_proven_by_the_counters_for_the_usage_says_null(
    stream: str, before: str, after: str, outcome: str
) -> None:
    answer, _ = read_stream(stream)
    unborn = dict.fromkeys(SGLANG.unborn_counters, 0.0)
    seen = [unborn | read_counters(recorded(name), SGLANG.counters) for name in (before, after)]
    exchange = make_exchange(usage=answer.usage)
    sent = make_sent(tokens=answer.usage["prompt_tokens"])
    record = make_record(exchange, sent=sent, counters=growth(*seen))
    assert prove_cold(record, SGLANG).outcome == outcome
    assert ("cached_tokens" in str(answer.usage)) == (outcome == "fail")
