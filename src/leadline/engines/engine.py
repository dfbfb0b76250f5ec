"""An engine as a table: what differs between servers is data, and nothing else knows it.

Paths into JSON answers are dotted (``usage.prompt_tokens``, ``data.0.id``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from leadline.engines.statements import ResolvedSettings, Statement
from leadline.errors import SpecError
from leadline.launch import Launch

# Lazy, so that a verb that starts no engine imports none.
_ENGINES = {
    "llamacpp": "leadline.engines.llamacpp:LLAMACPP",
    "neuron": "leadline.engines.neuron:NEURON",
    "openai": "leadline.engines.openai:OPENAI",
    "sglang": "leadline.engines.sglang:SGLANG",
    "vllm": "leadline.engines.vllm:VLLM",
}


@dataclass(frozen=True)
class TokenizeRoute:
    """How the server turns text into ids without adding special tokens."""

    path: str
    text_field: str
    ids_path: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    model_field: str | None = None


@dataclass(frozen=True)
class NativeRoute:
    """An engine's own route for one streamed completion. Every path is dotted, in requests too."""

    path: str
    prompt_fields: Mapping[str, str]
    """Form of the prompt (``ids``, ``text``) to the field that takes it."""
    output_tokens_path: str
    text_path: str
    count_path: str
    """Output tokens so far, in every event."""
    reason_path: str
    usage_paths: Mapping[str, str]
    """Place in OpenAI's ``usage`` to the place in an event of this route; the last event counts."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    cold_fields: Mapping[str, Any] = field(default_factory=dict)
    full_length_fields: Mapping[str, Any] = field(default_factory=dict)
    is_cumulative: bool = False
    """The text of an event may be all so far rather than what is new."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Its own words for why it ended to OpenAI's, where they differ."""
    abort_reason: str | None = None
    """Why it ended, of a request that was not served."""
    abort_message_path: str = ""
    end_path: str | None = None
    """True in the last event; ``None``: the stream ends with ``[DONE]``."""


@dataclass(frozen=True)
class LaunchRequest:
    """What an engine needs to know to write its command line."""

    model: str
    port: int
    settings: Mapping[str, Any]
    env: Mapping[str, str]
    executable: str | None = None
    """The program to start, where it is not the one found on PATH."""
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Engine:
    """The facts that Leadline needs about one engine; ``source`` says where they are from."""

    name: str
    source: str
    launch: Callable[[LaunchRequest], Launch] | None = None
    """``None``: Leadline cannot start it (yet), only talk to it."""

    signature_path: str | None = None
    """A route that only this engine answers with 200; tells engines apart."""
    window_setting: str | None = None
    """The setting that holds the context window."""
    window_paths: tuple[tuple[str, str], ...] = (("/v1/models", "data.0.max_model_len"),)
    """(route, path in its answer) of the context window, best first."""
    window_step: int = 1
    """The engine rounds its window up to a multiple of this."""
    seats_setting: str | None = None
    """The setting that bounds how many requests run at once."""
    pooled_setting: str | None = None
    """Of an engine whose window setting is the memory of all seats together: with this one on they
    share it, without each has an equal part."""
    pool_paths: tuple[tuple[str, str], ...] = ()
    """(route, path in its answer) of what the KV cache holds, where it can bound one request
    although the window does not."""
    reserve_tokens: int = 0
    """input + output + reserve <= window, else the request is refused or its answer cut short."""
    prompt_reserve_tokens: int = 0
    """input + reserve <= window, however short the answer."""
    tokenize: tuple[TokenizeRoute, ...] = ()

    request_fields: Mapping[str, Any] = field(default_factory=dict)
    """Added to every request, for example to be told the token count with each chunk."""
    cold_fields: Mapping[str, Any] = field(default_factory=dict)
    """Added so that no cached prefix is used."""
    flush_path: str | None = None
    """A GET that empties the prefix cache, for engines that match it token by token: there any two
    prompts that begin with the same word share something."""
    full_length_fields: Mapping[str, Any] = field(default_factory=dict)
    """Added so that the model never ends early: every answer has the length asked for."""
    salt_field: str | None = None
    """Field that takes a cache salt: requests with different salts never share a prefix."""
    token_count_path: str | None = None
    """Output tokens so far, in each chunk of a stream."""
    timings_path: str | None = None
    """What the server says of its own timing, in the last chunk."""
    processed_tokens_path: str | None = None
    """Within the timings: prompt tokens that were computed rather than taken from a cache."""
    block_setting: str | None = None
    """The resolved setting that holds the tokens of one block of the prefix cache."""
    block_tokens: int | None = None
    """The same, where it is always so: 1 is token by token."""
    cached_tokens_path: str = "prompt_tokens_details.cached_tokens"
    """Within ``usage``."""

    native: NativeRoute | None = None
    """Beside OpenAI's routes, which every engine here has."""

    metrics_path: str | None = "/metrics"
    counters: Mapping[str, str] = field(default_factory=dict)
    """Canonical name to Prometheus sample name; ``prefill_s`` and ``queue_s`` count seconds."""
    counts_cached: bool = True
    """Whether the counter of prompt tokens takes in those that came from the cache."""
    unborn_counters: frozenset[str] = frozenset()
    """Canonical names that the engine shows only once they are above zero."""
    gauges: Mapping[str, str] = field(default_factory=dict)
    """What is now: ``running`` and ``waiting`` requests, ``kv_usage`` as a share of the cache."""
    statements: tuple[Statement, ...] = ()
    """Figures that its start-up log states."""
    resolved: ResolvedSettings | None = None
    """Where it shows the settings it works with."""

    def max_input_tokens(
        self, window: int, output_tokens: int, pool_tokens: int | None = None
    ) -> int:
        """The longest prompt that leaves room for the output in the window and the KV cache."""
        room = window if pool_tokens is None else min(window, pool_tokens)
        return room - max(output_tokens + self.reserve_tokens, self.prompt_reserve_tokens)


def engine_names() -> list[str]:
    return list(_ENGINES)


def load_engine(name: str) -> Engine:
    """The engine of that name; ``SpecError`` lists the known ones."""
    if name not in _ENGINES:
        raise SpecError(
            f"unknown engine {name!r}",
            where="engine",
            cure=f"use one of {', '.join(_ENGINES)}",
        )
    module, _, attribute = _ENGINES[name].partition(":")
    engine: Engine = getattr(import_module(module), attribute)
    return engine


def place(document: dict[str, Any], path: str, value: Any) -> None:
    """Sets the value at a dotted path; what is missing on the way is made."""
    *folders, name = path.split(".")
    for folder in folders:
        document = document.setdefault(folder, {})
    document[name] = value


def pick(answer: Any, path: str) -> Any:
    """The value at a dotted path, or ``None`` where the answer has no such place."""
    for part in path.split("."):
        if isinstance(answer, Mapping):
            answer = answer.get(part)
        elif isinstance(answer, list) and part.isdigit() and int(part) < len(answer):
            answer = answer[int(part)]
        else:
            return None
    return answer
