"""Parameter counts against the same models as transformers builds them, on the meta device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadline.plan.architecture import load_model
from leadline.plan.weights import count_parameters

RECORDED = json.loads((Path(__file__).parent / "data" / "meta_parameters.json").read_text())
# A routing bias for each expert of each sparse layer is stored in these checkpoints; transformers
# keeps it as a buffer and does not count it.
ROUTING_BIASES = {
    "MiniMaxAI/MiniMax-M2.5": 62 * 256,
    "deepseek-ai/DeepSeek-R1": 58 * 256,
    "deepseek-ai/DeepSeek-V3": 58 * 256,
    "zai-org/GLM-4.5-Air": 45 * 128,
}


@pytest.mark.parametrize("name", RECORDED["parameters"])
def test_parameters_are_exact(name: str) -> None:
    expected = RECORDED["parameters"][name] + ROUTING_BIASES.get(name, 0)
    assert count_parameters(load_model(name)) == expected
