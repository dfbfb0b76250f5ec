"""vLLM's OpenAI server, as far as talking to a running one needs."""

from __future__ import annotations

from leadline.engines.engine import Engine, TokenizeRoute

VLLM = Engine(
    name="vllm",
    source="vLLM 0.12.0 and 0.32.0 on CPU, answers recorded",
    signature_path="/version",
    window_setting="max_model_len",
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
    token_count_path="usage.completion_tokens",
    counters={
        "prompt_tokens": "vllm:prompt_tokens_total",
        "cached_tokens": "vllm:prefix_cache_hits_total",
        "queried_tokens": "vllm:prefix_cache_queries_total",
        "preemptions": "vllm:num_preemptions_total",
    },
)
