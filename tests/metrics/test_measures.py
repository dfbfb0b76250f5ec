from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factory import MS, failed_exchange, make_clock, make_events, make_exchange

from leadline.metrics.measures import measure
from leadline.records import Event


def usage_of(prompt: int | None, completion: int | None) -> dict[str, int | None]:
    return {"prompt_tokens": prompt, "completion_tokens": completion}


def test_one_token_per_event() -> None:
    measures = measure(make_exchange())
    assert measures.ttft_s == pytest.approx(0.1)
    assert measures.e2e_s == pytest.approx(0.2)
    assert measures.send_s == pytest.approx(0.001)
    assert measures.tpot_s == pytest.approx(0.05)
    assert measures.itl_s == pytest.approx((0.05, 0.05))
    assert measures.chunk_gaps_s == pytest.approx((0.05, 0.05))
    assert (measures.prompt_tokens, measures.completion_tokens) == (100, 3)
    assert measures.prefill_tokens_per_s == pytest.approx(1000)
    assert measures.decode_tokens_per_s == pytest.approx(20)


def test_a_chunk_of_several_tokens_is_several_tokens() -> None:
    events = make_events((100, "a b", 2), (160, "c d e", 5), (180, "f", 6))
    measures = measure(make_exchange(events=events, usage=usage_of(100, 6)))
    assert measures.itl_s == pytest.approx((0.02, 0.02, 0.02, 0.02))
    assert measures.chunk_gaps_s == pytest.approx((0.06, 0.02))
    assert measures.tpot_s == pytest.approx(0.08 / 4)


def test_without_a_running_count_there_is_no_time_between_tokens() -> None:
    events = make_events((100, "a", None), (160, "b c d", None))
    measures = measure(make_exchange(events=events, usage=usage_of(100, 4)))
    assert measures.itl_s == ()
    assert measures.chunk_gaps_s == pytest.approx((0.06,))
    assert measures.tpot_s == pytest.approx(0.06 / 3)


def test_a_token_whose_text_is_still_incomplete_is_output() -> None:
    events = make_events((100, "", 1), (150, "é", 2))
    measures = measure(make_exchange(events=events, usage=usage_of(100, 2)))
    assert measures.ttft_s == pytest.approx(0.1)
    assert measures.itl_s == pytest.approx((0.05,))


def test_an_event_without_output_is_no_token() -> None:
    """llama.cpp ends with an empty event that repeats the count; chats begin with a role."""
    events = make_events((50, "", None), (100, "a", 1), (150, "b", 2), (400, "", 2))
    measures = measure(make_exchange(events=events, usage=usage_of(100, 2)))
    assert measures.ttft_s == pytest.approx(0.1)
    assert measures.tpot_s == pytest.approx(0.05)
    assert measures.e2e_s == pytest.approx(0.4)


def test_a_single_token_has_no_time_per_token() -> None:
    events = make_events((100, "a", 1))
    measures = measure(make_exchange(events=events, usage=usage_of(100, 1)))
    assert measures.ttft_s == pytest.approx(0.1)
    assert measures.tpot_s is None
    assert measures.decode_tokens_per_s is None
    assert measures.itl_s == ()


def test_between_tokens_that_came_at_one_tick_nobody_saw_time_pass() -> None:
    """A client that comes late to read finds several at once: vLLM's whole answer, it happened."""
    events = make_events((100, "a", 1), (100, "b", 2))
    measures = measure(make_exchange(events=events, usage=usage_of(100, 2)))
    assert measures.tpot_s is measures.decode_tokens_per_s is None
    assert measures.itl_s == measures.chunk_gaps_s == ()

    events = make_events((100, "a", 1), (130, "b", 2), (130, "c", 3), (140, "d", 4))
    measures = measure(make_exchange(events=events, usage=usage_of(100, 4)))
    assert measures.itl_s == pytest.approx((0.015, 0.015, 0.01))
    assert measures.chunk_gaps_s == pytest.approx((0.03, 0.01))
    assert measures.tpot_s == pytest.approx(0.04 / 3)


def test_without_usage_only_ticks_speak() -> None:
    measures = measure(make_exchange(usage=None))
    assert measures.ttft_s == pytest.approx(0.1)
    assert measures.tpot_s is None
    assert measures.prompt_tokens is None
    assert measures.prefill_tokens_per_s is None


def test_a_failed_request_keeps_what_its_ticks_show_but_has_no_end() -> None:
    failed = failed_exchange("stalled", "no further chunk").model_copy(
        update={"events": make_events((100, "a", 1), (150, "b", 2))}
    )
    measures = measure(failed)
    assert measures.ttft_s == pytest.approx(0.1)
    assert measures.itl_s == pytest.approx((0.05,))
    assert measures.e2e_s is None


def test_a_request_without_any_answer_has_no_measures() -> None:
    measures = measure(failed_exchange("timeout", "no first token within 60 s"))
    known = measures.model_dump(exclude={"send_s", "itl_s", "chunk_gaps_s"})
    assert set(known.values()) == {None}
    assert measures.itl_s == measures.chunk_gaps_s == ()


steps = st.lists(
    st.tuples(st.integers(0, 10**12), st.sampled_from(["", "x"]), st.none() | st.integers(0, 5)),
    max_size=20,
)


@given(steps, st.none() | st.integers(0, 200), st.none() | st.integers(0, 10**7))
def test_measures_of_any_ticks_hold_together(
    steps: list[tuple[int, str, int | None]], completion: int | None, prompt: int | None
) -> None:
    events, at_ns, count = [], MS, 0
    for gap_ns, text, tokens in steps:
        at_ns += gap_ns
        count += tokens or 0
        events.append(Event(at_ns, text, None if tokens is None else count))
    measures = measure(
        make_exchange(events=tuple(events), usage=usage_of(prompt, completion), clock=make_clock())
    )
    if measures.ttft_s is None:
        assert measures.tpot_s is None
        assert measures.itl_s == measures.chunk_gaps_s == ()
        return
    assert measures.ttft_s > 0
    assert measures.e2e_s is not None
    assert measures.e2e_s >= measures.ttft_s - 1e-9
    assert all(gap >= 0 for gap in (*measures.itl_s, *measures.chunk_gaps_s))
    span = sum(measures.chunk_gaps_s)
    assert measures.ttft_s + span <= measures.e2e_s * (1 + 1e-9) + 1e-9
    assert sum(measures.itl_s) <= span * (1 + 1e-9) + 1e-9
    assert measures.tpot_s is None or 0 <= measures.tpot_s <= span + 1e-9


@given(st.lists(st.tuples(st.integers(1, 10**10), st.integers(1, 9)), min_size=2, max_size=20))
def test_with_a_running_count_no_time_and_no_token_is_lost(steps: list[tuple[int, int]]) -> None:
    events, at_ns, count = [], 0, 0
    for gap_ns, tokens in steps:
        at_ns += gap_ns
        count += tokens
        events.append(Event(at_ns, "x", count))
    measures = measure(make_exchange(events=tuple(events), usage=usage_of(100, count)))
    span = (events[-1].t_ns - events[0].t_ns) * 1e-9
    later = count - steps[0][1]
    assert len(measures.itl_s) == later
    assert sum(measures.itl_s) == pytest.approx(span)
    assert measures.tpot_s == pytest.approx(span / later)
