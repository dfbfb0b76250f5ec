"""SGLang's OpenAI server, as far as talking to a running one needs."""

from __future__ import annotations

from leadline.engines.engine import Engine, NativeRoute, TokenizeRoute

SGLANG = Engine(
    name="sglang",
    source="SGLang 0.5.6.post2 on CPU, answers recorded",
    signature_path="/get_server_info",
    window_setting="context_length",
    reserve_tokens=1,
    tokenize=(
        TokenizeRoute(
            "/tokenize", "prompt", "tokens", {"add_special_tokens": False}, model_field="model"
        ),
    ),
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
        # A prompt longer than a chunk goes through both stages (metrics/collector.py).
        "prefill_s": "sglang:per_stage_req_latency_seconds_sum"
        '{stage=~"prefill_forward|chunked_prefill"}',
        "queue_s": "sglang:queue_time_seconds_sum",
    },
    gauges={
        "running": "sglang:num_running_reqs",
        "waiting": "sglang:num_queue_reqs",
        "kv_usage": "sglang:token_usage",
    },
)
