"""llama.cpp's own route and OpenAI's, on one real server: two ways to the same answer."""

from __future__ import annotations

import pytest
import uvloop

from leadline.engines.engine import Api, load_engine
from leadline.launch import Endpoint
from leadline.load.client import Patience, request_body, route_for, stream_completion
from leadline.prompts.prompt import Prompt
from leadline.records import Exchange

pytestmark = pytest.mark.engine
LLAMACPP = load_engine("llamacpp")
PROMPT = Prompt(ids=[1, 504, 2365, 314, 260, 1450], corpus_start=0, needles=())


def ask(url: str, api: Api) -> Exchange:
    endpoint = Endpoint(url, "smollm2")
    body = request_body(
        endpoint, LLAMACPP, PROMPT, 6, form="ids", cold=True, salt="s", full_length=True, api=api
    )
    route = route_for(LLAMACPP, "ids", api)
    patience = Patience(first_token_s=120, between_tokens_s=60)
    return uvloop.run(stream_completion(endpoint, LLAMACPP, route, body, patience, api=api))


def test_both_routes_tell_the_same(server_url: str) -> None:
    native, openai = ask(server_url, "native"), ask(server_url, "openai")
    for exchange in (native, openai):
        assert exchange.failure is None
        assert exchange.finish_reason == "length"
        assert exchange.events[-1].completion_tokens == 6
        assert exchange.server is not None
        assert exchange.server["prompt_n"] == 6
    assert native.text == openai.text != ""
    assert native.usage is not None
    assert openai.usage is not None
    assert native.usage.items() <= openai.usage.items()
