"""The models of `leadline models make-tiny` that these tests serve."""

from __future__ import annotations

from pathlib import Path

from leadline.models.tiny import make_tiny

# Name to (shape, layers, sliding window or chunk).
SHAPES = {
    "dense": ("gqa", 1, 512),
    "sliding": ("swa", 1, 512),
    "chunked": ("llama4", 4, 1024),
    "qwen3": ("qwen3", 1, 512),
}
WINDOW = 10_485_760


def make_model(folder: Path, name: str) -> Path:
    """One head, a token for each byte, and a window of ten million."""
    shape, layers, local_window = SHAPES[name]
    heads = {"heads": 1, "kv_heads": 1, "head_dim": 32, "hidden": 64, "intermediate": 64}
    sizes = {"window": WINDOW, "layers": layers, "local_window": local_window, **heads}
    return make_tiny(folder / name, shape, sizes, "bytes", seed=0)
