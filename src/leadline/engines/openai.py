"""Any server that speaks the OpenAI API, of which we know no more than that."""

from __future__ import annotations

from leadline.engines.engine import Engine, TokenizeRoute

OPENAI = Engine(
    name="openai",
    source="OpenAI API reference, completions with stream_options.include_usage",
    window_paths=(
        ("/v1/models", "data.0.max_model_len"),
        ("/v1/models", "data.0.meta.n_ctx"),
        ("/v1/models", "data.0.context_length"),
    ),
    tokenize=(
        TokenizeRoute(
            "/tokenize", "prompt", "tokens", {"add_special_tokens": False}, model_field="model"
        ),
        TokenizeRoute("/tokenize", "content", "tokens"),
    ),
    metrics_path=None,
)
