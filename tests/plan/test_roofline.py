from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.plan.architecture import load_model
from leadline.plan.hardware import parse_hardware
from leadline.plan.patterns import FULL, Reach
from leadline.plan.roofline import (
    Probe,
    audit_prefill,
    calibrate_prefill,
    count_pairs,
    count_prefill_work,
    count_token_weights,
    estimate_decode,
    estimate_prefill,
    fit_probes,
    prefill_floor_s,
)
from leadline.plan.weights import Shards

SCOUT = load_model("Llama-4-Scout-17B-16E-Instruct")
H200 = parse_hardware("8xH200").device
EIGHT = Shards(8)
# Published: Scout on 8 H200, vLLM 0.12.0, 200 tokens out (response times).
SHORT, MIDDLE, LONG = Probe(2_065_427, 69.35), Probe(2_850_000, 334.91), Probe(4_910_000, 957.07)


def test_scout_work_per_token() -> None:
    assert 2 * count_token_weights(SCOUT) == pytest.approx(30.21e9, rel=1e-3)
    work = count_prefill_work(SCOUT, 1_000_000)
    assert work.full == pytest.approx(1.229e5 * 1e12, rel=1e-3)
    assert work.local == pytest.approx(36 * 4 * 5120 * 4096 * 1e6, rel=0.01)


@pytest.mark.parametrize(
    ("tokens", "seconds"), [(2_065_000, 74.9), (2_850_000, 138.1), (4_910_000, 395.0)]
)
def test_speed_of_light_of_the_published_points(tokens: int, seconds: float) -> None:
    floor = prefill_floor_s(SCOUT, H200, EIGHT, count_prefill_work(SCOUT, tokens))
    assert floor == pytest.approx(seconds, rel=0.002)


def test_69_seconds_cannot_be_cold() -> None:
    audit = audit_prefill(
        SCOUT, H200, EIGHT, tokens=SHORT.tokens, seconds=SHORT.seconds, share_of_peak=0.413
    )
    assert not audit.possible_cold
    assert not audit.plausible_cold
    assert audit.share_of_peak == pytest.approx(1.08, abs=0.005)
    assert audit.cached_share == pytest.approx(0.78, abs=0.02)


@pytest.mark.parametrize("probe", [MIDDLE, LONG])
def test_the_long_points_are_plausible(probe: Probe) -> None:
    audit = audit_prefill(SCOUT, H200, EIGHT, tokens=probe.tokens, seconds=probe.seconds)
    assert audit.possible_cold
    assert audit.plausible_cold
    assert audit.share_of_peak == pytest.approx(0.413, abs=0.005)


@pytest.mark.parametrize(("known", "other"), [(MIDDLE, LONG), (LONG, MIDDLE)])
def test_each_long_point_predicts_the_other(known: Probe, other: Probe) -> None:
    time = calibrate_prefill(SCOUT, H200, EIGHT, other.tokens, [known])
    assert time.expected == pytest.approx(other.seconds, rel=0.10)
    assert time.low <= other.seconds <= time.high
    assert time.kind == "calibrated"


def test_uncalibrated_is_within_a_factor_of_two() -> None:
    for probe in (MIDDLE, LONG):
        work = count_prefill_work(SCOUT, probe.tokens)
        time = estimate_prefill(SCOUT, H200, EIGHT, "vllm", work)
        assert probe.seconds / 2 < time.expected < probe.seconds * 2
        assert time.low <= probe.seconds <= time.high


def test_the_fit_of_both_points() -> None:
    fit = fit_probes([MIDDLE, LONG])
    assert fit is not None
    assert fit.linear * 1e6 == pytest.approx(10.4, abs=0.2)
    assert fit.square * 1e12 == pytest.approx(37.6, abs=0.2)
    assert fit.seconds(2_097_152) == pytest.approx(187, abs=1)


def test_fits_never_turn_negative() -> None:
    assert fit_probes([Probe(10, 1.0)]) is None
    flat = fit_probes([Probe(1000, 1.0), Probe(2000, 1.5)])
    assert flat is not None
    assert flat.square == 0
    steep = fit_probes([Probe(1000, 1.0), Probe(2000, 9.0)])
    assert steep is not None
    assert steep.linear == 0


def test_70b_at_120k_on_8_h100() -> None:
    """Another planner answers 1.35 s, which no hardware can do."""
    model, device = load_model("meta-llama/Llama-3.3-70B-Instruct"), parse_hardware("H100").device
    time = estimate_prefill(model, device, EIGHT, "vllm", count_prefill_work(model, 120_000))
    assert time.floor == pytest.approx(4.5, abs=0.4)
    assert 8 < time.expected < 11


def test_decode_reads_weights_and_cache() -> None:
    one = estimate_decode(SCOUT, H200, EIGHT, "vllm", context_tokens=1000, batch=1)
    long = estimate_decode(SCOUT, H200, EIGHT, "vllm", context_tokens=2_000_000, batch=1)
    many = estimate_decode(SCOUT, H200, EIGHT, "vllm", context_tokens=1000, batch=64)
    assert one.floor == pytest.approx(34.3e9 / (8 * 4.8e12), rel=0.1)
    assert long.floor > one.floor * 2
    # Sixty-four tokens meet all sixteen experts.
    assert 4 < many.floor / one.floor < 8
    assert one.low < one.expected < one.high


@given(
    tokens=st.integers(1, 2**23),
    cached=st.integers(0, 2**23),
    reach=st.sampled_from([FULL, Reach("sliding", 1024), Reach("chunked", 8192)]),
)
def test_pairs_grow_and_never_exceed_the_square(tokens: int, cached: int, reach: Reach) -> None:
    pairs = count_pairs(reach, tokens)
    assert 0 < pairs <= tokens**2 / 2
    assert count_pairs(reach, min(cached, tokens)) <= pairs
    if reach.tokens:
        assert pairs <= tokens * reach.tokens


@given(tokens=st.integers(1000, 2**23), share=st.floats(0, 0.99))
def test_prefix_hits_save_linear_and_squared(tokens: int, share: float) -> None:
    cached = int(tokens * share)
    cold, warm = count_prefill_work(SCOUT, tokens), count_prefill_work(SCOUT, tokens, cached)
    hit = cached / tokens
    assert warm.linear == pytest.approx(cold.linear * (1 - hit), rel=1e-6)
    assert warm.full == pytest.approx(cold.full * (1 - hit**2), rel=1e-6)


@given(tokens=st.integers(100, 2**23))
def test_no_estimate_beats_the_floor(tokens: int) -> None:
    time = estimate_prefill(SCOUT, H200, EIGHT, "vllm", count_prefill_work(SCOUT, tokens))
    assert 0 < time.floor < time.low < time.expected < time.high
    fast = calibrate_prefill(SCOUT, H200, EIGHT, tokens, [Probe(1_000_000, 1e-3)])
    assert fast.expected >= fast.floor
