"""Where a search starts and which levels it knows: by file, by plan, by the server's own words."""

from __future__ import annotations

from typing import Any

import pytest

from leadline.campaign.foretell import Known, fit_window, open_search
from leadline.errors import SpecError
from leadline.plan.local_memory import LocalPlan, MemoryTerm
from leadline.plan.time import PrefillModel
from leadline.spec import Campaign

MIB = 2**20


def make_known(
    search: dict[str, Any],
    settings: dict[str, Any] | None = None,
    workload: dict[str, Any] | None = None,
    local: LocalPlan | None = None,
    times: PrefillModel | None = None,
    **campaign: Any,
) -> Known:
    deployment = {"engine": "llamacpp", "settings": settings or {}, **campaign.pop("x", {})}
    read = Campaign.model_validate(
        {
            "name": "s",
            "model": "tiny",
            "deployments": {"x": deployment},
            "workload": {"output_tokens": 8, **(workload or {})},
            "search": search,
            **campaign,
        }
    )
    assert read.search
    (cell,) = read.cells()
    return Known(read, read.search, cell, local, None, times or PrefillModel())


def of_file(ctx_size: int, trained: int = 8192, free_mib: int = 1000) -> LocalPlan:
    """Weights of 100 MiB, and 1 MiB for each token."""
    terms = (("weights", 100 * MIB), ("KV cache", ctx_size * MIB))
    return LocalPlan(
        verdict="fits",
        window_tokens=ctx_size,
        trained_tokens=trained,
        available_bytes=free_mib * MIB,
        terms=tuple(
            MemoryTerm(name=name, size_bytes=size, formula="", source="", kind="derived")
            for name, size in terms
        ),
    )


POOL = {"ctx_size": 1024, "parallel": 4}
LENGTH = {"maximise": "input_tokens"}


@pytest.mark.parametrize(
    ("settings", "users", "start"),
    [
        (POOL, 2, 256 - 8),  # each slot has an equal part, whoever uses it
        (POOL | {"kv_unified": True}, 2, 512 - 8),
        (POOL | {"kv_unified": True}, 4, 256 - 8),
    ],
)
def test_what_slots_share_is_divided_by_those_who_share_it(
    settings: dict[str, Any], users: int, start: int
) -> None:
    workload = {"load": {"users": users}}
    facts = open_search(make_known(LENGTH, settings, workload, of_file(1024)))
    assert (facts["start"], facts["highest"], facts["step"]) == (start, 2 * start, 1)
    assert facts["beside"] == users


def test_users_are_as_many_as_the_pool_holds() -> None:
    known = make_known(
        {"maximise": "concurrency"},
        POOL | {"parallel": 8, "kv_unified": True},
        {"input_tokens": 192},
        of_file(1024),
    )
    facts = open_search(known)
    assert (facts["start"], facts["resolution"], facts["beside"]) == (5, 1, 192)


def test_a_window_that_follows_is_bounded_by_memory_and_rounded_as_the_engine_does() -> None:
    search = {**LENGTH, "window": "follows"}
    known = make_known(search, {"parallel": 2}, None, of_file(64))
    facts = open_search(known)
    assert facts["foretold"] == 900 // 2 - 8
    assert facts["step"] == 256
    assert (facts["start"] + 8) % 256 == 0
    assert fit_window(known, 248) == {"ctx_size": 512}
    assert fit_window(known, 249) == {"ctx_size": 1024}
    short = open_search(make_known(search, {}, None, of_file(64, trained=512)))
    assert short["foretold"] == 512 - 8


def test_a_gate_on_time_shortens_the_start_to_what_the_probes_foretell() -> None:
    times = PrefillModel()
    times.learn(100, 1.0)
    times.learn(200, 2.0)
    gates = {"ttft_s": "<= 5"}
    facts = open_search(make_known(LENGTH, {}, None, of_file(1024), times, gates=gates))
    assert facts["foretold"] == 1016
    assert facts["start"] == pytest.approx(500, abs=2)
    assert "within 5 s" in facts["source"]


def test_the_plan_of_model_and_hardware_is_asked_where_there_is_one() -> None:
    engine = {"engine": "vllm==0.12.0", "settings": {"tensor_parallel_size": 8}}
    places = {"hardware": "8xH200", "model": "meta-llama/Llama-4-Scout-17B-16E-Instruct"}
    alone = open_search(
        make_known(LENGTH, None, None, x=engine | {"settings": engine["settings"]}, **places)
    )
    both = open_search(make_known(LENGTH, None, {"load": {"users": 4}}, x=engine, **places))
    assert "vllm==0.12.0 on" in both["source"] or "vllm" in both["source"]
    assert both["start"] < alone["start"]
    users = open_search(
        make_known({"maximise": "concurrency"}, None, {"input_tokens": 100_000}, x=engine, **places)
    )
    assert users["start"] > 1


def test_neuron_is_asked_at_its_buckets_alone() -> None:
    override = {"context_encoding_buckets": [1024, 4096, 8192]}
    settings = {
        "max_model_len": 8192,
        "additional_config": {"override_neuron_config": override},
    }
    known = make_known(
        {**LENGTH, "high": 8192}, settings, x={"engine": "neuron==0.4.1", "settings": settings}
    )
    facts = open_search(known)
    assert facts["levels"] == [1024, 4096, 8192 - 8]


def test_own_levels_are_kept_and_nothing_known_is_said() -> None:
    facts = open_search(make_known({**LENGTH, "levels": [10, 20, 40]}, POOL, None, of_file(100)))
    assert (facts["levels"], facts["start"]) == ([10, 20, 40], 10)
    with pytest.raises(SpecError, match="nothing foretells"):
        open_search(make_known(LENGTH))
