"""Weights as bf16 safetensors, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

from leadline.models.shapes import Tensor

# What a layer adds is small beside the embedding, so that the last token decides on the next.
_DEVIATIONS = {"embed_tokens": 1.0, "o_proj": 0.01, "down_proj": 0.01}
_DEVIATION = 0.05
_ALIGNMENT = 8

Bf16 = NDArray[np.uint16]


def to_bf16(values: NDArray[np.float32]) -> Bf16:
    """The upper half of each float32, rounded to nearest, ties to even, as torch does."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def draw(tensor: Tensor, seed: int) -> NDArray[np.float32]:
    """Each tensor from its own name, so that a layer more does not change the others."""
    if tensor.is_norm:
        return np.ones(tensor.shape, np.float32)
    generator = np.random.default_rng([seed, crc32(tensor.name.encode())])
    drawn = generator.standard_normal(tensor.shape, np.float32)
    kind = tensor.name.removesuffix(".weight").rpartition(".")[2]
    return drawn * np.float32(_DEVIATIONS.get(kind, _DEVIATION))


def save_weights(tensors: Mapping[str, Bf16], file: Path) -> None:
    """A safetensors file: length of the head (8 bytes), head as JSON, tensors one after another.

    Format: safetensors' README. Its library takes bf16 only from torch, or by pointer.
    """
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers asks for it
    end = 0
    for name, values in tensors.items():
        start, end = end, end + values.nbytes
        head[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": (start, end)}
    packed = orjson.dumps(head)
    packed += b" " * (-len(packed) % _ALIGNMENT)
    with file.open("wb") as out:
        out.write(len(packed).to_bytes(_ALIGNMENT, "little") + packed)
        for values in tensors.values():
            out.write(np.ascontiguousarray(values).data)
