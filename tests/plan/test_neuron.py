from __future__ import annotations

from typing import Any

import pytest

from leadline.errors import PlanError
from leadline.plan.architecture import load_model
from leadline.plan.deployment import plan_deployment
from leadline.plan.neuron import find_neuron_release, list_buckets
from leadline.plan.schema import Plan

LLAMA = load_model("meta-llama/Llama-3.3-70B-Instruct")
KERNEL = {"attn_tkg_nki_kernel_enabled": True}


def plan(length: int, batch: int, override: dict[str, Any] | None = None, **settings: Any) -> Plan:
    given = {"tensor_parallel_size": 64, "max_num_seqs": batch, **settings}
    if override:
        given["additional_config"] = {"override_neuron_config": override}
    return plan_deployment(
        LLAMA, "trn2.48xlarge", "vllm-neuron==0.4.1", settings=given, max_model_len=length
    )


def plan_plain(length: int, batch: int) -> Plan:
    """As the kit's runs without prefix caching, whose errors are those of the kernel."""
    return plan(length, batch, KERNEL, enable_prefix_caching=False)


def plan_cached(length: int, batch: int, blocks: int, block: int) -> Plan:
    return plan(
        length,
        batch,
        enable_prefix_caching=True,
        block_size=block,
        num_gpu_blocks_override=blocks,
    )


# All 14 rows of the kit's three tables: what happened, and how the answer is known.
PLAIN_ROWS = [
    (16_384, 1, "fits(1)", "derived"),
    (32_768, 1, "fits(1)", "derived"),
    (65_536, 1, "fits(1)", "recorded"),
    (131_072, 1, "compile_fail", "derived"),
    (65_536, 2, "bucket_missing", "derived"),
    (65_536, 3, "fits(3)", "recorded"),
    (65_536, 4, "bucket_missing", "derived"),
]
CACHED_ROWS = [
    (8_192, 4, 2048, 32, "fits(4)"),
    (16_384, 4, 4096, 32, "start_fail"),
    (16_384, 2, 1024, 64, "fits(2)"),
    (32_768, 4, 8192, 32, "start_fail"),
    (65_536, 1, 2048, 32, "compile_fail"),
    (65_536, 2, 4096, 32, "compile_fail"),
]


@pytest.mark.parametrize(("length", "batch", "verdict", "kind"), PLAIN_ROWS)
def test_rows_without_prefix_caching(length: int, batch: int, verdict: str, kind: str) -> None:
    answer = plan_plain(length, batch)
    assert answer.verdict == verdict
    if answer.binding:
        assert answer.binding.kind == kind
    else:
        # A bucket of 128 with an odd batch: it ran, against the published kernel's rule.
        assert any("recorded to run" in warning for warning in answer.warnings)


@pytest.mark.parametrize(("length", "batch", "blocks", "block", "verdict"), CACHED_ROWS)
def test_rows_with_prefix_caching(
    length: int, batch: int, blocks: int, block: int, verdict: str
) -> None:
    answer = plan_cached(length, batch, blocks, block)
    assert answer.verdict == verdict
    if answer.binding:
        kind = "recorded" if verdict == "compile_fail" else "calibrated"
        assert answer.binding.kind == kind


def test_the_row_counted_twice_is_the_same_run() -> None:
    """64K at batch 1 stands in both the length and the batch table: 14 rows, 13 runs."""
    assert len(PLAIN_ROWS) + len(CACHED_ROWS) == 13


@pytest.mark.parametrize(
    ("length", "cached", "graphs"),
    [
        (16_384, False, 16),
        (32_768, False, 18),
        (65_536, False, 20),
        (8_192, True, 36),
        (16_384, True, 49),
        (32_768, True, 64),
        (65_536, True, 81),
    ],
)
def test_default_graph_counts(length: int, cached: bool, graphs: int) -> None:
    assert list_buckets(length, {}, cached=cached).graphs == graphs


def test_the_tutorials_buckets_make_25_graphs() -> None:
    override = {
        "context_encoding_buckets": [512, 1024, 2048, 4096, 8192],
        "prefix_buckets": [512, 1024, 2048],
        "token_generation_buckets": [512, 1024, 2048, 4096, 8192],
    }
    assert list_buckets(8192, override, cached=True).graphs == 25


def test_core_memory_of_the_70b() -> None:
    answer = plan_cached(8_192, 4, 2048, 32)
    gib = {term.name: term.gib for term in answer.memory.terms}
    assert answer.kv.bytes_per_token_per_gpu == 40_960
    assert gib["KV cache"] == 2.5
    assert gib["weights"] == pytest.approx(2.33, abs=0.01)
    assert gib["gather scratch"] == 1.25
    kinds = {term.name: term.kind for term in answer.memory.terms}
    assert kinds["compiled graphs"] == "calibrated"


def test_sbuf_arithmetic_of_128k() -> None:
    finding = plan_plain(131_072, 1).binding
    assert finding is not None
    assert "256.0 KB" in finding.reason
    assert "224.0 KB" in finding.reason
    assert "114,688" in finding.amount


@pytest.mark.parametrize(
    ("length", "batch", "override"),
    [
        # Batches 2 and 4 with buckets from 256; contexts of 96K and 112K; pruned lists.
        (65_536, 2, KERNEL | {"token_generation_buckets": [256, 1024, 8192, 65_536]}),
        (65_536, 4, KERNEL | {"token_generation_buckets": [256, 1024, 8192, 65_536]}),
        (98_304, 1, KERNEL | {"token_generation_buckets": [256, 8192, 98_304]}),
        (114_688, 1, KERNEL | {"token_generation_buckets": [256, 8192, 114_688]}),
        (131_072, 1, {}),
    ],
)
def test_untried_settings_that_the_rules_let_pass(
    length: int, batch: int, override: dict[str, Any]
) -> None:
    assert plan(length, batch, override, enable_prefix_caching=False).verdict == f"fits({batch})"


def test_pruned_buckets_let_32k_with_prefix_caching_load() -> None:
    lengths = [2048, 8192, 32_768]
    override = {
        "context_encoding_buckets": lengths,
        "prefix_buckets": lengths,
        "token_generation_buckets": lengths,
    }
    answer = plan(32_768, 4, override, block_size=32, num_gpu_blocks_override=4096)
    assert answer.verdict == "fits(4)"
    assert answer.memory.margin_gib > 4


@pytest.mark.parametrize(
    ("settings", "override", "code", "flag"),
    [
        ({}, None, "start_fail", "block_size"),
        ({"block_size": 32, "num_gpu_blocks_override": 100}, None,
         "start_fail", "num_gpu_blocks_override"),
        ({"block_size": 32}, {"context_encoding_buckets": [512, 8192]},
         "bucket_missing", "prefix_buckets"),
        ({"enable_prefix_caching": False, "tensor_parallel_size": 48}, None,
         "invalid_parallelism", "tensor_parallel_size"),
    ],
)  # fmt: skip
def test_rules_of_the_plugin(
    settings: dict[str, Any], override: dict[str, Any] | None, code: str, flag: str
) -> None:
    answer = plan(8192, 1, override, **settings)
    assert answer.verdict == code
    assert answer.binding is not None
    assert answer.binding.flag == flag


@pytest.mark.parametrize("version", ["0.4.1", "2.28.0", "0.13.0"])
def test_a_version_names_its_package_tuple(version: str) -> None:
    release = find_neuron_release(version)
    assert (release.sdk, release.vllm, release.generation) == ("2.28", "0.13.0", 1)


def test_what_is_not_modelled_is_refused() -> None:
    with pytest.raises(PlanError, match="generation 2"):
        plan_deployment(LLAMA, "trn2.48xlarge", "vllm-neuron==0.24.0.1.1.0")
    with pytest.raises(PlanError, match="no vllm-neuron"):
        plan_deployment(LLAMA, "trn2.48xlarge", "vllm-neuron==9.9")
    with pytest.raises(PlanError, match="no Neuron cores"):
        plan_deployment(LLAMA, "8xH100", "neuron==0.4.1")
