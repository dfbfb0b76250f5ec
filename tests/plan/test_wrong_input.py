"""Options that cannot be meant: one message with its cure, never a traceback, never silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leadline.catalog.reading import read_config
from leadline.errors import PlanError
from leadline.plan.architecture import load_model
from leadline.plan.deployment import plan_deployment

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
LLAMA = "meta-llama/Llama-3.3-70B-Instruct"
ON_H200 = (SCOUT, "8xH200")
ON_TRN2 = (LLAMA, "trn2.48xlarge")


@pytest.mark.parametrize(
    ("where", "engine", "settings", "what"),
    [
        (ON_H200, "vllm==0.12.0", {"tensor_parallel_size": "abc"}, "tensor_parallel_size 'abc'"),
        (ON_H200, "vllm==0.12.0", {"tensor_parallel_size": 0}, "tensor_parallel_size 0"),
        (ON_H200, "vllm==0.12.0", {"tp": True}, "tp True"),
        (ON_H200, "vllm==0.12.0", {"tp": 10**12}, "more than any"),
        (ON_H200, "vllm==0.12.0", {"tensor-parallel-size": "-2"}, "'-2'"),
        (ON_H200, "vllm==0.12.0", {"gpu_memory_utilization": 9}, "gpu_memory_utilization 9"),
        (ON_H200, "vllm==0.12.0", {"gpu_memory_utilization": "nan"}, "'nan'"),
        (ON_H200, "vllm==0.12.0", {"gpu_memory_utilization": 0}, "gpu_memory_utilization 0"),
        (ON_H200, "vllm==0.12.0", {"max_num_seqs": 0}, "max_num_seqs"),
        (ON_H200, "vllm==0.12.0", {"block_size": "x"}, "block_size"),
        (ON_H200, "vllm==0.12.0", {"max_model_len": "foo"}, "'foo'"),
        (ON_H200, "vllm==0.12.0", {"cudagraph_capture_sizes": "1,x"}, "cudagraph_capture_sizes"),
        (ON_H200, "vllm==0.12.0", {"kv_cache_dtype": "fp7"}, "fp7"),
        (ON_H200, "sglang==0.5.6", {"tp_size": 0}, "tp_size 0"),
        (ON_H200, "sglang==0.5.6", {"tp": "x"}, "tp 'x'"),
        (ON_H200, "sglang==0.5.6", {"mem_fraction_static": 1.5}, "mem_fraction_static"),
        (ON_H200, "sglang==0.5.6", {"context_length": "long"}, "context_length"),
        (ON_H200, "sglang==abc", {}, "not a version"),
        (ON_H200, "neuron==0.4.1", {}, "does not run on H200"),
        (ON_TRN2, "neuron==0.4.1", {"tensor_parallel_size": "many"}, "tensor_parallel_size"),
        (ON_TRN2, "neuron==0.4.1", {"additional_config": "{broken"}, "JSON"),
        (
            ON_TRN2,
            "neuron==0.4.1",
            {"additional_config": {"override_neuron_config": {"context_encoding_buckets": ["a"]}}},
            "bucket 'a'",
        ),
        (ON_TRN2, "neuron==0.4.1", {"max_model_len": "-1"}, "max_model_len"),
        (
            ON_TRN2,
            "neuron==0.4.1",
            {"additional_config": {"override_neuron_config": {"token_generation_buckets": 5}}},
            "not a list",
        ),
        (ON_TRN2, "neuron==9.9.9", {}, "9.9.9"),
        (ON_TRN2, "vllm==0.12.0", {}, "Neuron"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    where: tuple[str, str], engine: str, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(PlanError) as refused:
        plan_deployment(*where, engine, settings=settings)
    assert what in refused.value.what
    assert refused.value.cure
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("engine", ["vllm==0.12.0", "vllm==0.32.0", "sglang==0.5.6"])
def test_more_stages_than_layers_is_a_verdict(engine: str) -> None:
    flag = "pp_size" if engine.startswith("sglang") else "pipeline_parallel_size"
    plan = plan_deployment(*ON_H200, engine, settings={flag: 100})
    assert plan.verdict == "invalid_parallelism"


@pytest.mark.parametrize(
    ("where", "engine", "name", "nearest"),
    [
        (ON_H200, "vllm==0.12.0", "tensor_paralel_size", "tensor_parallel_size"),
        (ON_H200, "sglang==0.5.6", "mem_fraction_statik", "mem_fraction_static"),
        (ON_TRN2, "neuron==0.4.1", "max_num_seq", "max_num_seqs"),
        (ON_TRN2, "neuron==0.24.0", "max_num_seq", "max_num_seqs"),
    ],
)
def test_a_misspelt_setting_is_warned_of(
    where: tuple[str, str], engine: str, name: str, nearest: str
) -> None:
    plan = plan_deployment(*where, engine, settings={name: 8})
    assert any(repr(name) in text and f"nearest is {nearest}" in text for text in plan.warnings)


def test_a_setting_that_exists_and_is_not_planned_is_named() -> None:
    plan = plan_deployment(*ON_H200, "vllm==0.12.0", settings={"swap_space": 4, "seed": 1})
    assert "not looked at by the plan: seed, swap_space" in plan.warnings


def test_lists_are_read_as_a_command_line_writes_them() -> None:
    for sizes in ("1 2 64", "[1, 2, 64]", [1, 2, 64]):
        plan = plan_deployment(
            "Qwen/Qwen3-8B", "H100", "vllm==0.12.0", settings={"cudagraph_capture_sizes": sizes}
        )
        graphs = next(term for term in plan.memory.terms if term.name == "CUDA graphs")
        assert "captured batch 64" in graphs.formula


@pytest.mark.parametrize("text", ["not json", '{"model_type": "llama"}', "[]", '{"model_type": 3}'])
def test_a_file_that_describes_no_model_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(PlanError) as refused:
        load_model(path)
    assert refused.value.cure


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"config\.json"):
        load_model(tmp_path)


def test_a_config_of_wrong_types_is_refused(tmp_path: Path) -> None:
    config = dict(read_config("Qwen3-8B")) | {"hidden_size": "wide"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(PlanError):
        load_model(path)
