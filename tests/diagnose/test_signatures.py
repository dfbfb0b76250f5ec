"""Every signature on a line that was really printed, and silent on one that only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.diagnose.amounts import AMOUNTS
from leadline.diagnose.diagnosis import diagnose
from leadline.diagnose.facts import LogFacts
from leadline.diagnose.log import read_log
from leadline.diagnose.signature import Signature, list_signatures

SIGNATURES = list_signatures()


def lines_of(signature: Signature, example: str) -> list[str]:
    """The example as its conditions want it: repeated, or at the end of a trace."""
    if signature.example_frames:
        frame = f'  File "worker.py", line 1, in {signature.example_frames}'
        return ["Traceback (most recent call last):", frame, "    run()", example]
    return [example] * signature.times


def cases() -> list[tuple[Signature, str]]:
    return [(item, line) for item in SIGNATURES for line in (item.example, *item.examples)]


@pytest.mark.parametrize(("signature", "example"), cases(), ids=lambda item: str(item)[:12])
def test_a_signature_knows_its_own_line(signature: Signature, example: str) -> None:
    log = read_log(lines_of(signature, example))
    assert signature.matches(log)
    finding = signature.find(signature.matches(log), log, LogFacts(log))
    assert finding.remedy
    assert finding.evidence


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda item: item.code)
def test_a_signature_is_silent_on_its_near_miss(signature: Signature) -> None:
    assert not signature.matches(read_log(lines_of(signature, signature.near_miss)))


@pytest.mark.parametrize(
    "signature",
    [item for item in SIGNATURES if item.weight in ("cause", "general")],
    ids=lambda item: item.code,
)
def test_the_line_of_a_cause_is_explained_by_that_cause(signature: Signature) -> None:
    log = read_log(lines_of(signature, signature.example))
    found = diagnose(log, LogFacts(log)).primary
    assert found is not None
    assert found.code == signature.code


def test_every_near_miss_together_is_a_healthy_log() -> None:
    log = read_log(item.near_miss for item in SIGNATURES)
    others = {"REQ001", "UNKNOWN"}  # START007's and START036's are failures of another kind
    found = diagnose(log, LogFacts(log))
    assert found.primary is None or found.primary.code in others


def test_every_amount_is_used_and_known() -> None:
    assert {item.amount for item in SIGNATURES if item.amount} == set(AMOUNTS)


def test_every_signature_names_its_source_and_its_turns_are_directions() -> None:
    for item in SIGNATURES:
        assert item.source
        assert all(turn.split()[0] in {"lower", "raise", "set", "remove"} for turn in item.turns)


def test_the_two_out_of_memory_errors_turn_the_same_setting_in_opposite_ways() -> None:
    ways: dict[str, set[str]] = {}
    for item in SIGNATURES:
        if item.cause == "oom":
            for turn in item.turns:
                way, _, setting = turn.partition(" ")
                ways.setdefault(setting, set()).add(f"{item.code} {way}")
    share = ways["gpu_memory_utilization"]
    assert {"START010 raise", "START011 raise", "MEM002 raise"} <= share
    assert {"MEM010 lower", "MEM012 lower", "MEM015 lower", "MEM016 lower"} <= share
    assert "START021 raise" in ways["mem_fraction_static"]
    assert "MEM020 lower" in ways["mem_fraction_static"]


HEALTHY = (
    "INFO 11-22 10:38:15 [gpu_worker.py:298] Available KV cache memory: {n}.71 GiB",
    "INFO 11-22 10:38:15 [kv_cache_utils.py:1287] GPU KV cache size: {n},664 tokens",
    "INFO 11-22 10:38:15 [kv_cache_utils.py:1291] Maximum concurrency for {n} tokens: {n}.00x",
    'INFO:     127.0.0.1:{n} - "POST /v1/completions HTTP/1.1" 200 OK',
    "(EngineCore_DP0 pid={n}) INFO 11-22 10:38:15 [backends.py:390] Compiling a graph takes {n} s",
    "[2026-11-22 11:09:05] Prefill batch, #new-seq: 1, #new-token: {n}, token usage: 0.18, ",
    "0.{n}.131.554 I slot get_availabl: id  0 | task -1 | selected slot by LRU",
    "Loading safetensors checkpoint shards:  {n}% Completed | 1/4 [00:01<00:03,  1.10s/it]",
    "NCCL INFO Channel {n} : 0 1 2 3",
    "WARNING 11-22 11:03:00 [arg_utils.py:1] Max context length {n} tokens is large",
    "DEBUG 11-22 11:03:00 [x.py:{n}] RuntimeError: CUDA error: out of memory (tried, dealt with)",
    "INFO 11-22 10:44:54 [loggers.py:236] Running: 1 reqs, Waiting: {n} reqs, KV cache usage: 9.0%",
    "{n}",
    "",
)


@given(st.lists(st.tuples(st.sampled_from(HEALTHY), st.integers(1, 99_999)), max_size=40))
def test_healthy_lines_never_trigger_in_any_order(drawn: list[tuple[str, int]]) -> None:
    log = read_log(line.format(n=n) for line, n in drawn)
    found = diagnose(log, LogFacts(log))
    assert found.primary is None
    assert not found.consequences


@given(st.lists(st.text(max_size=80), max_size=30))
def test_no_text_whatever_makes_it_crash(lines: list[str]) -> None:
    log = read_log(lines)
    diagnose(log, LogFacts(log))


@given(st.integers(0, len(SIGNATURES) - 1), st.integers(0, 400))
def test_a_line_cut_anywhere_makes_no_amount_crash(which: int, cut: int) -> None:
    signature = SIGNATURES[which]
    log = read_log(lines_of(signature, signature.example[:cut]))
    diagnose(log, LogFacts(log))
