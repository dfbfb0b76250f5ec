"""llama.cpp's server, from the ``xllamacpp`` package (embedded) or a ``llama-server`` binary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leadline.catalog.assets import asset_names, asset_path
from leadline.engines.engine import Engine, LaunchRequest, NativeRoute, TokenizeRoute
from leadline.engines.statements import load_statements
from leadline.errors import SpecError
from leadline.launch import Launch
from leadline.units import parse_tokens

_LOCAL = "127.0.0.1"  # where it listens unless told otherwise
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")


def _window(value: Any) -> int:
    return 0 if value == 0 else parse_tokens(value)  # 0: as long as the model was trained for


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} is not a number of 1 or more")
    return value


def _switch(value: Any) -> int:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _cache_type(value: Any) -> str:
    if value not in CACHE_TYPES:
        raise ValueError(f"{value!r} is not a cache type; use one of {', '.join(CACHE_TYPES)}")
    return str(value)


# llama-server's own long options that the embedded server takes too.
SETTINGS: dict[str, Callable[[Any], int | str]] = {
    "ctx_size": _window,
    "parallel": _count,
    "threads": _count,
    "threads_batch": _count,
    "batch_size": _count,
    "ubatch_size": _count,
    "cache_type_k": _cache_type,
    "cache_type_v": _cache_type,
    "kv_unified": _switch,
}


def read_settings(settings: Mapping[str, Any]) -> dict[str, int | str]:
    """The settings as llama-server takes them; ``SpecError`` for what it would not."""
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise SpecError(
            f"unknown llamacpp setting {', '.join(unknown)}",
            where="settings",
            cure=f"use one of {', '.join(SETTINGS)}",
        )
    read = {}
    for name, value in settings.items():
        try:
            read[name] = SETTINGS[name](value)
        except ValueError as error:
            raise SpecError(str(error), where=f"settings.{name}", cure="correct it") from error
    return read


def _launch(request: LaunchRequest) -> Launch:
    """Settings are llama-server's long options, written with underscores."""
    options = [
        part
        for name, value in read_settings(request.settings).items()
        for part in _write_option(f"--{name.replace('_', '-')}", value)
    ]
    served = "smollm2" if request.model == "smollm2" else request.model.rsplit("/", 1)[-1]
    return Launch(
        argv=(
            *_program(request.executable),
            *("--model", model_file(request.model)),
            *("--alias", served),
            *("--port", str(request.port)),
            *(() if request.host == _LOCAL else ("--host", request.host)),
            *options,
        ),
        port=request.port,
        served_model=served,
        # Spinning OpenMP threads cost 10x the time on a busy small machine.
        env={"OMP_WAIT_POLICY": "passive", **request.env},
        phases=(
            ("loading model", "loading the weights"),
            ("llama threadpool init", "allocating the KV cache"),
            ("initializing, n_slots", "warming up"),
            ("model loaded", "starting to listen"),
        ),
    )


def _write_option(name: str, value: int | str) -> tuple[str, ...]:
    """A switch that is off is left out."""
    if isinstance(value, bool):
        return (name,) if value else ()
    return (name, str(value))


def _program(executable: str | None) -> tuple[str, ...]:
    """Our embedded server under our Python or another that has xllamacpp, or a llama-server."""
    if executable is None:
        return (sys.executable, "-m", "leadline.engines.llamacpp_server")
    if Path(executable).name.startswith("python"):
        return (executable, str(Path(__file__).with_name("llamacpp_server.py")))
    return (executable,)


def model_file(reference: str) -> str:
    """A GGUF file: a path, or the name of a model in the catalog."""
    if reference in asset_names("models"):
        return str(asset_path("models", reference))
    return reference


LLAMACPP = Engine(
    name="llamacpp",
    source="xllamacpp 2026.10.11549 (llama.cpp server), answers recorded on CPU",
    launch=_launch,
    signature_path="/props",
    window_setting="ctx_size",
    window_step=256,
    seats_setting="parallel",
    pooled_setting="kv_unified",
    window_paths=(
        ("/props", "default_generation_settings.n_ctx"),
        ("/v1/models", "data.0.meta.n_ctx"),
    ),
    tokenize=(TokenizeRoute("/tokenize", "content", "tokens"),),
    request_fields={"timings_per_token": True},
    cold_fields={"cache_prompt": False},
    block_tokens=1,
    full_length_fields={"ignore_eos": True},
    token_count_path="timings.predicted_n",
    timings_path="timings",
    processed_tokens_path="prompt_n",
    native=NativeRoute(
        path="/completion",
        prompt_fields={"ids": "prompt", "text": "prompt"},
        output_tokens_path="n_predict",
        fields={"stream": True, "temperature": 0, "timings_per_token": True},
        cold_fields={"cache_prompt": False},
        full_length_fields={"ignore_eos": True},
        text_path="content",
        count_path="tokens_predicted",
        reason_path="stop_type",
        reasons={"limit": "length", "eos": "stop", "word": "stop"},
        end_path="stop",
        usage_paths={
            "prompt_tokens": "tokens_evaluated",
            "completion_tokens": "tokens_predicted",
            "prompt_tokens_details.cached_tokens": "timings.cache_n",
        },
    ),
    counters={
        "prompt_tokens": "llamacpp:prompt_tokens_total",
        "cached_tokens": "llamacpp:prompt_tokens_cached_total",
        "output_tokens": "llamacpp:tokens_predicted_total",
        "prefill_s": "llamacpp:prompt_seconds_total",
    },
    counts_cached=False,
    # It does not tell how full its KV cache is.
    gauges={
        "running": "llamacpp:requests_processing",
        "waiting": "llamacpp:requests_deferred",
    },
    statements=load_statements("llamacpp"),
)
