"""How far back each layer of a model looks: everything, a sliding window, or its own chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from leadline.errors import PlanError


@dataclass(frozen=True)
class Reach:
    """``tokens`` is the window or the chunk; 0 for full attention."""

    kind: Literal["full", "sliding", "chunked"]
    tokens: int = 0


FULL = Reach("full")


def layer_reaches(text: Mapping[str, Any], pattern: str, name: str) -> tuple[Reach, ...]:
    """The reach of every layer: from ``layer_types`` where it stands, else by the family's rule."""
    if listed := text.get("layer_types"):
        return tuple(_named(kind, text, name) for kind in listed)
    return tuple(_PATTERNS[pattern](text, text["num_hidden_layers"]))


def _named(kind: str, text: Mapping[str, Any], name: str) -> Reach:
    if kind == "full_attention":
        return FULL
    if kind == "sliding_attention":
        return Reach("sliding", text["sliding_window"])
    if kind == "chunked_attention":
        return Reach("chunked", text["attention_chunk_size"])
    raise PlanError(
        f"{name} has layers of kind {kind!r}, which keep no KV cache of a kind we know",
        where="config.json: layer_types",
        cure="plan it from the engine's own log (--available-kv-gib), or measure it",
    )


def _full(_text: Mapping[str, Any], count: int) -> Sequence[Reach]:
    return [FULL] * count


def _window_everywhere(text: Mapping[str, Any], count: int) -> Sequence[Reach]:
    window = text.get("sliding_window")
    return [Reach("sliding", window) if window else FULL] * count


def _window_if_used(text: Mapping[str, Any], count: int) -> Sequence[Reach]:
    """Qwen: windows only with use_sliding_window, and only from layer max_window_layers on."""
    if not text.get("use_sliding_window"):
        return [FULL] * count
    window, first = Reach("sliding", text["sliding_window"]), text["max_window_layers"]
    return [window if index >= first else FULL for index in range(count)]


def _alternate(text: Mapping[str, Any], count: int) -> Sequence[Reach]:
    window = Reach("sliding", text["sliding_window"])
    return [FULL if index % 2 else window for index in range(count)]


def _every_nth_full(text: Mapping[str, Any], count: int) -> Sequence[Reach]:
    window, every = Reach("sliding", text["sliding_window"]), text["sliding_window_pattern"]
    return [FULL if (index + 1) % every == 0 else window for index in range(count)]


def _no_rope(text: Mapping[str, Any], count: int) -> Sequence[Reach]:
    """Llama-4: a layer without RoPE (0 in no_rope_layers) is global, the others are chunked."""
    every = text["no_rope_layer_interval"]
    marks = text.get("no_rope_layers") or [int((index + 1) % every != 0) for index in range(count)]
    chunk = text.get("attention_chunk_size")
    local = Reach("chunked", chunk) if chunk else FULL
    return [local if mark else FULL for mark in marks]


_PATTERNS: Mapping[str, Callable[[Mapping[str, Any], int], Sequence[Reach]]] = {
    "full": _full,
    "window_everywhere": _window_everywhere,
    "window_if_used": _window_if_used,
    "alternate": _alternate,
    "every_nth_full": _every_nth_full,
    "no_rope": _no_rope,
}
