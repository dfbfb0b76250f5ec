"""The models of `leadline models make-tiny` that these tests serve."""

from __future__ import annotations

from pathlib import Path

from leadline.models.tiny import make_tiny

# Name to (shape, layers, sliding window or chunk, experts).
SHAPES = {
    "dense": ("gqa", 1, 512, 0),
    "sliding": ("swa", 1, 512, 0),
    "chunked": ("llama4", 4, 1024, 0),
    "experts": ("llama4", 4, 1024, 2),  # 0.12 cannot run them on a CPU
    "qwen3": ("qwen3", 1, 512, 0),
}
WINDOW = 10_485_760


def make_model(folder: Path, name: str) -> Path:
    """One head, a token for each byte, and a window of ten million."""
    shape, layers, local_window, experts = SHAPES[name]
    heads = {"heads": 1, "kv_heads": 1, "head_dim": 32, "hidden": 64, "intermediate": 64}
    sizes = {"window": WINDOW, "layers": layers, "local_window": local_window, **heads}
    sizes |= {"experts": experts}
    return make_tiny(folder / name, shape, sizes, "bytes", seed=0)
