"""Engines' own routes: what is sent to them, and how what they were seen to answer is read."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import uvloop
from tests.fake_server import DONE, Answer, FakeServer, Step, serving, sse

from leadline.engines.engine import load_engine
from leadline.errors import SpecError
from leadline.launch import Endpoint
from leadline.load.client import (
    Patience,
    request_body,
    route_for,
    stream_completion,
)
from leadline.prompts.prompt import Prompt
from leadline.records import Exchange

PATIENT = Patience(first_token_s=10, between_tokens_s=10)
PROMPT = Prompt(ids=[5, 6, 7], corpus_start=0, needles=(), text="deep blue sea")
SGLANG, LLAMACPP = load_engine("sglang"), load_engine("llamacpp")


def body_for(engine: str, form: Any = "ids", **options: bool) -> dict[str, Any]:
    endpoint = Endpoint("http://h", "tiny")
    facts: dict[str, Any] = {"cold": False, "salt": "s", "api": "native", **options}
    raw = request_body(endpoint, load_engine(engine), PROMPT, 9, form=form, **facts)
    body: dict[str, Any] = orjson.loads(raw)
    return body


def ask(engine: str, *script: Step, refusal: Answer | None = None) -> Exchange:
    async def run() -> Exchange:
        known = load_engine(engine)
        async with serving(FakeServer(script, refusal)) as server:
            endpoint, route = Endpoint(server.url, "m"), "/v1/completions"
            return await stream_completion(endpoint, known, route, b"{}", PATIENT, api="native")

    return uvloop.run(run())


def counts(exchange: Exchange) -> list[tuple[str, int | None]]:
    return [(event.text, event.completion_tokens) for event in exchange.events]


# --- the request ----------------------------------------------------------------------------


def test_sglang_is_asked_in_its_own_words() -> None:
    assert body_for("sglang") == {
        "input_ids": [5, 6, 7],
        "sampling_params": {"max_new_tokens": 9, "temperature": 0},
        "stream": True,
    }
    body = body_for("sglang", "text", full_length=True)
    assert body["text"] == "deep blue sea"
    assert body["sampling_params"]["ignore_eos"] is True
    assert route_for(SGLANG, "ids", "native") == "/generate"
    assert "sampling_params.temperature" in SGLANG.native.fields  # type: ignore[union-attr]


def test_llamacpp_is_asked_in_its_own_words() -> None:
    assert body_for("llamacpp", cold=True, full_length=True) == {
        "prompt": [5, 6, 7],
        "n_predict": 9,
        "temperature": 0,
        "stream": True,
        "timings_per_token": True,
        "cache_prompt": False,
        "ignore_eos": True,
    }
    assert route_for(LLAMACPP, "text", "native") == "/completion"


def test_without_a_native_route_openais_is_the_cure() -> None:
    with pytest.raises(SpecError, match="vllm has no route of its own") as caught:
        body_for("vllm")
    assert caught.value.cure == "use `openai`"
    with pytest.raises(SpecError, match="/generate takes no prompt as chat"):
        body_for("sglang", "chat")
    assert route_for(load_engine("vllm"), "chat") == "/v1/chat/completions"


# --- SGLang's answers -----------------------------------------------------------------------


def generated(text: str, count: int, reason: Any = None, prompt: int = 3, cached: int = 0) -> bytes:
    """An event of ``/generate``, SGLang 0.5.6: its text is all text so far."""
    meta = {
        "id": "7b9a",
        "finish_reason": reason,
        "prompt_tokens": prompt,
        "weight_version": "default",
        "completion_tokens": count,
        "cached_tokens": cached,
        "e2e_latency": 0.3,
    }
    return sse(text=text, output_ids=[7] * count, meta_info=meta)


LENGTH = {"type": "length", "length": 3}


def test_sglangs_text_so_far_becomes_the_text_of_each_event() -> None:
    events = generated(" a", 1), generated(" a b", 2, cached=2), generated(" a b b", 3, LENGTH)
    exchange = ask("sglang", *events, DONE)
    assert exchange.failure is None
    assert counts(exchange) == [(" a", 1), (" b", 2), (" b", 3)]
    assert exchange.finish_reason == "length"
    assert exchange.usage == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_sglangs_text_is_taken_as_it_is_where_only_the_new_comes() -> None:
    """As with ``--stream-output``."""
    events = generated(" a", 1), generated(" b", 2), generated(" c", 3, LENGTH)
    assert ask("sglang", *events, DONE).text == " a b c"


def test_a_character_of_several_tokens_is_not_lost() -> None:
    """A token whose bytes are no character yet brings no text."""
    events = generated("x", 1), generated("x", 2), generated("x€", 3, LENGTH)
    assert counts(ask("sglang", *events, DONE)) == [("x", 1), ("", 2), ("€", 3)]


def test_sglangs_prompt_beyond_the_context_is_an_error_inside_the_stream() -> None:
    text = "The input (9000 tokens) is longer than the model's context length (8192 tokens)."
    exchange = ask("sglang", sse(error={"message": text}), DONE)
    assert exchange.status == 200
    assert exchange.failure is not None
    assert (exchange.failure.kind, exchange.failure.message) == ("stream_error", text)


def test_sglangs_bogus_token_above_its_pool_is_a_failure() -> None:
    text = "Input length (8000 tokens) exceeds the maximum allowed length (4090 tokens)."
    reason = {"type": "abort", "message": text, "status_code": 400, "err_type": "BadRequestError"}
    exchange = ask("sglang", generated(" holder", 1, reason, prompt=1), DONE)
    assert exchange.failure is not None
    assert exchange.failure.kind == "stream_error"
    assert exchange.failure.message == f"the server aborted the request: {text}"
    assert exchange.finish_reason == "abort"


def test_a_stream_without_its_end_is_disconnected_on_a_native_route_too() -> None:
    for engine, event in (("sglang", generated("a", 1)), ("llamacpp", completed(" a", 1))):
        exchange = ask(engine, event)
        assert exchange.failure is not None
        assert exchange.failure.kind == "disconnected"


@pytest.mark.parametrize(
    "meta", [{"completion_tokens": "3"}, {"finish_reason": {"type": 7}}, {"completion_tokens": [1]}]
)
def test_a_native_event_of_another_shape_is_malformed(meta: dict[str, Any]) -> None:
    exchange = ask("sglang", sse(text="a", meta_info=meta), DONE)
    assert exchange.failure is not None
    assert exchange.failure.kind == "malformed"


# --- llama.cpp's answers --------------------------------------------------------------------


def completed(text: str, count: int, **more: Any) -> bytes:
    """An event of ``/completion``, recorded from llama.cpp (xllamacpp 2026.10)."""
    timings = {"cache_n": 0, "prompt_n": 4, "prompt_ms": 120.7, "predicted_n": count}
    facts = {"id_slot": -1, "tokens_predicted": count, "tokens_evaluated": 4, "timings": timings}
    return sse(index=0, content=text, tokens=[260], **{"stop": False, **facts, **more})


def test_llamacpps_last_event_ends_the_stream() -> None:
    last = completed("", 3, stop=True, stop_type="limit", tokens_cached=6, truncated=False)
    exchange = ask(
        "llamacpp", completed(" the", 1), completed(" best", 2), completed(" way", 3), last
    )
    assert exchange.failure is None
    assert exchange.terminated
    assert exchange.text == " the best way"
    assert exchange.finish_reason == "length"
    assert exchange.usage == {
        "prompt_tokens": 4,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert exchange.server is not None
    assert exchange.server["prompt_ms"] == 120.7


def test_llamacpps_refusal_has_its_words() -> None:
    text = "request (601 tokens) exceeds the available context size (512 tokens)"
    refusal = Answer({"error": {"code": 400, "message": text, "n_ctx": 512}}, 400)
    exchange = ask("llamacpp", refusal=refusal)
    assert exchange.failure is not None
    assert exchange.failure.message == f"HTTP 400: {text}"
