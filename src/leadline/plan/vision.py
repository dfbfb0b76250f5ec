"""The image encoder of a multimodal model: its weights, and what profiling it holds on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from leadline.errors import PlanError


@dataclass(frozen=True)
class Vision:
    """``image_tokens``: the most that one image may become."""

    kind: str
    layers: int
    hidden: int
    parameters: int
    image_tokens: int
    image_pixels: int
    """Numbers in the pixel tensor of one image (3 channels)."""


def read_vision(config: Mapping[str, Any], name: str) -> Vision | None:
    """Facts of the encoder, or None for a text model. An unknown encoder is refused."""
    found = config.get("vision_config")
    if not found:
        return None
    kind = str(found.get("model_type"))
    if kind not in _ENCODERS:
        raise PlanError(
            f"{name} has an image encoder {kind!r} whose size this planner does not know",
            where="config.json: vision_config",
            cure="known: " + ", ".join(sorted(_ENCODERS)),
        )
    text = config.get("text_config") or config
    return _ENCODERS[kind](config, found, int(text["hidden_size"]))


def _block_parameters(hidden: int, intermediate: int) -> int:
    """One transformer block with biases and two layer norms: qkv, output, two MLP matrices."""
    attention = 4 * hidden * hidden + 4 * hidden
    return attention + 2 * hidden * intermediate + hidden + intermediate + 4 * hidden


def _siglip(config: Mapping[str, Any], found: Mapping[str, Any], text_hidden: int) -> Vision:
    """SigLIP (Gemma-3, LLaVA-NeXT): patches with bias, learned positions, a final layer norm."""
    hidden, size, patch = found["hidden_size"], found["image_size"], found["patch_size"]
    layers = found["num_hidden_layers"]
    patches = (size // patch) ** 2
    body = layers * _block_parameters(hidden, found["intermediate_size"])
    stem = 3 * patch**2 * hidden + hidden + patches * hidden + 2 * hidden
    if tokens := config.get("mm_tokens_per_image"):
        projector = hidden * text_hidden + hidden
        total = body + stem + projector
        return Vision("siglip", layers, hidden, total, tokens, 3 * size**2)
    levels = config.get("vision_feature_layer", -2)
    wide = hidden * (len(levels) if isinstance(levels, list) else 1)
    projector = wide * text_hidden + text_hidden + text_hidden**2 + 2 * text_hidden
    tiles = 1 + max((w // size) * (h // size) for w, h in config["image_grid_pinpoints"])
    total = body + stem + projector
    return Vision("siglip", layers, hidden, total, tiles * patches, tiles * 3 * size**2)


def _llama4(config: Mapping[str, Any], found: Mapping[str, Any], text_hidden: int) -> Vision:
    """Llama-4: a class token, an adapter MLP after pixel shuffle, a projector without bias."""
    hidden, size, patch = found["hidden_size"], found["image_size"], found["patch_size"]
    layers = found["num_hidden_layers"]
    patches = (size // patch) ** 2
    body = layers * _block_parameters(hidden, found["intermediate_size"])
    stem = 3 * patch**2 * hidden + hidden + (patches + 1) * hidden + 4 * hidden
    shuffled = found["projector_input_dim"] * found["intermediate_size"]
    adapter = shuffled + found["projector_input_dim"] * found["projector_output_dim"]
    projector = found["vision_output_dim"] * text_hidden
    tiles = int(config.get("max_image_tiles", 16)) + 1
    tokens = tiles * int(patches * found["pixel_shuffle_ratio"] ** 2)
    total = body + stem + adapter + projector
    return Vision("llama4", layers, hidden, total, tokens, tiles * 3 * size**2)


def _pixtral(config: Mapping[str, Any], found: Mapping[str, Any], text_hidden: int) -> Vision:
    """Pixtral: gated MLP, RMS norms, no biases; patches merged before the projector."""
    hidden, size, patch = found["hidden_size"], found["image_size"], found["patch_size"]
    layers = found["num_hidden_layers"]
    block = 4 * hidden**2 + 3 * hidden * found["intermediate_size"] + 2 * hidden
    body = layers * block + 3 * patch**2 * hidden + hidden
    merge = int(config.get("spatial_merge_size", 1))
    merger = merge**2 * hidden**2 + hidden if merge > 1 else 0
    projector = hidden * text_hidden + text_hidden**2
    tokens = (size // patch // merge) ** 2
    total = body + merger + projector
    return Vision("pixtral", layers, hidden, total, tokens, 3 * size**2)


def _moonvit(_config: Mapping[str, Any], found: Mapping[str, Any], text_hidden: int) -> Vision:
    """MoonViT (Kimi-VL): at most 4096 patches an image, merged two by two, a wide projector."""
    hidden, patch, layers = found["hidden_size"], found["patch_size"], found["num_hidden_layers"]
    height, width = found.get("init_pos_emb_height", 64), found.get("init_pos_emb_width", 64)
    merged = found["merge_kernel_size"][0] * found["merge_kernel_size"][1]
    body = layers * _block_parameters(hidden, found["intermediate_size"])
    stem = 3 * patch**2 * hidden + hidden + height * width * hidden + 2 * hidden
    wide = merged * hidden
    projector = 2 * hidden + wide * wide + wide + wide * text_hidden + text_hidden
    patches = height * width
    total = body + stem + projector
    return Vision("moonvit", layers, hidden, total, patches // merged, 3 * patch**2 * patches)


def _qwen3_vl(_config: Mapping[str, Any], found: Mapping[str, Any], text_hidden: int) -> Vision:
    """Qwen3-VL: pairs of frames, one merger at the end and one for each deepstack level.

    At most 16384 tokens an image: longest_edge 16777216 pixels of the checkpoint's processor.
    """
    hidden, patch, layers = found["hidden_size"], found["patch_size"], found["depth"]
    merge, frames = found["spatial_merge_size"] ** 2, found["temporal_patch_size"]
    body = layers * _block_parameters(hidden, found["intermediate_size"])
    stem = (3 * frames * patch**2 + 1 + found["num_position_embeddings"]) * hidden
    wide = merge * hidden
    merger = wide * wide + wide + wide * text_hidden + text_hidden
    levels = len(found["deepstack_visual_indexes"])
    mergers = merger + 2 * hidden + levels * (merger + 2 * wide)
    tokens = 16_777_216 // (patch**2 * merge)
    pixels = tokens * merge * 3 * frames * patch**2
    return Vision("qwen3_vl", layers, hidden, body + stem + mergers, tokens, pixels)


_ENCODERS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], int], Vision]] = {
    "siglip_vision_model": _siglip,
    "llama4_vision_model": _llama4,
    "pixtral": _pixtral,
    "moonvit": _moonvit,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl,
}
