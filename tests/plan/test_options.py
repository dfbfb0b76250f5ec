from __future__ import annotations

import pytest

from leadline.errors import PlanError
from leadline.plan.options import is_on, spell_options


def test_names_are_spelled_and_json_is_parsed() -> None:
    given = {"--additional-config": '{"a": {"b": [1]}}', "tp": 8, " max-model-len ": "2M"}
    assert spell_options(given, {"tp": "tensor_parallel_size"}) == {
        "additional_config": {"a": {"b": [1]}},
        "tensor_parallel_size": 8,
        "max_model_len": "2M",
    }


def test_broken_json_is_refused() -> None:
    with pytest.raises(PlanError, match="additional_config is not JSON"):
        spell_options({"additional_config": "{broken"})


@pytest.mark.parametrize(
    ("value", "on"),
    [(True, True), ("1", True), ("ON", True), (False, False), (None, False), ("", False)],
)
def test_switches(value: object, on: bool) -> None:
    assert is_on(value) is on
