# ruff: noqa: INP001 - a script, not a package
"""The shortest way from the start of the interpreter to a streamed answer, for ``client.py``."""

from __future__ import annotations

import sys

import uvloop

from leadline.engines.engine import load_engine
from leadline.launch import Endpoint
from leadline.load.client import ROUTES, Patience, request_body, stream_completion
from leadline.prompts.prompt import Prompt


async def ask(url: str) -> int:
    endpoint, engine = Endpoint(url, "truth"), load_engine("vllm")
    prompt = Prompt(ids=[1], corpus_start=0, needles=())
    body = request_body(endpoint, engine, prompt, 2, form="ids", cold=True, salt="s")
    exchange = await stream_completion(endpoint, engine, ROUTES["ids"], body, Patience(9, 9))
    return 1 if exchange.failure else 0


if __name__ == "__main__":
    sys.exit(uvloop.run(ask(sys.argv[1])))
