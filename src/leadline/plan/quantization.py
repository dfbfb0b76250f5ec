"""How many bytes a quantised matrix takes: its packed numbers and their scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from leadline.errors import PlanError


@dataclass(frozen=True)
class Quantization:
    """Scales: one of ``scale_bytes`` for each ``group_rows`` x ``group_columns`` tile.

    A group of 0 spans the whole dimension. ``zero_bits`` are stored per tile beside the scale.
    """

    method: str
    bits: int
    scale_bytes: int
    group_rows: int = 1
    group_columns: int = 0
    zero_bits: int = 0
    experts_only: bool = False
    hidden_padding: int = 0
    """Multiple that the hidden side of an expert is padded to, 0 for none."""
    inner_padding: int = 1
    """Multiple that the intermediate side of an expert is padded to on each rank."""
    ignored: tuple[str, ...] = ()

    def matrix_bytes(self, rows: int, columns: int) -> int:
        """Bytes of one ``rows`` (outputs) x ``columns`` (inputs) matrix with its scales."""
        row_tiles = ceil(rows / self.group_rows) if self.group_rows else 1
        tiles = row_tiles * (ceil(columns / self.group_columns) if self.group_columns else 1)
        tile_bits = 8 * self.scale_bytes + self.zero_bits
        return (rows * columns * self.bits + tiles * tile_bits) // 8


# `--quantization fp8` on an unquantised checkpoint: one scale a tensor (vLLM, Fp8LinearMethod).
ONLINE = {"fp8": Quantization("fp8", 8, 4, group_rows=0)}


def read_quantization(config: Mapping[str, Any], name: str) -> Quantization | None:
    """The quantisation a ``config.json`` states, or None. Unknown methods are refused."""
    text = config.get("text_config") or config
    found = config.get("quantization_config") or text.get("quantization_config")
    if found is None:
        return None
    method = str(found.get("quant_method"))
    if method not in _READERS:
        raise PlanError(
            f"{name} is quantised with {method!r}, whose size this planner does not know",
            where="config.json: quantization_config",
            cure="known: " + ", ".join(sorted(_READERS)),
        )
    return _READERS[method](found)


def _fp8(found: Mapping[str, Any]) -> Quantization:
    rows, columns = found.get("weight_block_size") or (0, 0)
    skipped = tuple(found.get("modules_to_not_convert") or found.get("ignored_layers") or ())
    return Quantization("fp8", 8, 4, rows, columns, ignored=skipped)


def _compressed(found: Mapping[str, Any]) -> Quantization:
    """One group of weights. Scales are float32 per channel, or 16 bit per group (vLLM 0.12.0)."""
    weights = next(iter(found["config_groups"].values()))["weights"]
    strategy, ignored = weights["strategy"], tuple(found.get("ignore") or ())
    bits = int(weights["num_bits"])
    if strategy == "group":
        return Quantization(
            "compressed-tensors", bits, 2, 1, weights["group_size"], ignored=ignored
        )
    if strategy == "block":
        rows, columns = weights["block_structure"]
        return Quantization("compressed-tensors", bits, 4, rows, columns, ignored=ignored)
    rows = 1 if strategy == "channel" else 0
    return Quantization("compressed-tensors", bits, 4, rows, ignored=ignored)


def _packed(found: Mapping[str, Any]) -> Quantization:
    """GPTQ and AWQ: 16-bit scales and packed zero points, one for each group of inputs."""
    bits, group = int(found["bits"]), int(found.get("group_size") or 128)
    return Quantization(str(found["quant_method"]), bits, 2, 1, max(group, 0), zero_bits=bits)


def _mxfp4(found: Mapping[str, Any]) -> Quantization:
    """One scale of 8 bits for 32 inputs; padded as for the Triton kernel (vLLM, Mxfp4MoEMethod).

    Inner side to 64 a rank by its source; hidden side to 256 by the 64.38 GiB that vLLM logs for
    gpt-oss-120b. Other kernels pad the inner side to 128 (65.97 GiB).
    """
    skipped = tuple(found.get("modules_to_not_convert") or ())
    return Quantization(
        "mxfp4",
        4,
        1,
        1,
        32,
        experts_only=True,
        hidden_padding=256,
        inner_padding=64,
        ignored=skipped,
    )


def _modelopt(found: Mapping[str, Any]) -> Quantization:
    ignored = tuple(found.get("ignore") or found.get("exclude_modules") or ())
    if "NVFP4" in str(found.get("quant_algo", "")).upper():
        return Quantization("modelopt", 4, 1, 1, 16, ignored=ignored)
    return Quantization("modelopt", 8, 4, group_rows=0, ignored=ignored)


_READERS = {
    "fp8": _fp8,
    "compressed-tensors": _compressed,
    "gptq": _packed,
    "awq": _packed,
    "mxfp4": _mxfp4,
    "modelopt": _modelopt,
}
