"""Will a GGUF model with this window fit into this machine's memory? (llama.cpp on CPU)

Only terms that follow from the file are counted, so the sum is a lower bound: what does not
fit by it cannot run; what fits may still be tight.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import gguf
import psutil
from pydantic import BaseModel, ConfigDict

from leadline.plan.gguf_header import GgufHeader
from leadline.units import show_bytes, show_tokens

PLAN_SCHEMA = "leadline.plan/1"
_FILE_SOURCE = "the GGUF file, mapped whole"
_KV_SOURCE = "GGUF header; llama.cpp allocates K and V for every layer and position at start"


class MemoryTerm(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    size_bytes: int
    formula: str
    source: str
    kind: Literal["derived", "measured"]


class LocalPlan(BaseModel):
    """What can be said of a deployment before it is started."""

    model_config = ConfigDict(frozen=True)

    verdict: Literal["fits", "infeasible", "unknown"]
    reason: str = ""
    remedy: str = ""
    window_tokens: int | None = None
    trained_tokens: int | None = None
    terms: tuple[MemoryTerm, ...] = ()
    available_bytes: int | None = None
    warnings: tuple[str, ...] = ()


def plan_llamacpp(
    model: Path, settings: dict[str, Any], available_bytes: int | None = None
) -> LocalPlan:
    """Plan from the GGUF header. A file that is missing or no GGUF is ``unknown``: the engine's
    own words will say it better.
    """
    try:
        stat = model.stat()
        reader = _open(model, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError, IndexError, struct.error):  # the last two: it ends too early
        return LocalPlan(verdict="unknown", reason=f"{model} is not a readable GGUF file")
    try:
        architecture = str(_field(reader, "general.architecture"))
        trained = int(_field(reader, f"{architecture}.context_length"))
        per_token = _kv_bytes_per_token(reader, architecture, settings)
        window_layers = _field(reader, f"{architecture}.attention.sliding_window", 0)
    except _AbsentError as absent:
        return LocalPlan(verdict="unknown", reason=f"{model} does not say {absent}")
    if window_layers:
        reason = "sliding-window layers keep less than the whole window: not planned yet"
        return LocalPlan(verdict="unknown", reason=reason, trained_tokens=trained)
    window = int(settings.get("ctx_size") or trained)
    terms = (
        _term("weights", model.stat().st_size, "size of the file", _FILE_SOURCE),
        _term("KV cache", window * per_token, f"{window} tokens x {per_token} B", _KV_SOURCE),
    )
    available = psutil.virtual_memory().available if available_bytes is None else available_bytes
    facts = {
        "window_tokens": window,
        "trained_tokens": trained,
        "terms": terms,
        "available_bytes": available,
        "warnings": _warnings(window, trained),
    }
    needed = sum(term.size_bytes for term in terms)
    if needed <= available:
        return LocalPlan(verdict="fits", **facts)
    longest = max(0, (available - terms[0].size_bytes) // per_token)
    return LocalPlan(
        verdict="infeasible",
        reason=f"weights and KV cache need {show_bytes(needed)}, "
        f"{show_bytes(available)} of memory are available",
        remedy=f"lower ctx_size from {show_tokens(window)} to at most {show_tokens(longest)}"
        ", or choose a smaller cache_type_k and cache_type_v",
        **facts,
    )


def _kv_bytes_per_token(reader: GgufHeader, architecture: str, settings: dict[str, Any]) -> int:
    """Sum over layers of KV heads x (key width + value width), each in its cache type."""
    layers = int(_field(reader, f"{architecture}.block_count"))
    heads = _per_layer(_field(reader, f"{architecture}.attention.head_count"), layers)
    kv_heads = _field(reader, f"{architecture}.attention.head_count_kv", heads)
    head_dim = int(_field(reader, f"{architecture}.embedding_length")) // max(heads)
    key_dim = int(_field(reader, f"{architecture}.attention.key_length", head_dim))
    value_dim = int(_field(reader, f"{architecture}.attention.value_length", head_dim))
    key_type, value_type = (str(settings.get(f"cache_type_{kv}", "f16")) for kv in "kv")
    return sum(
        _cache_bytes(count * key_dim, key_type) + _cache_bytes(count * value_dim, value_type)
        for count in _per_layer(kv_heads, layers)
    )


def _per_layer(value: Any, layers: int) -> list[int]:
    """Some models have another number of heads in each layer, most one for all."""
    return [int(count) for count in value] if isinstance(value, list) else [int(value)] * layers


def _cache_bytes(width: int, cache_type: str) -> int:
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[cache_type.upper()]]
    return -(-width * int(block_bytes) // int(block_size))


def _warnings(window: int, trained: int) -> tuple[str, ...]:
    if window <= trained:
        return ()
    text = (
        f"the window of {show_tokens(window)} exceeds the {show_tokens(trained)} tokens the model "
        "was trained on: it will run, and answers beyond that length are not to be expected"
    )
    return (text,)


def _term(name: str, size_bytes: int, formula: str, source: str) -> MemoryTerm:
    return MemoryTerm(
        name=name, size_bytes=size_bytes, formula=formula, source=source, kind="derived"
    )


@lru_cache(maxsize=4)
def _open(model: Path, _written_ns: int, _size_bytes: int) -> GgufHeader:
    """Read once for all windows of a matrix."""
    return GgufHeader(str(model))


class _AbsentError(Exception):
    """The header lacks a field."""


def _field(reader: GgufHeader, name: str, default: Any = None) -> Any:
    field = reader.get_field(name)
    if field is None and default is None:
        raise _AbsentError(name)
    return default if field is None else field.contents()
