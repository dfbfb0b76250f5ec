"""Published points beside the 44 logs: tokens and concurrency, and everything that failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leadline.plan.deployment import plan_deployment

DATA = Path(__file__).parent / "data"
POINTS: list[dict[str, Any]] = json.loads((DATA / "points.json").read_text())
NEGATIVES: list[dict[str, Any]] = json.loads((DATA / "negatives.json").read_text())


@pytest.mark.parametrize("point", POINTS, ids=lambda point: str(point["id"]))
def test_tokens_and_concurrency(point: dict[str, Any]) -> None:
    kv = plan_deployment(**point["ask"]).kv
    for name, value in point["expect"].items():
        assert getattr(kv, name) == pytest.approx(value, rel=5e-3), name


@pytest.mark.parametrize("point", NEGATIVES, ids=lambda point: str(point["id"]))
def test_what_failed_is_classified(point: dict[str, Any]) -> None:
    """Where the settings cannot tell, the note says so, and the verdict is not made up."""
    plan = plan_deployment(**point["ask"])
    assert plan.verdict.split("(")[0] == point["expect"]["verdict"]
    if point["expect"]["verdict"] == "fits":
        assert point["note"].startswith("not predictable")
