from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.engines.engine import load_engine
from leadline.metrics.scrape import growth, read_counters, read_gauges

DATA = Path(__file__).parents[1] / "data"
VLLM = load_engine("vllm").counters


@pytest.mark.parametrize(
    ("version", "counters"),
    [
        (
            "0.12",
            {
                "prompt_tokens": 52_966.0,
                "cached_tokens": 896.0,
                "queried_tokens": 52_966.0,
                "preemptions": 0.0,
                "output_tokens": 158.0,
                "prefill_s": 32.3126961329981,
                "queue_s": 0.0001878260018202127,
            },
        ),
        (
            "0.32",
            {
                "prompt_tokens": 1_027_083.0,
                "cached_tokens": 0.0,
                "queried_tokens": 2_075_659.0,
                "preemptions": 0.0,
                "output_tokens": 50.0,
                "prefill_s": 266.62267143200006,
                "queue_s": 0.000440858999354532,
            },
        ),
    ],
)
def test_the_metrics_of_recorded_releases_are_read(
    version: str, counters: dict[str, float]
) -> None:
    text = (DATA / f"vllm-{version}-metrics.txt").read_text(encoding="utf-8")
    assert read_counters(text, VLLM) == counters


@pytest.mark.parametrize("version", ["0.12", "0.32"])
def test_the_gauges_of_recorded_releases_are_read(version: str) -> None:
    text = (DATA / f"vllm-{version}-metrics.txt").read_text(encoding="utf-8")
    found = read_gauges(text, load_engine("vllm").gauges)
    assert found == {"running": 0.0, "waiting": 0.0, "kv_usage": 0.0}


def test_the_metrics_of_llamacpp_are_read() -> None:
    text = (DATA / "llamacpp-2026.10-metrics.txt").read_text(encoding="utf-8")
    engine = load_engine("llamacpp")
    assert set(read_counters(text, engine.counters)) == set(engine.counters)
    assert read_gauges(text, engine.gauges) == {"running": 4.0, "waiting": 2.0}


def test_labels_that_match_are_summed_and_no_other() -> None:
    stages = {"prefill_forward": 1.5, "chunked_prefill": 6, "decode_loop": 90, "prefill_waiting": 7}
    name = "sglang:per_stage_req_latency_seconds_sum"
    text = "\n".join(f'{name}{{stage="{stage}",tp_rank="0"}} {s}' for stage, s in stages.items())
    names = {"prefill_s": name + '{stage=~"prefill_forward|chunked_prefill"}'}
    assert read_counters(text + "\n", names) == {"prefill_s": 7.5}


def test_of_a_share_the_highest_label_set_counts() -> None:
    text = (
        'vllm:kv_cache_usage_perc{engine="0"} 0.5\nvllm:kv_cache_usage_perc{engine="1"} 0.75\n'
        'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_running{engine="1"} 4\n'
    )
    assert read_gauges(text, load_engine("vllm").gauges) == {"kv_usage": 0.75, "running": 7}


def test_a_name_is_not_taken_for_a_longer_one() -> None:
    text = 'vllm:num_requests_waiting_by_reason{reason="capacity"} 5\n'
    assert read_gauges(text, load_engine("vllm").gauges) == {}


def test_label_sets_are_summed() -> None:
    text = (
        "# TYPE vllm:prompt_tokens_total counter\n"
        'vllm:prompt_tokens_total{engine="0"} 5\nvllm:prompt_tokens_total{engine="1"} 7\n'
    )
    assert read_counters(text, VLLM) == {"prompt_tokens": 12}


@pytest.mark.parametrize("text", ["", "<html>busy</html>", '{"a": 1}', "a{b 1\n", "a b c\n"])
def test_what_is_no_prometheus_text_holds_no_counters(text: str) -> None:
    assert read_counters(text, VLLM) == {}


def test_growth_is_the_difference() -> None:
    assert growth({"a": 5.0, "b": 1.0}, {"a": 12.0, "b": 1.0}) == {"a": 7.0, "b": 0.0}


def test_a_counter_that_appears_with_the_first_request_grew_from_nothing() -> None:
    assert growth({}, {"a": 7.0}) == {"a": 7.0}


def test_a_counter_that_went_back_or_away_is_left_out() -> None:
    assert growth({"a": 5.0, "b": 2.0}, {"a": 1.0}) == {}


@given(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e9)), st.data())
def test_growth_is_never_negative(before: dict[str, float], data: st.DataObject) -> None:
    after = data.draw(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e9)))
    grown = growth(before, after)
    assert set(grown) <= set(after)
    assert all(value >= 0 for value in grown.values())
