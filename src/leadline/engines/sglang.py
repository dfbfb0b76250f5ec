"""SGLang's OpenAI server, as far as talking to a running one needs."""

from __future__ import annotations

from leadline.engines.engine import Engine, TokenizeRoute

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
