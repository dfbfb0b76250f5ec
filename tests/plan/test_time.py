from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.plan.time import Prediction, PrefillModel

LENGTHS = st.integers(100, 3_000_000)
LINEAR = st.floats(1e-7, 1e-2)
QUADRATIC = st.floats(1e-13, 1e-6)


def learned(*probes: tuple[int, float]) -> PrefillModel:
    model = PrefillModel()
    for tokens, seconds in probes:
        model.learn(tokens, seconds)
    return model


def predicted(model: PrefillModel, tokens: int) -> Prediction:
    prediction = model.predict(tokens)
    assert prediction is not None
    return prediction


def test_nothing_is_predicted_before_the_first_probe() -> None:
    assert PrefillModel().predict(1000) is None
    assert PrefillModel().first_token_patience_s(1000) is None
    assert PrefillModel().predict_decode_s(200) == 0


def test_one_probe_bounds_between_the_linear_and_the_quadratic_extreme() -> None:
    low, expected, high = predicted(learned((1000, 2.0)), 4000)
    assert low == pytest.approx(8 / 1.15)
    assert high == pytest.approx(32 * 1.15)
    assert expected == pytest.approx(16)


def test_a_shorter_prompt_is_bounded_too() -> None:
    low, _, high = predicted(learned((4000, 32.0)), 1000)
    assert low == pytest.approx(2 / 1.15)
    assert high == pytest.approx(8 * 1.15)


@given(LINEAR, QUADRATIC, st.lists(LENGTHS, min_size=1, max_size=6), LENGTHS)
def test_the_bounds_contain_every_linear_and_quadratic_truth(
    a: float, b: float, probes: list[int], tokens: int
) -> None:
    model = learned(*((n, a * n + b * n * n) for n in probes))
    low, expected, high = predicted(model, tokens)
    truth = a * tokens + b * tokens * tokens
    assert low <= truth * (1 + 1e-9)
    assert truth <= high * (1 + 1e-9)
    assert low <= expected <= high


@given(
    LINEAR,
    QUADRATIC,
    st.lists(st.tuples(LENGTHS, st.floats(1 / 1.15, 1.15)), min_size=1, max_size=6),
    LENGTHS,
)
def test_the_usual_scatter_of_probes_stays_inside_the_bounds(
    a: float, b: float, probes: list[tuple[int, float]], tokens: int
) -> None:
    model = learned(*((n, (a * n + b * n * n) * noise) for n, noise in probes))
    low, _, high = predicted(model, tokens)
    truth = a * tokens + b * tokens * tokens
    assert low <= truth * (1 + 1e-9)
    assert truth <= high * (1 + 1e-9)


@given(LINEAR, QUADRATIC, LENGTHS, LENGTHS, LENGTHS)
def test_another_probe_never_widens_the_bounds(
    a: float, b: float, first: int, second: int, tokens: int
) -> None:
    one = predicted(learned((first, a * first + b * first**2)), tokens)
    model = learned((first, a * first + b * first**2), (second, a * second + b * second**2))
    two = predicted(model, tokens)
    assert two.low >= one.low * (1 - 1e-9)
    assert two.high <= one.high * (1 + 1e-9)


@given(LINEAR, QUADRATIC, LENGTHS)
def test_two_probes_without_scatter_give_the_truth(a: float, b: float, tokens: int) -> None:
    model = learned(*((n, a * n + b * n * n) for n in (1000, 100_000)))
    expected = predicted(model, tokens).expected
    assert expected == pytest.approx(a * tokens + b * tokens**2, rel=1e-3)


@given(
    st.lists(st.tuples(LENGTHS, st.floats(1e-3, 1e4)), min_size=1, max_size=8),
    LENGTHS,
)
def test_probes_that_contradict_each_other_still_give_ordered_bounds(
    probes: list[tuple[int, float]], tokens: int
) -> None:
    low, expected, high = predicted(learned(*probes), tokens)
    assert 0 < low <= expected <= high


def test_of_probes_that_contradict_each_other_the_nearest_is_trusted() -> None:
    model = learned((1000, 100.0), (8000, 8.0))
    low, _, high = predicted(model, 8000)
    assert (low, high) == (pytest.approx(8 / 1.15), pytest.approx(8 * 1.15))


def test_patience_is_three_times_the_worst_prediction_and_at_least_a_minute() -> None:
    model = learned((1000, 10.0))
    assert model.first_token_patience_s(1000) == 60
    assert model.first_token_patience_s(4000) == pytest.approx(3 * 160 * 1.15)


def test_decode_is_predicted_at_the_slowest_rate_seen() -> None:
    model = PrefillModel()
    model.learn(1000, 1.0, 0.02)
    model.learn(2000, 2.0, 0.05)
    model.learn(4000, 4.0, None)
    assert model.predict_decode_s(200) == pytest.approx(10)


def test_patience_between_tokens_follows_the_slowest_rate() -> None:
    model = PrefillModel()
    assert model.between_tokens_patience_s() == 60
    model.learn(1000, 1.0, 4.0)
    assert model.between_tokens_patience_s() == 200
