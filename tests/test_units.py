from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leadline.units import parse_bytes, parse_tokens, show_bytes, show_seconds, show_tokens

FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (4096, 4096),
        ("4096", 4096),
        (" 4096 ", 4096),
        ("1_000_000", 1_000_000),
        ("1,000,000", 1_000_000),
        ("10k", 10_000),
        ("10K", 10_240),
        ("1m", 1_000_000),
        ("1M", 1_048_576),
        ("2M", 2_097_152),
        ("1g", 1_000_000_000),
        ("1G", 1_073_741_824),
        ("1.5k", 1500),
        ("0.5K", 512),
        ("4096.0", 4096),
    ],
)
def test_token_count_is_read_with_the_suffixes_of_vllm(text: str | int, count: int) -> None:
    assert parse_tokens(text) == count


@pytest.mark.parametrize(
    "text", ["", "many", "10 k", "10kb", "-5", "1e3", "0x10", "k", "1.", "2Mi"]
)
def test_what_is_no_token_count_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(ValueError, match="token count") as refusal:
        parse_tokens(text)
    expected = f"{text!r} is not a token count; write 4096, 10k (10,000) or 2M (2^21)"
    assert str(refusal.value) == expected


@pytest.mark.parametrize("value", [True, None, [4096], 4096.5, float("nan"), float("inf")])
def test_values_of_other_types_are_no_token_count(value: object) -> None:
    with pytest.raises(ValueError, match="token"):
        parse_tokens(value)  # type: ignore[arg-type]


def test_a_fraction_of_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^.1\.5. is not a whole number of tokens$"):
        parse_tokens("1.5")


@pytest.mark.parametrize("value", [0, -1, "0", "0k"])
def test_a_count_below_one_is_refused(value: str | int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        parse_tokens(value)


@given(st.integers(1, 10**6), st.sampled_from(sorted(FACTORS)))
def test_whole_numbers_are_scaled_exactly(number: int, suffix: str) -> None:
    assert parse_tokens(f"{number}{suffix}") == number * FACTORS[suffix]


@given(st.integers(1, 10**6), st.integers(1, 3), st.sampled_from("kmg"))
@example(161, 1, "k")
@example(645, 1, "k")
def test_decimals_that_make_whole_tokens_are_never_refused(
    digits: int, places: int, suffix: str
) -> None:
    text = f"{digits // 10**places}.{digits % 10**places:0{places}d}{suffix}"
    assert parse_tokens(text) == Fraction(digits, 10**places) * FACTORS[suffix]


@given(st.integers(1, 10**18))
@example(9_007_199_254_740_993)
def test_a_count_survives_being_written_and_read(count: int) -> None:
    assert parse_tokens(str(count)) == count
    assert parse_tokens(show_tokens(count)) == count


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GiB", 24 * 2**30),
        ("24GB", 24 * 10**9),
        ("512 MiB", 512 * 2**20),
        ("512MB", 512 * 10**6),
        ("1KiB", 1024),
        ("1TB", 10**12),
        ("1TiB", 2**40),
        ("7B", 7),
        ("1.5GiB", 3 * 2**29),
        ("1.001GB", 1_001_000_000),
    ],
)
def test_binary_and_decimal_sizes_are_never_mixed(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["24", "24G", "24 gib", "GiB", "-1GB", ""])
def test_a_size_without_an_exact_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write 24GiB, 24GB or 512MiB"):
        parse_bytes(text)


def test_token_counts_are_shown_exactly() -> None:
    assert show_tokens(2_097_152) == "2,097,152"
    assert show_tokens(7) == "7"


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1000, "1,000 B"),
        (1023, "1,023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1023 * 2**20, "1,023 MiB"),
        (24 * 2**30, "24 GiB"),
        (999.9 * 2**30, "1,000 GiB"),
        (2048 * 2**30, "2,048 GiB"),
        (89.714 * 2**30, "89.7 GiB"),
    ],
)
def test_sizes_are_shown_in_binary_units_without_exponents(size: float, shown: str) -> None:
    assert show_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.038, "38 ms"),
        (0.9999, "1 s"),
        (1, "1 s"),
        (4.23, "4.23 s"),
        (99.94, "99.9 s"),
        (99.96, "1 min 40 s"),
        (100, "1 min 40 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (4320, "1 h 12 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations_are_shown_the_way_engineers_read_them(seconds: float, shown: str) -> None:
    assert show_seconds(seconds) == shown


@given(st.floats(0, 10**7))
def test_no_duration_is_shown_with_an_exponent(seconds: float) -> None:
    if seconds == 0 or seconds > 1e-6:
        assert "e+" not in show_seconds(seconds)


@given(st.floats(0, 2**60))
def test_no_size_is_shown_with_an_exponent(size: float) -> None:
    assert "e+" not in show_bytes(size)
