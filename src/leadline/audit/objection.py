"""What is wrong with a claim, with the arithmetic that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from leadline.audit.claims import Claim

Weight = Literal["wrong", "unsupported", "incomparable"]
"""wrong: the number is not what it is said to be; unsupported: it may be right, but what is offered
does not show it; incomparable: the two sides were not measured alike."""


class Objection(BaseModel):
    model_config = ConfigDict(frozen=True)

    code: str
    claim: str
    weight: Weight
    said: str
    arithmetic: str
    right: str
    """What the value is, or what would show it."""
    source: str


Found = Iterator[Objection]


def raise_against(
    code: str, claim: Claim, weight: Weight, *, said: str, arithmetic: str, right: str, source: str
) -> Objection:
    return Objection(
        code=code,
        claim=claim.name,
        weight=weight,
        said=said,
        arithmetic=arithmetic,
        right=right,
        source=source,
    )
