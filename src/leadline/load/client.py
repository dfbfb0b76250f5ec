"""One streamed completion: the request as bytes, its stream followed, its answer read."""

from __future__ import annotations

import asyncio
import hashlib
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import orjson

from leadline.engines.engine import Engine
from leadline.errors import LoadError
from leadline.launch import Endpoint
from leadline.load.answer import error_text, read_exchange
from leadline.load.native import native_body, native_route
from leadline.load.origin import request_head, resolve
from leadline.load.stream import OnChunk, Patience, follow
from leadline.records import Clock, Exchange, Failure

if TYPE_CHECKING:  # they take longer to import than a request may take to leave
    from leadline.prompts.prompt import Prompt
    from leadline.spec import Api, PromptForm

__all__ = ["ROUTES", "Patience", "error_text", "request_body", "route_for", "stream_completion"]

# Form of the prompt to the route that takes it.
ROUTES: dict[PromptForm, str] = {
    "ids": "/v1/completions",
    "text": "/v1/completions",
    "chat": "/v1/chat/completions",
}


def route_for(engine: Engine, form: PromptForm, api: Api = "openai") -> str:
    """Where a completion is asked for; ``SpecError`` as for ``request_body``."""
    return native_route(engine, form).path if api == "native" else ROUTES[form]


def request_body(
    endpoint: Endpoint,
    engine: Engine,
    prompt: Prompt,
    output_tokens: int,
    *,
    form: PromptForm,
    cold: bool,
    salt: str | None,
    full_length: bool = False,
    api: Api = "openai",
) -> bytes:
    """The request as bytes, ready before the clock starts.

    ``salt``: only requests with the same one may share a cached prefix, where the engine has such
    a thing; ``None``: any.

    ``SpecError`` if the engine has no native route, or none for a prompt of that form.
    """
    if api == "native":
        body = native_body(engine, prompt, output_tokens, form, cold=cold, full_length=full_length)
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    body = {
        "model": endpoint.model,
        **_prompt_fields(prompt, form),
        "max_tokens": output_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **engine.request_fields,
    }
    if full_length:
        body |= engine.full_length_fields
    if cold:
        body |= engine.cold_fields
    if salt and engine.salt_field:
        body[engine.salt_field] = _cache_salt(salt)
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _cache_salt(salt: str) -> str:
    """Hex of fixed length: vLLM 0.32 refuses '@', '/', backslashes and over 128 characters."""
    return hashlib.sha256(salt.encode()).hexdigest()[:32]


def _prompt_fields(prompt: Prompt, form: PromptForm) -> dict[str, Any]:
    if form == "ids":
        return {"prompt": prompt.ids}
    if form == "text":
        return {"prompt": prompt.text}
    return {"messages": prompt.messages}


async def stream_completion(
    endpoint: Endpoint,
    engine: Engine,
    route: str,
    body: bytes,
    patience: Patience,
    on_chunk: OnChunk | None = None,
    api: Api = "openai",
    lost: asyncio.Future[str] | None = None,
) -> Exchange:
    """Send ``body`` and follow the answer to its end, or until the server is ``lost``.

    Never raises for what a server does.
    """
    try:
        origin = await resolve(endpoint.url)
    except LoadError as error:
        return _unreachable(error)
    head = request_head(origin, route, endpoint.headers, len(body))
    taken = await follow(origin, head, body, patience, on_chunk, lost)
    return read_exchange(taken, engine, api=api)


def _unreachable(error: LoadError) -> Exchange:
    from leadline.journal import utc_now

    now_ns = perf_counter_ns()
    return Exchange(
        clock=Clock(wall_start=utc_now(), start_ns=now_ns, end_ns=now_ns),
        failure=Failure(kind="unreachable", message=error.what),
    )
