"""What is sent is what each engine accepts."""

from __future__ import annotations

import json
import re

import pytest

from leadline.engines.engine import load_engine
from leadline.launch import Endpoint
from leadline.load.client import request_body
from leadline.prompts.haystack import Prompt
from leadline.spec import PromptForm

ENDPOINT = Endpoint(url="http://127.0.0.1:1", model="m")
PROMPT = Prompt(ids=[1, 2, 3], corpus_start=0, needles=(), text="one two three")


def _body(engine: str, form: PromptForm = "ids", *, cold: bool = True) -> dict[str, object]:
    salt = "7-server/input_tokens=100@x-1" if cold else None
    body = request_body(ENDPOINT, load_engine(engine), PROMPT, 8, form=form, cold=cold, salt=salt)
    return dict(json.loads(body))


def test_vllm_gets_a_cache_salt_of_the_form_it_accepts() -> None:
    """Seen on vLLM 0.32: HTTP 400 for '/' or '@' in a salt."""
    assert re.fullmatch(r"[0-9a-f]{32}", str(_body("vllm")["cache_salt"]))


def test_a_warm_request_leaves_the_cache_alone() -> None:
    assert "cache_salt" not in _body("vllm", cold=False)
    assert "cache_prompt" not in _body("llamacpp", cold=False)
    assert _body("llamacpp")["cache_prompt"] is False


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_token_count_is_asked_for_with_every_chunk(engine: str) -> None:
    assert _body(engine)["stream_options"] == {
        "include_usage": True,
        "continuous_usage_stats": True,
    }


def test_the_prompt_travels_in_the_form_asked_for() -> None:
    assert _body("openai")["prompt"] == [1, 2, 3]
    assert _body("openai", "text")["prompt"] == "one two three"
    chat = _body("openai", "chat")
    assert chat["messages"] == [{"role": "user", "content": "one two three"}]
    assert "prompt" not in chat
