"""vLLM's OpenAI server: ``vllm serve`` as a process, and what a running one answers."""

from __future__ import annotations

from typing import Any

from leadline.engines.command import write_options
from leadline.engines.engine import Engine, LaunchRequest, TokenizeRoute
from leadline.engines.statements import (
    load_phases,
    load_resolved,
    load_statements,
    load_worker_title,
)
from leadline.errors import SpecError
from leadline.launch import Launch
from leadline.units import parse_tokens

_WINDOW = "max_model_len"
_OURS = {
    "host": "servers are bound to 127.0.0.1",
    "port": "give target.port",
    "model": "give model",
    "served_model_name": "the model is served under the last part of its name",
}
_LOCALHOST = "127.0.0.1"
_NO_USAGE_REPORTS = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def _launch(request: LaunchRequest) -> Launch:
    """Settings are the options of ``vllm serve``, written with underscores."""
    served = request.model.rstrip("/").rsplit("/", 1)[-1]
    options = write_options(_exact_window(dict(request.settings)), _OURS, negate=True)
    return Launch(
        argv=(
            request.executable or "vllm",
            *("serve", request.model),
            *("--served-model-name", served),
            *("--host", request.host, "--port", str(request.port)),
            *options,
        ),
        port=request.port,
        served_model=served,
        env={**_env(request), **request.env},
        phases=load_phases("vllm"),
        api_key_env="VLLM_API_KEY",
        worker_title=load_worker_title("vllm"),
    )


def _env(request: LaunchRequest) -> dict[str, str]:
    """On this machine, no rendezvous over its public address, and no colours in the log."""
    local = {"VLLM_HOST_IP": _LOCALHOST, "NO_COLOR": "1"}
    return _NO_USAGE_REPORTS | (local if request.host == _LOCALHOST else {})


def _exact_window(settings: dict[str, Any]) -> dict[str, Any]:
    """``2M`` as 2097152, so that no release can read the suffix another way."""
    window = settings.get(_WINDOW)
    if window is None or window in ("auto", -1):
        return settings
    try:
        return settings | {_WINDOW: parse_tokens(window)}
    except ValueError as error:
        raise SpecError(str(error), where=f"settings.{_WINDOW}", cure="write 8192 or 2M") from None


VLLM = Engine(
    name="vllm",
    source="vLLM 0.12.0 and 0.32.0 on CPU, answers recorded",
    launch=_launch,
    signature_path="/version",
    window_setting=_WINDOW,
    seats_setting="max_num_seqs",
    tokenize=(
        TokenizeRoute(
            "/tokenize", "prompt", "tokens", {"add_special_tokens": False}, model_field="model"
        ),
    ),
    request_fields={
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    },
    full_length_fields={"ignore_eos": True},
    salt_field="cache_salt",
    block_setting="block_size",
    token_count_path="usage.completion_tokens",
    counters={
        "prompt_tokens": "vllm:prompt_tokens_total",
        "cached_tokens": "vllm:prefix_cache_hits_total",
        "queried_tokens": "vllm:prefix_cache_queries_total",
        "preemptions": "vllm:num_preemptions_total",
        "output_tokens": "vllm:generation_tokens_total",
        "prefill_s": "vllm:request_prefill_time_seconds_sum",
        "queue_s": "vllm:request_queue_time_seconds_sum",
    },
    gauges={
        "running": "vllm:num_requests_running",
        "waiting": "vllm:num_requests_waiting",
        "kv_usage": "vllm:kv_cache_usage_perc",
    },
    statements=load_statements("vllm"),
    resolved=load_resolved("vllm"),
)
