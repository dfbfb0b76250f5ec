"""A memory ledger: one line per term, with its formula, its source and how sure it is."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict

from leadline.units import GIB

Kind = Literal["derived", "calibrated", "recorded", "prior"]
"""derived: follows from formulas read in the engine; calibrated: fitted on logs; recorded: stated
by an engine's log or by the user; prior: assumed from elsewhere."""


class Term(BaseModel):
    """One line of memory of one device (or, where ``place`` is host, of one node)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    gib: float
    inside_budget: bool
    """Whether the engine subtracts it from its budget before it sizes the KV cache."""
    kind: Kind
    formula: str
    source: str
    uncertainty_gib: float = 0.0
    place: Literal["device", "host"] = "device"


@lru_cache(maxsize=4096)
def make_term(
    name: str,
    size_bytes: float,
    *,
    kind: Kind,
    formula: str,
    source: str,
    inside: bool = True,
    uncertainty_bytes: float = 0.0,
    place: Literal["device", "host"] = "device",
) -> Term:
    return Term(
        name=name,
        gib=size_bytes / GIB,
        inside_budget=inside,
        kind=kind,
        formula=formula,
        source=source,
        uncertainty_gib=uncertainty_bytes / GIB,
        place=place,
    )


def sum_bytes(terms: list[Term], *, inside: bool) -> int:
    """Device bytes of the terms inside, or outside, the engine's budget."""
    wanted = [t for t in terms if t.inside_budget is inside and t.place == "device"]
    return int(sum(term.gib for term in wanted) * GIB)


def spread_bytes(terms: list[Term]) -> int:
    """Uncertainty of a sum of independent terms: the root of the sum of their squares."""
    return int(sum(term.uncertainty_gib**2 for term in terms) ** 0.5 * GIB)
