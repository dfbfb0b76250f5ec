"""Thresholds that turn measures into a verdict, and limits of patience."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from leadline.spec.frozen import Frozen

_START_S = 600.0


class Timeouts(Frozen):
    """Limits in seconds; where left out they follow from the plan."""

    start_s: Annotated[float, Field(gt=0)] | None = None
    """Default: what the plan allows a container (twice its slowest start, and never less than 20
    minutes); without a plan 600 s."""
    first_token_s: Annotated[float, Field(gt=0)] | None = None
    between_tokens_s: Annotated[float, Field(gt=0)] | None = None

    def limit_start(self, planned_s: float = _START_S) -> float:
        return planned_s if self.start_s is None else self.start_s


_GATE = re.compile(r"\s*(?P<op><=|>=|<|>)\s*(?P<plan>plan\s*\*\s*)?(?P<number>\d+(?:\.\d+)?)\s*")
GateOp = Literal["<=", ">=", "<", ">"]


class Gate(Frozen):
    """A threshold on a measure: ``<= 2.5``, ``>= 0.95`` or ``<= plan * 1.3``."""

    op: GateOp
    number: float
    times_plan: bool = False

    def __str__(self) -> str:
        return f"{self.op} {'plan * ' if self.times_plan else ''}{self.number:g}"


def _gate(value: object) -> object:
    if isinstance(value, Gate | Mapping):
        return value
    match = _GATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a gate; write '<= 2.5', '>= 0.95' or '<= plan * 1.3'")
    return {
        "op": match["op"],
        "number": float(match["number"]),
        "times_plan": match["plan"] is not None,
    }


GateText = Annotated[Gate, BeforeValidator(_gate)]


class Gates(Frozen):
    recall: GateText | None = None
    ttft_s: GateText | None = None
    tpot_s: GateText | None = None
    e2e_s: GateText | None = None
    within_goals: GateText | None = None
    """Share of a load's requests that were answered within all of its goals."""
