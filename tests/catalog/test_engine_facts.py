"""The facts against what two real engines' own parsers said (recorded on CPU builds)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadline.catalog.engine_facts import load_facts
from leadline.errors import PlanError

DATA = Path(__file__).parents[1] / "data"

# Choices that vLLM works out from the platform, or takes away again, when it runs.
RUNTIME_CHOICES = {"collect_detailed_traces", "mm_processor_device", "all2all_backend"}
# An enumeration's member, and a set, which JSON does not have.
SHOWN_OTHERWISE = {"mamba_backend", "optimization_level", "cpu_offload_params", "offload_params"}


@pytest.fixture(scope="module")
def vllm_options() -> dict:
    return json.loads((DATA / "vllm-0.32.0-options.json").read_text())


def test_vllm_knows_every_option_of_the_real_parser(vllm_options: dict) -> None:
    facts = load_facts("vllm").names("cli", "0.32.0")
    assert len(vllm_options) == 316
    assert set(facts) == set(vllm_options)
    assert {n: sorted(a.flags) for n, a in facts.items()} == {
        n: o["flags"] for n, o in vllm_options.items()
    }


def test_vllm_kinds_and_lists_are_the_real_parsers(vllm_options: dict) -> None:
    facts = load_facts("vllm").names("cli", "0.32.0")
    assert {n for n, a in facts.items() if a.kind == "boolean"} == {
        n for n, o in vllm_options.items() if o["boolean"]
    }
    assert {n for n, a in facts.items() if a.many} == {
        n for n, o in vllm_options.items() if o["many"]
    }


def test_vllm_numbers_that_may_be_written_with_a_suffix() -> None:
    known = load_facts("vllm").names("cli", "0.32.0")
    assert {name for name, argument in known.items() if argument.kind == "size"} == {
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_scheduled_tokens",
        "kv_cache_memory_bytes",
        "safetensors_prefetch_block_size",
        "max_num_queued_tokens",
    }


def test_vllm_defaults_are_the_real_parsers(vllm_options: dict) -> None:
    facts = load_facts("vllm").names("cli", "0.32.0")
    known = {n: a for n, a in facts.items() if a.has_default and n not in SHOWN_OTHERWISE}
    assert len(known) > 290
    assert {n: repr(a.default) for n, a in known.items()} == {
        n: vllm_options[n]["default"] for n in known
    }


def test_vllm_choices_are_the_real_parsers(vllm_options: dict) -> None:
    facts = load_facts("vllm").names("cli", "0.32.0")
    real = {
        n: sorted(set(o["choices"]) - {"None"})
        for n, o in vllm_options.items()
        if o["choices"] and n not in RUNTIME_CHOICES
    }
    assert len(real) == 40
    assert {n: sorted(map(str, facts[n].choices)) for n in real} == real


def test_sglang_knows_every_option_of_the_real_parser() -> None:
    rows = (DATA / "sglang-0.5.6.post2-options.txt").read_text().splitlines()
    real = {tuple(sorted(row.split(" = ")[0].split())): row.split(" = ", 1)[1] for row in rows}
    facts = load_facts("sglang").names("cli", "0.5.6.post2")
    ours = {tuple(sorted(a.flags)): a for a in facts.values()}
    assert len(real) == 292
    assert set(ours) == set(real)
    switches = {"('--enable-lora',)", "('--enable-multimodal',)"}
    differing = {str(f) for f, a in ours.items() if str(a.default) != real[f]}
    assert differing == switches  # the parser's own default of a switch; ServerArgs says None


@pytest.mark.parametrize(
    ("name", "last", "removed"),
    [
        ("device", "0.9.2", "0.10.0"),
        ("use_v2_block_manager", "0.9.2", "0.10.0"),
        ("override_neuron_config", "0.10.1.1", "0.10.2"),
        ("task", "0.12.0", "0.13.0"),
        ("additional_config", "0.33.0", None),
    ],
)
def test_vllm_arguments_go_in_the_release_that_took_them(
    name: str, last: str, removed: str | None
) -> None:
    for surface, spelling in (("python", name), ("cli", f"--{name.replace('_', '-')}")):
        history = load_facts("vllm").history(surface, spelling)
        assert history is not None
        assert (history.last, history.removed) == (last, removed)


def test_an_option_that_only_changed_its_destination_was_never_gone() -> None:
    facts = load_facts("sglang")
    assert facts.history("cli", "--tensor-parallel-size").removed is None
    assert facts.destination("--tensor-parallel-size") == "tp_size"


def test_deprecated_since_the_first_release_that_says_so() -> None:
    facts = load_facts("vllm")
    assert facts.deprecated_since("cli", "--use-v2-block-manager", "0.9.2") == "0.6.3.post1"
    assert facts.deprecated_since("cli", "--max-model-len", "0.9.2") is None


def test_a_version_between_two_releases_is_the_older_one() -> None:
    facts = load_facts("sglang")
    assert facts.versions[facts.position("v0.5.6.post2-runtime")] == "0.5.6.post2"
    assert facts.is_newer_than_read("99.0")


@pytest.mark.parametrize("version", ["0.5.0", "newest"])
def test_a_version_that_cannot_be_looked_up_is_wrong_use(version: str) -> None:
    with pytest.raises(PlanError, match=r"older than the oldest|is not a version"):
        load_facts("vllm").position(version)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_release_names_its_file(engine: str) -> None:
    facts = load_facts(engine)
    assert all(facts.source(version) for version in facts.versions)
    assert len(facts.versions) > 60
