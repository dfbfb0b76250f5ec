"""Requests on an engine's own route, from the engine's description of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leadline.engines.engine import Engine, NativeRoute, place
from leadline.errors import SpecError

if TYPE_CHECKING:
    from leadline.prompts.prompt import Prompt
    from leadline.spec import PromptForm


def native_route(engine: Engine, form: PromptForm) -> NativeRoute:
    """``SpecError`` if there is none for a prompt of that form."""
    if engine.native is None:
        raise SpecError(
            f"{engine.name} has no route of its own that Leadline knows",
            where="api",
            cure="use `openai`",
        )
    if form not in engine.native.prompt_fields:
        raise SpecError(
            f"{engine.native.path} takes no prompt as {form}",
            where="prompt_as",
            cure=f"use one of {', '.join(engine.native.prompt_fields)}, or the api `openai`",
        )
    return engine.native


def native_body(
    engine: Engine,
    prompt: Prompt,
    output_tokens: int,
    form: PromptForm,
    *,
    cold: bool,
    full_length: bool,
) -> dict[str, Any]:
    route = native_route(engine, form)
    given = {
        route.prompt_fields[form]: prompt.ids if form == "ids" else prompt.text,
        route.output_tokens_path: output_tokens,
        **route.fields,
        **(route.full_length_fields if full_length else {}),
        **(route.cold_fields if cold else {}),
    }
    body: dict[str, Any] = {}
    for path, value in given.items():
        place(body, path, value)
    return body
