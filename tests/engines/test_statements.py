"""What real engines print while they start is read right, whatever the version words it."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadline.engines.engine import load_engine
from leadline.engines.statements import Words, differing_settings, load_phases, read_words
from leadline.units import GIB

LOGS = Path(__file__).parents[1] / "data" / "engine-logs"


def words_of(engine: str, log: str) -> Words:
    facts = load_engine(engine)
    lines = (LOGS / log).read_text(encoding="utf-8").splitlines()
    return read_words(lines, facts.statements, facts.resolved)


def phases_of(log: str) -> list[str]:
    """What a start went through, each once, in its order."""
    lines = (LOGS / log).read_text(encoding="utf-8").splitlines()
    table = load_phases("vllm")
    found = [next((doing for text, doing in table if text in line), "") for line in lines]
    return list(dict.fromkeys(filter(None, found)))


def test_two_lines_of_vllm_0_12_tell_the_cache() -> None:
    figures = words_of("vllm", "vllm-0.12.0-cpu-start.log").figures
    assert figures["version"] == "0.12.0"
    assert figures["device"] == "cpu"
    assert (figures["kv_tokens"], figures["concurrency"]) == (8_388_608, 64.0)
    assert figures["concurrency_tokens"] == 131_072


def test_a_gpu_start_of_vllm_0_19_tells_memory_and_times() -> None:
    figures = words_of("vllm", "vllm-0.19.0-h100-scout-start.log").figures
    assert figures["kv_tokens"] == 365_968
    assert figures["concurrency"] == 44.68
    assert figures["available_bytes"] == int(16.75 * GIB)
    assert figures["weights_bytes"] == int(53.12 * GIB)
    assert (figures["download_s"], figures["load_s"]) == (500.34078, 433.14)
    assert (figures["compile_s"], figures["init_s"]) == (29.69, 55.58)


ONE_LINE = (
    "(EngineCore pid=1) INFO 11-22 15:22:16 [kv_cache_utils.py:2327] CPU KV cache size: 8,315,522 "
    "tokens, Maximum concurrency for 1,048,576 tokens per request: 7.93x"
)


def test_the_one_line_of_vllm_0_32_tells_the_cache() -> None:
    engine = load_engine("vllm")
    figures = read_words([ONE_LINE], engine.statements, engine.resolved).figures
    assert figures == {
        "kv_tokens": 8_315_522,
        "concurrency": 7.93,
        "concurrency_tokens": 1_048_576,
    }


def test_of_several_ranks_the_one_with_the_least_memory_binds() -> None:
    lines = [f"Available KV cache memory: {gib} GiB" for gib in (16.75, 16.5, 16.9)]
    figures = read_words(lines, load_engine("vllm").statements, None).figures
    assert figures["available_bytes"] == int(16.5 * GIB)


def test_a_figure_is_quoted_with_its_line() -> None:
    quotes = words_of("vllm", "vllm-0.12.0-cpu-start.log").quotes
    assert "Maximum concurrency for 131,072 tokens per request: 64.00x" in quotes["concurrency"]


def test_llama_cpp_tells_the_window_of_a_slot() -> None:
    line = "0.02.299.788 I srv    load_model: initializing, n_slots = 2, n_ctx_slot = 262144"
    figures = read_words([line], load_engine("llamacpp").statements, None).figures
    assert figures == {"slots": 2, "window_tokens": 262_144}


def test_the_settings_that_the_engine_resolved_are_read_back() -> None:
    settings = words_of("vllm", "vllm-0.12.0-cpu-start.log").settings
    assert settings["max_model_len"] == "131072"
    assert settings["dtype"] == "bfloat16"
    assert settings["enable_prefix_caching"] == "True"
    assert settings["enable_prompt_tokens_details"] == "True"


def test_a_setting_that_the_engine_changed_is_told() -> None:
    resolved = {"dtype": "float16", "max_model_len": "2097152", "enforce_eager": "True"}
    asked = {"--dtype": "bfloat16", "max-model-len": 2097152, "enforce_eager": True, "seed": 1}
    assert differing_settings(asked, resolved) == {"dtype": ("bfloat16", "float16")}


@pytest.mark.parametrize(("asked", "resolved"), [(0.9, "0.90"), (True, "True"), ("auto", "bf16")])
def test_another_spelling_is_no_other_setting(asked: object, resolved: str) -> None:
    assert differing_settings({"x": asked}, {"x": resolved}) == {}


def test_the_phases_of_a_start_come_in_their_order() -> None:
    assert phases_of("vllm-0.19.0-h100-scout-start.log") == [
        "reading the model's config",
        "starting the engine core",
        "downloading or finding the weights",
        "loading the weights",
        "preparing the model",
        "compiling",
        "profiling memory",
        "allocating the KV cache",
        "capturing CUDA graphs",
        "warming up",
        "starting to listen",
    ]
    assert phases_of("vllm-0.12.0-cpu-start.log") == [
        "reading the model's config",
        "starting the engine core",
        "downloading or finding the weights",
        "loading the weights",
        "preparing the model",
        "allocating the KV cache",
        "compiling",
        "starting to listen",
    ]
