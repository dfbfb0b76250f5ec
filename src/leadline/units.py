"""Token counts, bytes and durations: parsed strictly, printed the way engineers read them."""

from __future__ import annotations

import re
from fractions import Fraction

_TOKENS = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<suffix>[kmgKMG]?)")
# vLLM's own suffixes: lower case decimal, upper case binary.
_TOKEN_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}

_BYTES = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]i?B|B)")
_BYTE_FACTORS = {"B": 1} | {
    f"{letter}{infix}B": base**power
    for power, letter in enumerate("KMGT", start=1)
    for infix, base in (("", 1000), ("i", 1024))
}

_DURATION = re.compile(
    r"(?:(?P<h>\d+(?:\.\d+)?)\s*h)?\s*(?:(?P<m>\d+(?:\.\d+)?)\s*m(?:in)?)?\s*"
    r"(?:(?P<s>\d+(?:\.\d+)?)\s*s)?"
)
_DURATION_FACTORS = {"h": 3600, "m": 60, "s": 1}

MIB = 2**20
GIB = 2**30


def parse_tokens(text: str | int) -> int:
    """A positive token count from ``4096``, ``"10k"`` (10,000) or ``"2M"`` (2,097,152).

    Raises ``ValueError`` with the accepted forms.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        count = text
    else:
        match = _TOKENS.fullmatch(str(text).strip().replace("_", "").replace(",", ""))
        if match is None:
            raise ValueError(
                f"{text!r} is not a token count; write 4096, 10k (10,000) or 2M (2^21)"
            )
        exact = Fraction(match["number"]) * _TOKEN_FACTORS[match["suffix"]]
        count = int(exact)
        if count != exact:
            raise ValueError(f"{text!r} is not a whole number of tokens")
    if count < 1:
        raise ValueError(f"{text!r} is not a token count: it must be at least 1")
    return count


def parse_bytes(text: str) -> int:
    """Bytes from ``"24GiB"`` (2^30 each) or ``"24GB"`` (10^9 each); never one for the other."""
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 24GiB, 24GB or 512MiB")
    return int(Fraction(match["number"]) * _BYTE_FACTORS[match["unit"]])


def parse_seconds(text: str | float) -> float:
    """Seconds from ``90``, ``"90s"``, ``"10m"``, ``"2h"`` or ``"1h30m"``."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    match = _DURATION.fullmatch(str(text).strip())
    parts = {unit: number for unit, number in match.groupdict().items() if number} if match else {}
    if not parts:
        raise ValueError(f"{text!r} is not a duration; write 90s, 10m, 2h or 1h30m")
    return float(sum(Fraction(number) * _DURATION_FACTORS[unit] for unit, number in parts.items()))


def show_tokens(count: int) -> str:
    """``2,097,152``: exact, because a rounded token count is how lengths go wrong."""
    return f"{count:,}"


def show_rate(per_second: float) -> str:
    """Three significant digits, never an exponent: ``45.2``, ``3,790``."""
    if per_second < 100:  # noqa: PLR2004
        return f"{per_second:.3g}"
    digits = max(0, len(str(int(per_second))) - 3)
    return f"{round(per_second, -digits):,.0f}"


def show_bytes(count: float) -> str:
    """Binary units, three digits: ``1.5 KiB``, ``1,023 MiB``, ``2,048 GiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1023.5:  # noqa: PLR2004  (else it would be shown as 1024)
            return f"{_three_digits(size)} {unit}"
        size /= 1024
    return f"{_three_digits(size)} GiB"


def show_seconds(seconds: float) -> str:
    """``38 ms``, ``4.2 s``, ``3 min 05 s``, ``1 h 12 min``."""
    if seconds < 0.9995:  # noqa: PLR2004  (else it would be shown as 1000 ms)
        return f"{_three_digits(seconds * 1000)} ms"
    if seconds < 99.95:  # noqa: PLR2004
        return f"{_three_digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def _three_digits(number: float) -> str:
    """Three significant digits, and never an exponent for a large number."""
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:,.0f}"  # noqa: PLR2004
