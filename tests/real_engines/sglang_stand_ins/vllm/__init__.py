"""The few layers that SGLang takes from vLLM where there is no GPU, in plain torch."""
