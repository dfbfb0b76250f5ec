"""What is wrong with a claim, with the arithmetic that shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

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
