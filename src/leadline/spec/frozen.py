"""What all parts of a campaign file are made of."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from leadline.units import parse_tokens

MAX = "max"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"

TokenCount = Annotated[int, BeforeValidator(parse_tokens)]
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def nearest(word: str, known: Mapping[str, Any]) -> str:
    """A hint for a word that is not known."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
