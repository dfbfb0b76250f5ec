"""llama.cpp's server, from the ``xllamacpp`` package (embedded) or a ``llama-server`` binary."""

from __future__ import annotations

import sys

from leadline.catalog.assets import asset_names, asset_path
from leadline.engines.engine import Engine, LaunchRequest, TokenizeRoute
from leadline.errors import SpecError
from leadline.launch import Launch

# llama-server's own long options that the embedded server takes too.
SETTINGS = {
    "ctx_size": int,
    "parallel": int,
    "threads": int,
    "threads_batch": int,
    "batch_size": int,
    "ubatch_size": int,
    "cache_type_k": str,
    "cache_type_v": str,
}


def _launch(request: LaunchRequest) -> Launch:
    """Settings are llama-server's long options, written with underscores."""
    unknown = sorted(set(request.settings) - set(SETTINGS))
    if unknown:
        raise SpecError(
            f"unknown llamacpp setting {', '.join(unknown)}",
            where="settings",
            cure=f"use one of {', '.join(SETTINGS)}",
        )
    options = [
        part
        for name, value in request.settings.items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    served = "smollm2" if request.model == "smollm2" else request.model.rsplit("/", 1)[-1]
    return Launch(
        argv=(
            sys.executable,
            "-m",
            "leadline.engines.llamacpp_server",
            *("--model", model_file(request.model)),
            *("--alias", served),
            *("--port", str(request.port)),
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
    window_paths=(
        ("/props", "default_generation_settings.n_ctx"),
        ("/v1/models", "data.0.meta.n_ctx"),
    ),
    tokenize=(TokenizeRoute("/tokenize", "content", "tokens"),),
    request_fields={"timings_per_token": True},
    cold_fields={"cache_prompt": False},
    token_count_path="timings.predicted_n",
    timings_path="timings",
    processed_tokens_path="prompt_n",
    counters={
        "prompt_tokens": "llamacpp:prompt_tokens_total",
        "cached_tokens": "llamacpp:prompt_tokens_cached_total",
    },
)
