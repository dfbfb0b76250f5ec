"""llama.cpp's own route and OpenAI's, on one real server: two ways to the same answer."""

from __future__ import annotations

import pytest
import uvloop
from tests.end_to_end.conftest import Finish, Start

from leadline.engines.engine import load_engine
from leadline.launch import Endpoint
from leadline.load.client import Patience, request_body, route_for, stream_completion
from leadline.prompts.prompt import Prompt
from leadline.records import Exchange
from leadline.spec import Api

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


@pytest.mark.parametrize("form", ["ids", "text"])
def test_a_length_is_proven_by_its_own_route(
    form: str, start: Start, finish: Finish, server_url: str
) -> None:
    outcome = finish(
        start(
            *("prove", "--url", server_url, "--model", "smollm2", "--api", "native"),
            *("--prompt-as", form, "--input-tokens", "200", "--output-tokens", "8"),
        )
    )
    assert outcome.code == 0, outcome.stderr
    (trial,) = outcome.report["cells"][0]["trials"]
    assert {proof["outcome"] for proof in trial["proofs"]} == {"pass"}
    assert trial["usage"]["prompt_tokens"] == 200


def test_a_load_runs_on_its_own_route(start: Start, finish: Finish, server_url: str) -> None:
    outcome = finish(
        start(
            *("bench", "--url", server_url, "--model", "smollm2", "--api", "native"),
            *("--concurrency", "2", "--requests", "4", "--processes", "2"),
            *("--input-tokens", "64", "--output-tokens", "4"),
        )
    )
    load = outcome.report["cells"][0]["load"]
    assert (load["sent"], load["answered"], load["failures"]) == (4, 4, {})
    assert load["itl_s"]["n"] == 4 * 3


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
