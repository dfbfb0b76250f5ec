"""What real engines printed and answered (``tests/record_engine.py``), replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.engines.engine import load_engine
from leadline.engines.statements import Words, read_words
from leadline.metrics.scrape import read_counters, read_labels
from leadline.records import Failure

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
ENGINES = sorted(path.name for path in RECORDED.iterdir())
FIGURES: dict[str, dict[str, Any]] = {
    "llamacpp": {"slots": 1, "window_tokens": 1024},
    "sglang-0.5.6.post2": {"kv_tokens": 4096, "window_tokens": 8192, "running_requests": 4},
    "vllm-0.12.0": {"version": "0.12.0", "kv_tokens": 8_388_608, "concurrency": 1024.0},
    "vllm-0.32.0": {"version": "0.32.0", "kv_tokens": 8_388_608, "concurrency": 1024.0},
}
CAUSES = {
    "bad-flag": "bad_option",
    "missing-model": "model_missing",
    "damaged-model": "model_invalid",
    "window-larger-than-kv": "oom",
    "window-beyond-training": "exceeds_trained_context",
    "not-enough-memory": "oom",
    "port-in-use": "port_in_use",
}
FAILURES = [
    (engine, path.stem)
    for engine in ENGINES
    for path in sorted((RECORDED / engine).glob("*.log"))
    if path.stem in CAUSES
]


# llama.cpp's window is its KV cache, SGLang starts with a window
# that is larger than its pool, and both tell of themselves by other routes.
PARTS = {"start.log", "bad-flag.log", "missing-model.log", "port-in-use.log", "killed.log"}
PARTS |= {"not-enough-memory.log", "models.json", "stream.sse"}
MORE = {
    "llamacpp": {"props.json", "metrics.txt", "stream-native.sse"},
    "sglang-0.5.6.post2": {"server_info.json", "metrics-warm.txt", "generate.sse"},
    "vllm": {"version.json", "metrics.txt", "window-larger-than-kv.log", "core-killed.log"},
}


def lines_of(engine: str, name: str) -> list[str]:
    return (RECORDED / engine / f"{name}.log").read_text(encoding="utf-8").splitlines()


def words_of(engine: str) -> Words:
    facts = load_engine(engine.partition("-")[0])
    return read_words(lines_of(engine, "start"), facts.statements, facts.resolved)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_recordings_of_every_engine_are_whole(engine: str) -> None:
    kept = {path.name for path in (RECORDED / engine).iterdir() if path.stat().st_size}
    assert MORE.get(engine, MORE["vllm"]) | PARTS <= kept


@pytest.mark.parametrize("engine", ["vllm-0.12.0", "vllm-0.32.0"])
def test_a_core_that_was_killed_is_told_from_its_servers_last_words(engine: str) -> None:
    ended = Failure(kind="stream_error", message="EngineCore encountered an issue.")
    status = "its process VLLM::EngineCore (pid 1) is gone"
    log = tuple(lines_of(engine, "core-killed")[-400:])
    finding = explain(Evidence(exit_status=status, log=log, failure=ended))
    assert (finding.code, finding.cause) == ("RUN030", "crashed")
    assert status in finding.evidence[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_start_of_every_recorded_engine_tells_its_figures(engine: str) -> None:
    assert FIGURES[engine].items() <= dict(words_of(engine).figures).items()


@pytest.mark.parametrize(("engine", "failure"), FAILURES)
def test_every_recorded_failure_gets_its_cause(engine: str, failure: str) -> None:
    log = lines_of(engine, failure)
    # As much as a target keeps for those who explain.
    evidence = Evidence(start_cause="exited", exit_status="exit code 1", log=tuple(log[-400:]))
    finding = explain(evidence)
    assert finding.cause == CAUSES[failure], finding.evidence
    assert finding.remedy


@pytest.mark.parametrize("engine", ENGINES)
def test_every_counter_and_gauge_of_the_table_is_among_the_metrics(engine: str) -> None:
    facts = load_engine(engine.partition("-")[0])
    name = "metrics-warm.txt" if engine.startswith("sglang") else "metrics.txt"
    text = (RECORDED / engine / name).read_text(encoding="utf-8")
    for names in (facts.counters, facts.gauges):
        assert read_counters(text, names).keys() == names.keys()


@pytest.mark.parametrize("engine", [name for name in ENGINES if name.startswith("vllm")])
def test_vllm_shows_its_settings_among_the_metrics(engine: str) -> None:
    resolved = load_engine("vllm").resolved
    assert resolved
    name = "metrics-warm.txt" if engine.startswith("sglang") else "metrics.txt"
    text = (RECORDED / engine / name).read_text(encoding="utf-8")
    labels = read_labels(text, resolved.metric)
    assert labels["block_size"] == "128"
    assert labels["enable_prefix_caching"] == "True"
