"""What is hidden in a haystack, and how it is asked for.

Wording after RULER's niah_single_1 (number needle, completion-style answer prefix): base models
and small instruct models answer it alike.
"""

from __future__ import annotations

import random
from typing import NamedTuple

_NAMES = ("leadline", "harbour", "anchor", "lantern", "compass", "tiller", "rudder", "mainsail")
NAMED = 64
"""Needles that a prompt may have."""


class Hidden(NamedTuple):
    name: str
    answer: str

    @property
    def statement(self) -> str:
        return f"\nOne of the special magic numbers for {self.name} is: {self.answer}.\n"


def draw_needles(rng: random.Random, count: int, first_name: int = 0) -> list[Hidden]:
    """Distinct names with five-digit answers; one is guessed once in 90,000 times."""
    names = map(needle_name, range(first_name, first_name + count))
    return [Hidden(name, str(rng.randrange(10_000, 100_000))) for name in names]


def needle_name(number: int) -> str:
    return _NAMES[number % len(_NAMES)] + (str(number) if number >= len(_NAMES) else "")


def answer_tokens(count: int) -> int:
    """What an answer may need: a sentence before it, and each number, a token for each digit.

    Fewer, and a chatty model is cut before its number, which looks like a lack of recall.
    """
    return 16 + 8 * count


def question(hidden: list[Hidden]) -> str:
    """The end of the prompt; empty if nothing is hidden."""
    if not hidden:
        return ""
    names = ", ".join(needle.name for needle in hidden)
    if len(hidden) == 1:
        return f"\nThe special magic number for {names} mentioned in the provided text is:"
    return (
        f"\nThe special magic numbers for {names} mentioned in the provided text are, "
        "in this order:"
    )
