"""Start-up estimates: recorded starts, scaled by the weights."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from leadline.plan.deployment import plan_deployment
from leadline.plan.schema import Plan
from leadline.plan.startup import estimate_start

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
LLAMA = "meta-llama/Llama-3.3-70B-Instruct"


def plan(
    model: str = SCOUT, hardware: str = "8xH200", engine: str = "vllm==0.12.0", **settings: int
) -> Plan:
    tensor = 64 if engine.startswith("neuron") else 8
    return plan_deployment(
        model, hardware, engine, settings={"tensor_parallel_size": tensor, **settings}
    )


def test_scout_on_eight_h200_takes_minutes_as_the_kit_saw() -> None:
    """The kit: about 8 minutes of loading and 10 in all, from a network disk."""
    seconds = estimate_start(plan())
    assert 30 < seconds.low < seconds.expected < 600 < 2 * seconds.high < 1500


def test_every_recorded_start_lies_within_its_estimate() -> None:
    rows = json.loads((resources.files("leadline.catalog") / "startup.json").read_text())["starts"]
    base = plan()
    for row in rows:
        memory = base.memory.model_copy(update={"weights_gib": row["weights_gib_per_rank"]})
        like = base.model_copy(update={"memory": memory, "gpus": row["ranks"]})
        seconds = estimate_start(like)
        took = row["prepare_s"] + row["load_s"] + row["init_s"]
        assert seconds.low <= took <= seconds.high, row["log"]


def test_the_weights_are_read_once_whatever_the_ranks() -> None:
    eight, sixteen = plan(), plan(hardware="2x8xH200", tensor_parallel_size=16)
    assert estimate_start(sixteen).expected == pytest.approx(estimate_start(eight).expected, 0.02)


def test_neuron_compiles_for_minutes_to_an_hour() -> None:
    seconds = estimate_start(plan(LLAMA, "trn2.48xlarge", "neuron==0.4.1", max_model_len=16384))
    assert seconds.kind == "prior"
    assert seconds.high > 3600
