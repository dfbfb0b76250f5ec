from __future__ import annotations

import sys
from typing import Any

import pytest

from leadline.engines.engine import LaunchRequest, engine_names, load_engine, pick
from leadline.engines.llamacpp import read_settings
from leadline.errors import SpecError
from leadline.launch import Launch


def launch(**changes: Any) -> Launch:
    facts: dict[str, Any] = {"model": "/m/tiny.gguf", "port": 9, "settings": {}, "env": {}}
    start = load_engine("llamacpp").launch
    assert start is not None
    return start(LaunchRequest(**facts | changes))


@pytest.mark.parametrize("name", engine_names())
def test_every_engine_of_the_table_loads_under_its_name_and_says_its_source(name: str) -> None:
    engine = load_engine(name)
    assert engine.name == name
    assert engine.source


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(SpecError) as refusal:
        load_engine("vlm")
    assert str(refusal.value) == (
        "engine: unknown engine 'vlm'\n  cure: use one of llamacpp, neuron, openai, sglang, vllm"
    )


@pytest.mark.parametrize(
    ("engine", "longest"), [("vllm", 7992), ("sglang", 7990), ("llamacpp", 7992)]
)
def test_the_longest_prompt_leaves_room_for_output_and_reserve(engine: str, longest: int) -> None:
    assert load_engine(engine).max_input_tokens(8192, 200) == longest


def test_sglangs_longest_prompt_is_bound_by_the_kv_pool_too() -> None:
    """Seen live: 32,761 of a window of 32,768; the answer cut to pool - 2 - input."""
    sglang = load_engine("sglang")
    assert sglang.max_input_tokens(32768, 1, pool_tokens=40000) == 32761
    assert sglang.max_input_tokens(32768, 100, pool_tokens=4096) == 3994
    assert sglang.max_input_tokens(32768, 100) == 32666


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b", 1),
        ("list.0.x", 2),
        ("list.1.x", None),
        ("list.x", None),
        ("a.b.c", None),
        ("none.x", None),
        ("missing", None),
    ],
)
def test_a_place_in_an_answer_is_found_or_none(path: str, value: int | None) -> None:
    answer = {"a": {"b": 1}, "list": [{"x": 2}], "none": None}
    assert pick(answer, path) == value


@pytest.mark.parametrize("answer", [None, 7, "text", []])
def test_an_answer_of_another_shape_has_no_such_place(answer: Any) -> None:
    assert pick(answer, "a.0") is None


def test_the_command_line_is_the_settings_under_their_own_names() -> None:
    found = launch(settings={"ctx_size": 8192, "cache_type_k": "q8_0"})
    assert found.argv == (
        *(sys.executable, "-m", "leadline.engines.llamacpp_server"),
        *("--model", "/m/tiny.gguf", "--alias", "tiny.gguf", "--port", "9"),
        *("--ctx-size", "8192", "--cache-type-k", "q8_0"),
    )
    assert found.served_model == "tiny.gguf"
    assert found.base_url == "http://127.0.0.1:9"


def test_a_switch_is_written_bare_and_left_out_when_off() -> None:
    assert launch(settings={"kv_unified": True}).argv[-1] == "--kv-unified"
    assert "--kv-unified" not in launch(settings={"kv_unified": False}).argv


def test_a_model_of_the_catalog_is_served_under_its_name() -> None:
    found = launch(model="smollm2")
    assert found.served_model == "smollm2"
    assert found.argv[4].endswith("/SmolLM2-135M-Instruct.Q4_1.gguf")


def test_waiting_threads_do_not_spin_unless_told_to() -> None:
    assert launch().env == {"OMP_WAIT_POLICY": "passive"}
    assert launch(env={"OMP_WAIT_POLICY": "active"}).env == {"OMP_WAIT_POLICY": "active"}


def test_token_counts_of_settings_take_suffixes() -> None:
    assert read_settings({"ctx_size": "8K", "threads": 2}) == {"ctx_size": 8192, "threads": 2}
    assert read_settings({"ctx_size": 0}) == {"ctx_size": 0}
    assert "8192" in launch(settings={"ctx_size": "8K"}).argv


@pytest.mark.parametrize(
    ("settings", "where", "what"),
    [
        ({"ctx_sise": 1}, "settings", "unknown llamacpp setting ctx_sise"),
        ({"b": 1, "a": 2}, "settings", "unknown llamacpp setting a, b"),
        (
            {"ctx_size": "lots"},
            "settings.ctx_size",
            "'lots' is not a token count; write 4096, 10k (10,000) or 2M (2^21)",
        ),
        (
            {"ctx_size": -1},
            "settings.ctx_size",
            "-1 is not a token count: it must be at least 1",
        ),
        ({"kv_unified": 1}, "settings.kv_unified", "1 is neither true nor false"),
        ({"threads": 0}, "settings.threads", "0 is not a number of 1 or more"),
        ({"threads": True}, "settings.threads", "True is not a number of 1 or more"),
        ({"parallel": "two"}, "settings.parallel", "'two' is not a number of 1 or more"),
        (
            {"cache_type_k": "q9"},
            "settings.cache_type_k",
            ("'q9' is not a cache type; use one of f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1"),
        ),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(
    settings: dict[str, Any], where: str, what: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        read_settings(settings)
    assert (refusal.value.where, refusal.value.what) == (where, what)
