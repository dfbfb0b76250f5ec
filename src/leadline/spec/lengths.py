"""How long prompts and answers are: one number, or a distribution for the requests of a load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from leadline.spec.frozen import MAX, Frozen, TokenCount
from leadline.units import parse_tokens

LENGTH_KINDS = ("fixed", "list", "uniform", "lognormal")


class Uniform(Frozen):
    """Every length between the two is equally likely."""

    uniform: tuple[TokenCount, TokenCount]

    @model_validator(mode="after")
    def _in_order(self) -> Uniform:
        if self.uniform[0] > self.uniform[1]:
            raise ValueError("uniform: write the shorter length first")
        return self

    @property
    def longest(self) -> int:
        return self.uniform[1]

    def __str__(self) -> str:
        return f"uniform {self.uniform[0]}-{self.uniform[1]}"


class LognormalShape(Frozen):
    median: TokenCount
    sigma: Annotated[float, Field(gt=0, le=5)]
    """Of the length's natural logarithm: with 1.0, two thirds are within median / e and median * e.
    """
    low: TokenCount
    high: TokenCount
    """No length outside is drawn, and none piles up at the limits."""

    @model_validator(mode="after")
    def _in_order(self) -> LognormalShape:
        if not self.low <= self.median <= self.high:
            raise ValueError("lognormal: low <= median <= high must hold")
        return self


class Lognormal(Frozen):
    """Many short requests and a long tail, as real traffic has."""

    lognormal: LognormalShape

    @property
    def longest(self) -> int:
        return self.lognormal.high

    def __str__(self) -> str:
        shape = self.lognormal
        return f"lognormal {shape.median} ({shape.low}-{shape.high}, sigma {shape.sigma:g})"


Distribution: TypeAlias = tuple[TokenCount, ...] | Uniform | Lognormal


def _tokens_or_max(value: object) -> int | str:
    return MAX if value == MAX else parse_tokens(value)  # type: ignore[arg-type]


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "list"
    if isinstance(value, Mapping):
        return "lognormal" if "lognormal" in value else "uniform"
    if isinstance(value, Uniform | Lognormal):
        return type(value).__name__.lower()
    return "fixed"


_Several = Annotated[tuple[TokenCount, ...], Field(min_length=1), Tag("list")]
_Spread = Annotated[Uniform, Tag("uniform")] | Annotated[Lognormal, Tag("lognormal")]

InputLength = Annotated[
    Annotated[int | Literal["max"], BeforeValidator(_tokens_or_max), Tag("fixed")]
    | _Several
    | _Spread,
    Discriminator(_kind),
]
OutputLength = Annotated[
    Annotated[int, BeforeValidator(parse_tokens), Tag("fixed")] | _Several | _Spread,
    Discriminator(_kind),
]


def longest(length: int | Literal["max"] | Distribution) -> int | Literal["max"]:
    """The longest that can come; what is planned for."""
    if isinstance(length, tuple):
        return max(length)
    return length.longest if isinstance(length, Uniform | Lognormal) else length


def show_length(length: int | Literal["max"] | Distribution) -> str:
    """In the name of a cell."""
    return "+".join(map(str, length)) if isinstance(length, tuple) else str(length)
