"""SGLang's OpenAI server: ``sglang.launch_server`` as a process, and what a running one answers."""

from __future__ import annotations

from typing import Any

from leadline.engines.command import write_options
from leadline.engines.engine import Engine, LaunchRequest, NativeRoute, TokenizeRoute
from leadline.engines.statements import (
    load_phases,
    load_resolved,
    load_statements,
    load_worker_title,
)
from leadline.errors import SpecError
from leadline.launch import Launch
from leadline.units import parse_tokens

_WINDOW = "context_length"
_OURS = {
    "host": "servers are bound to 127.0.0.1",
    "port": "give target.port",
    "model": "give model",
    "model_path": "give model",
    "served_model_name": "the model is served under the last part of its name",
    "api_key": "SGLang takes a key on its command line only, where anybody on the machine can read "
    "it; bound to 127.0.0.1 it needs none",
}
# Without them no request can be proven cold: SGLang then tells nothing of its cache.
_DEFAULTS = {"enable_metrics": True, "enable_cache_report": True}


def _launch(request: LaunchRequest) -> Launch:
    """Settings are the options of ``launch_server``, written with underscores."""
    served = request.model.rstrip("/").rsplit("/", 1)[-1]
    given = {name.lstrip("-").replace("-", "_"): value for name, value in request.settings.items()}
    options = write_options(_exact_window({**_DEFAULTS, **given}), _OURS, negate=False)
    return Launch(
        argv=(
            request.executable or "python3",
            *("-m", "sglang.launch_server", "--model-path", request.model),
            *("--served-model-name", served),
            *("--host", request.host, "--port", str(request.port)),
            *options,
        ),
        port=request.port,
        served_model=served,
        env=request.env,
        phases=load_phases("sglang"),
        worker_title=load_worker_title("sglang"),
    )


def _exact_window(settings: dict[str, Any]) -> dict[str, Any]:
    """``2M`` as 2097152: SGLang takes a plain number only."""
    window = settings.get(_WINDOW)
    if window is None:
        return settings
    try:
        return settings | {_WINDOW: parse_tokens(window)}
    except ValueError as error:
        raise SpecError(str(error), where=f"settings.{_WINDOW}", cure="write 8192 or 2M") from None


SGLANG = Engine(
    name="sglang",
    source="SGLang 0.5.6.post2 on CPU, answers recorded",
    launch=_launch,
    signature_path="/get_server_info",
    window_setting=_WINDOW,
    seats_setting="max_running_requests",
    pool_paths=(
        ("/server_info", "max_total_num_tokens"),
        ("/get_server_info", "max_total_num_tokens"),
    ),
    # A longer answer is cut to the window (or the KV pool) less 2, although it was accepted;
    # a prompt longer than that less 7 is given up. managers/scheduler.py, tp_worker.py.
    reserve_tokens=2,
    prompt_reserve_tokens=7,
    tokenize=(
        TokenizeRoute(
            "/tokenize", "prompt", "tokens", {"add_special_tokens": False}, model_field="model"
        ),
    ),
    flush_path="/flush_cache",
    block_setting="page_size",
    request_fields={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    full_length_fields={"ignore_eos": True},
    token_count_path="usage.completion_tokens",
    native=NativeRoute(
        path="/generate",
        prompt_fields={"ids": "input_ids", "text": "text"},
        output_tokens_path="sampling_params.max_new_tokens",
        fields={"stream": True, "sampling_params.temperature": 0},
        full_length_fields={"sampling_params.ignore_eos": True},
        text_path="text",
        is_cumulative=True,  # unless started with --stream-output
        count_path="meta_info.completion_tokens",
        reason_path="meta_info.finish_reason.type",
        abort_reason="abort",
        abort_message_path="meta_info.finish_reason.message",
        usage_paths={
            "prompt_tokens": "meta_info.prompt_tokens",
            "completion_tokens": "meta_info.completion_tokens",
            "prompt_tokens_details.cached_tokens": "meta_info.cached_tokens",
        },
    ),
    counters={
        "prompt_tokens": "sglang:prompt_tokens_total",
        "cached_tokens": "sglang:cached_tokens_total",
        "preemptions": "sglang:num_retractions_sum",
        "output_tokens": "sglang:generation_tokens_total",
        # No prefill time: the real server (0.5.6.post2, CPU) recorded no stage but the waiting.
        "queue_s": "sglang:queue_time_seconds_sum",
    },
    # Its first cached token gives birth to the counter.
    unborn_counters=frozenset({"cached_tokens"}),
    gauges={
        "running": "sglang:num_running_reqs",
        "waiting": "sglang:num_queue_reqs",
        "kv_usage": "sglang:token_usage",
    },
    statements=load_statements("sglang"),
    resolved=load_resolved("sglang"),
)
