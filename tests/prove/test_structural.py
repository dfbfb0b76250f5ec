from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factory import failed_exchange, make_events, make_exchange, make_record, make_sent

from leadline.engines.engine import load_engine
from leadline.prove.recall import found_needles
from leadline.prove.structural import (
    TRIAL_PROOFS,
    prove_cold,
    prove_count,
    prove_edge,
    prove_finish,
    prove_output,
    prove_over_limit,
    prove_trial,
)
from leadline.records import Record

OPENAI = load_engine("openai")
LLAMACPP = load_engine("llamacpp")


def record_with(**changes: Any) -> Record:
    return make_record(make_exchange(**changes))


def saying(text: str) -> Record:
    return record_with(events=make_events((100, text, 3)))


# --- count ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "outcome", "observed"),
    [
        ({"prompt_tokens": 100}, "pass", "sent 100, server counted 100"),
        ({"prompt_tokens": 101}, "fail", "sent 100, server counted 101"),
        ({"prompt_tokens": 99}, "fail", "sent 100, server counted 99"),
        ({"completion_tokens": 3}, "unknown", "the server sends no usage"),
        (None, "unknown", "the server sends no usage"),
    ],
)
def test_count_holds_only_if_the_server_counted_what_we_sent(
    usage: dict[str, int] | None, outcome: str, observed: str
) -> None:
    proof = prove_count(record_with(usage=usage))
    assert (proof.name, proof.outcome, proof.observed) == ("count", outcome, observed)


@given(st.integers(1, 10**7), st.integers(0, 10**7))
def test_no_other_count_ever_passes(sent: int, counted: int) -> None:
    exchange = make_exchange(usage={"prompt_tokens": counted})
    proof = prove_count(make_record(exchange, sent=make_sent(sent)))
    assert proof.outcome == ("pass" if sent == counted else "fail")


# --- cold -----------------------------------------------------------------------------------


def test_cold_by_the_usage_of_the_request() -> None:
    proof = prove_cold(make_record(), OPENAI)
    assert (proof.outcome, proof.observed) == ("pass", "0 cached tokens by usage")


def test_one_cached_token_is_not_cold() -> None:
    usage = {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 1}}
    proof = prove_cold(record_with(usage=usage), OPENAI)
    assert (proof.outcome, proof.observed) == ("fail", "1 cached tokens by usage")


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": 100}, {"prompt_tokens": 100, "prompt_tokens_details": None}],
)
def test_without_a_witness_cold_is_unknown(usage: dict[str, Any] | None) -> None:
    proof = prove_cold(record_with(usage=usage), OPENAI)
    assert proof.outcome == "unknown"
    assert proof.observed == "the server reports neither cached tokens nor counters"


@pytest.mark.parametrize(("processed", "outcome"), [(100, "pass"), (40, "fail"), (101, "pass")])
def test_cold_by_the_prompt_tokens_that_were_computed(processed: int, outcome: str) -> None:
    record = record_with(usage=None, server={"prompt_n": processed})
    assert prove_cold(record, LLAMACPP).outcome == outcome


@pytest.mark.parametrize(
    ("counters", "outcome"),
    [
        ({"prompt_tokens": 100.0, "cached_tokens": 0.0}, "pass"),
        ({"prompt_tokens": 100.0, "cached_tokens": 64.0}, "fail"),
        # Somebody else's request moved them too: no testimony about ours.
        ({"prompt_tokens": 150.0, "cached_tokens": 0.0}, "unknown"),
        ({"prompt_tokens": 100.0}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_counters_testify_only_if_this_request_alone_moved_them(
    counters: dict[str, float], outcome: str
) -> None:
    record = make_record(make_exchange(usage={"prompt_tokens": 100}), counters=counters)
    assert prove_cold(record, OPENAI).outcome == outcome


def test_the_worst_witness_decides() -> None:
    record = record_with(server={"prompt_n": 30})
    proof = prove_cold(record, LLAMACPP)
    assert (proof.outcome, proof.observed) == ("fail", "70 cached tokens by the server's timings")


# --- finish ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "tokens", "outcome"),
    [
        ("length", 3, "pass"),
        ("stop", 3, "pass"),
        ("stop", 1, "pass"),
        ("length", 2, "fail"),  # clamped without a word
        ("length", 4, "fail"),
        ("stop", 0, "fail"),
        ("stop", 4, "fail"),
        ("abort", 1, "fail"),
        ("error", 3, "fail"),
        (None, 3, "fail"),
        ("length", None, "fail"),
    ],
)
def test_finish_needs_a_stated_reason_and_the_tokens_to_match(
    reason: str | None, tokens: int | None, outcome: str
) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": tokens}
    proof = prove_finish(record_with(finish_reason=reason, usage=usage))
    assert proof.outcome == outcome
    assert proof.observed == f"finish_reason {reason}, {tokens} of 3 output tokens"


# --- output ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "48213",
        " The number is 48213.",
        "no",
        "Ja, größer – «so»\n\tund weiter",
        "深い海の中で",
        "the the the the the the the sea",
    ],
)
def test_text_is_output(text: str) -> None:
    proof = prove_output(saying(text))
    assert (proof.outcome, proof.observed) == ("pass", repr(text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("\ufffd\ufffd\ufffdabc", "unreadable"),
        ("\x00\x01\x02\x03", "unreadable"),
        ("the " * 20, "one word repeated"),
        ("!" * 40, "one character repeated"),
    ],
)
def test_what_is_no_text_is_not_output(text: str, problem: str) -> None:
    proof = prove_output(saying(text))
    assert proof.outcome == "fail"
    assert proof.observed.startswith(f"{problem}: ")


def test_a_long_output_is_shown_shortened() -> None:
    proof = prove_output(saying("word and word " * 40))
    assert proof.observed.endswith("…'")
    assert len(proof.observed) < 70


@given(st.text(max_size=200))
def test_any_output_is_judged(text: str) -> None:
    proof = prove_output(saying(text))
    assert proof.outcome == ("pass" if proof.observed.startswith(("'", '"')) else "fail")


# --- a whole trial --------------------------------------------------------------------------


def test_a_sound_trial_passes_every_proof() -> None:
    proofs = prove_trial(make_record(), OPENAI)
    assert tuple(proof.name for proof in proofs) == TRIAL_PROOFS
    assert {proof.outcome for proof in proofs} == {"pass"}


def test_a_trial_that_may_be_warm_is_not_asked_to_be_cold() -> None:
    names = [proof.name for proof in prove_trial(make_record(), OPENAI, cold=False)]
    assert names == ["count", "finish", "output"]


def test_a_failed_request_proves_nothing() -> None:
    record = make_record(failed_exchange("timeout", "no first token within 60 s"))
    assert prove_trial(record, OPENAI) == []
    assert found_needles(record) == []


# --- limits ---------------------------------------------------------------------------------


def test_the_edge_holds_if_it_is_counted_whole() -> None:
    proof = prove_edge(make_record(purpose="edge"))
    assert (proof.name, proof.outcome) == ("edge", "pass")
    assert proof.observed == "sent 100, server counted 100"


def test_the_edge_fails_if_it_is_refused_or_cut() -> None:
    refused = make_record(failed_exchange("refused", "HTTP 400: too long", 400), purpose="edge")
    proof = prove_edge(refused)
    assert (proof.outcome, proof.observed) == ("fail", "100 tokens: HTTP 400: too long")
    cut = make_record(make_exchange(usage={"prompt_tokens": 93}), purpose="edge")
    assert prove_edge(cut).outcome == "fail"
    assert prove_edge(make_record(make_exchange(usage=None))).outcome == "unknown"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_over_the_limit_is_to_be_refused(status: int) -> None:
    message = f"HTTP {status}: maximum context length is 99"
    proof = prove_over_limit(make_record(failed_exchange("refused", message, status)))
    assert (proof.outcome, proof.observed) == ("pass", f"100 tokens: {message}")


def test_over_the_limit_and_answered_is_a_silent_cut() -> None:
    proof = prove_over_limit(make_record())
    assert proof.outcome == "fail"
    assert proof.observed == "100 tokens: HTTP 200, answered as if it fitted"


def test_over_the_limit_refused_inside_a_200_is_refused_and_shown_so() -> None:
    """SGLang's way for a streamed request: the error stands where the first token would."""
    failed = failed_exchange("stream_error", "The input is longer than the model's", 200)
    proof = prove_over_limit(make_record(failed))
    assert proof.outcome == "pass"
    assert proof.observed == "100 tokens: HTTP 200, The input is longer than the model's"


def test_over_the_limit_and_broken_down_is_not_a_refusal() -> None:
    crashed = failed_exchange("refused", "HTTP 500: CUDA error", 500)
    assert prove_over_limit(make_record(crashed)).outcome == "fail"


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429])
def test_a_refusal_for_another_reason_says_nothing_about_the_limit(status: int) -> None:
    other = failed_exchange("refused", f"HTTP {status}: slow down", status)
    proof = prove_over_limit(make_record(other))
    assert (proof.outcome, proof.observed) == ("unknown", f"100 tokens: HTTP {status}: slow down")


def test_over_the_limit_without_an_answer_is_unknown() -> None:
    proof = prove_over_limit(make_record(failed_exchange("unreachable", "no connection")))
    assert (proof.outcome, proof.observed) == ("unknown", "100 tokens: no connection")


# --- recall ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (" 48213 and 77777.", [True, True]),
        ("The number is 48213", [True, False]),
        ("48214", [False, False]),
        ("", [False, False]),
        ("4821 3", [False, False]),
    ],
)
def test_a_needle_is_found_if_the_output_contains_its_answer(text: str, found: list[bool]) -> None:
    record = make_record(
        make_exchange(events=make_events((100, text, 3))),
        sent=make_sent(answers=("48213", "77777")),
    )
    assert found_needles(record) == found


def test_scoring_ignores_case() -> None:
    record = make_record(
        make_exchange(events=make_events((100, "the ANCHOR", 3))),
        sent=make_sent(answers=("Anchor",)),
    )
    assert found_needles(record) == [True]


def test_without_needles_there_is_no_score() -> None:
    assert found_needles(make_record(sent=make_sent())) == []
