"""What a model is, layer by layer, read from its Hugging Face ``config.json``.

An architecture that ``catalog/families.toml`` does not describe is refused, never guessed: a
planner that assumes "some transformer" is wrong by a factor, not by a percent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from leadline.catalog.hub import download_config
from leadline.catalog.reading import is_in_catalog, read_config, read_table
from leadline.errors import PlanError
from leadline.plan.patterns import Reach, layer_reaches
from leadline.plan.quantization import Quantization, read_quantization
from leadline.plan.vision import Vision, read_vision

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_SIZES = (
    "hidden_size",
    "vocab_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention: sizes of one head and of the compressed vectors."""

    query_rank: int
    """0: the query is not compressed."""
    kv_rank: int
    plain_size: int
    rope_size: int


@dataclass(frozen=True)
class Attention:
    reach: Reach
    heads: int
    kv_heads: int
    key_size: int
    value_size: int
    latent: Latent | None = None

    @property
    def cached_heads(self) -> int:
        """KV heads that the cache keeps: one latent vector with MLA."""
        return 1 if self.latent else self.kv_heads

    @property
    def cached_elements(self) -> int:
        """Numbers kept for one token by one cached head: key and value, or the latent vector."""
        if self.latent:
            return self.latent.kv_rank + self.latent.rope_size
        return self.key_size + self.value_size


@dataclass(frozen=True)
class FeedForward:
    """``intermediate`` is one expert's, or the dense layer's; ``shared`` all shared experts'."""

    intermediate: int
    experts: int = 0
    experts_per_token: int = 0
    shared: int = 0


@dataclass(frozen=True)
class Layer:
    attention: Attention
    feed_forward: FeedForward


@dataclass(frozen=True)
class Traits:
    """The tensors of a family beyond its matrices; see ``families.toml``."""

    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    head_bias: bool
    norm_bias: bool
    qk_norm: str
    norms: int
    gated: bool
    sinks: bool
    shared_gate: bool
    router_bias: bool
    expert_bias: bool
    score_bias: bool


@dataclass(frozen=True)
class Rope:
    """Tables of cosines and sines: each of ``positions`` x ``width`` numbers."""

    positions: tuple[int, ...]
    """Length of each table; a model may have one for its global and one for its local layers."""
    width: int


@dataclass(frozen=True, eq=False)
class Model:
    """Compared and hashed by identity: sums over its layers are remembered for each model."""

    name: str
    family: str
    engine_class: str
    """First of `architectures`: the class that engines look the model up by."""
    source: str
    hidden: int
    vocabulary: int
    layers: tuple[Layer, ...]
    traits: Traits
    tied: bool
    dtype: str
    max_position: int
    rope: Rope
    quantization: Quantization | None
    vision: Vision | None

    @cached_property
    def kinds(self) -> tuple[tuple[Layer, int], ...]:
        """Layers that are alike, and how many there are of each: most sums need only these."""
        return tuple(Counter(self.layers).items())

    @cached_property
    def without_vision(self) -> Model:
        """The same model as an engine holds it that serves text alone."""
        return replace(self, vision=None)

    @property
    def heads(self) -> int:
        return self.layers[0].attention.heads

    @property
    def kv_heads(self) -> int:
        return self.layers[0].attention.cached_heads

    @property
    def is_mla(self) -> bool:
        return self.layers[0].attention.latent is not None

    @property
    def experts(self) -> int:
        return max(layer.feed_forward.experts for layer, _ in self.kinds)

    @property
    def dtype_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]

    @cached_property
    def reaches(self) -> tuple[Reach, ...]:
        return tuple(layer.attention.reach for layer in self.layers)


def load_model(place: str | Path) -> Model:
    """A model from a ``config.json``, its folder, the catalog, or the Hugging Face hub."""
    path = Path(place).expanduser()
    if path.is_dir():
        path /= "config.json"
    if path.is_file() or path.name == "config.json":
        return _read_file(path, path.parent.name)
    if is_in_catalog(str(place)):
        config = read_config(str(place))
        return read_model(config, name=config["_name"], source=config["_source"])
    return _read_file(download_config(str(place)), str(place))


def _read_file(path: Path, name: str) -> Model:
    config = _parse_file(path)
    try:
        return read_model(config, name=name, source=str(path))
    except KeyError as missing:
        raise PlanError(
            f"{missing.args[0]!r} is missing", where=str(path), cure="take the model's own file"
        ) from None


def _parse_file(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as broken:
        what = f"no model description can be read: {broken}"
    else:
        if isinstance(config, dict):
            return config
        what = "a model description is a mapping, this is something else"
    raise PlanError(
        what, where=str(path), cure="name the model's folder, its config.json, or its hub id"
    )


def read_model(config: Mapping[str, Any], *, name: str, source: str) -> Model:
    """Facts of one model from the parsed ``config.json``. Refuses what it does not know."""
    family = _family(str(config.get("model_type")), name)
    text_family = _family(_text_type(config, family), name) if "text" in family else family
    text = dict(text_family.get("defaults", {})) | _text(config)
    _check_sizes(text, name)
    kinds = layer_reaches(text, text_family["pattern"], name)
    attentions = [_attention(text, text_family, reach) for reach in kinds]
    feeds = _feed_forwards(text, text_family)
    layers = tuple(Layer(*pair) for pair in zip(attentions, feeds, strict=True))
    return Model(
        name=name,
        family=text_family["name"],
        engine_class=(config.get("architectures") or [""])[0],
        source=source,
        hidden=text["hidden_size"],
        vocabulary=text["vocab_size"],
        layers=layers,
        traits=_traits(text, text_family),
        tied=_tied(config, text, text_family),
        dtype=_dtype(config, text),
        max_position=text["max_position_embeddings"],
        rope=_rope(text, attentions[0], text_family),
        quantization=read_quantization(config, name),
        vision=read_vision(config, name),
    )


def _family(model_type: str, name: str) -> Mapping[str, Any]:
    families = read_table("families")
    if reason := families["refused"].get(model_type):
        raise PlanError(
            f"{name} is a {model_type!r}: {reason}",
            where="config.json: model_type",
            cure="plan it from the engine's own log (--available-kv-gib), or measure it",
        )
    if model_type not in families or model_type == "refused":
        known = ", ".join(sorted(set(families) - {"refused"}))
        raise PlanError(
            f"{name} is a {model_type!r}, an architecture this planner does not know",
            where="config.json: model_type",
            cure=f"known: {known}",
        )
    found = dict(families[model_type])
    if base := found.get("like"):
        found = dict(families[base]) | found
    return found | {"name": model_type}


def _text(config: Mapping[str, Any]) -> dict[str, Any]:
    return dict(config.get("text_config") or config)


def _check_sizes(text: Mapping[str, Any], name: str) -> None:
    for key in _SIZES:
        value = text[key]
        if not isinstance(value, int) or value < 1:
            raise PlanError(
                f"{key} of {name} is {value!r}, not a whole number above 0",
                where="config.json",
                cure="take the model's own file",
            )


def _text_type(config: Mapping[str, Any], family: Mapping[str, Any]) -> str:
    return str(_text(config).get("model_type") or family["text"])


def _attention(text: Mapping[str, Any], family: Mapping[str, Any], reach: Reach) -> Attention:
    heads = text["num_attention_heads"]
    if family.get("attention") == "mla":
        latent = Latent(
            query_rank=text.get("q_lora_rank") or 0,
            kv_rank=text["kv_lora_rank"],
            plain_size=text["qk_nope_head_dim"],
            rope_size=text["qk_rope_head_dim"],
        )
        key_size = latent.plain_size + latent.rope_size
        return Attention(reach, heads, heads, key_size, text["v_head_dim"], latent)
    size = text.get("head_dim") or text["hidden_size"] // heads
    return Attention(reach, heads, text.get("num_key_value_heads") or heads, size, size)


def _feed_forwards(text: Mapping[str, Any], family: Mapping[str, Any]) -> list[FeedForward]:
    count = text["num_hidden_layers"]
    dense = FeedForward(text[family.get("dense_intermediate", "intermediate_size")])
    rule = family.get("experts")
    if rule is None or not text.get(rule["count"]):
        return [dense] * count
    intermediate = text[rule["intermediate"]]
    shared = text.get(rule.get("shared", ""), 0) or 0
    shared += (text.get(rule.get("shared_count", ""), 0) or 0) * intermediate
    sparse = FeedForward(intermediate, text[rule["count"]], text[rule["each"]], shared)
    return [sparse if _is_sparse(text, rule, index) else dense for index in range(count)]


def _is_sparse(text: Mapping[str, Any], rule: Mapping[str, Any], index: int) -> bool:
    only = text.get(rule.get("only_layers", ""))
    if only:
        return index in only
    step = text.get(rule.get("step", ""), 1)
    first = text.get(rule.get("first_dense", ""), 0) or 0
    dense = text.get(rule.get("dense_layers", "")) or ()
    return bool(step) and index >= first and (index + 1) % step == 0 and index not in dense


def _traits(text: Mapping[str, Any], family: Mapping[str, Any]) -> Traits:
    def flag(key: str, table: Mapping[str, Any] = family) -> bool:
        value = table.get(key, False)
        return bool(text.get(value, False)) if isinstance(value, str) else bool(value)

    experts = family.get("experts", {})
    normed = {"qk_norm_if": True} | dict(family)
    return Traits(
        qkv_bias=flag("qkv_bias"),
        output_bias=flag("output_bias"),
        mlp_bias=flag("mlp_bias"),
        head_bias=flag("head_bias"),
        norm_bias=flag("norm_bias"),
        qk_norm=family.get("qk_norm", "none") if flag("qk_norm_if", normed) else "none",
        norms=family.get("norms", 2),
        gated=family.get("gated", True),
        sinks=flag("sinks"),
        shared_gate=flag("shared_gate", experts),
        router_bias=flag("router_bias", experts),
        expert_bias=flag("expert_bias", experts),
        score_bias=flag("score_bias", experts),
    )


def _tied(config: Mapping[str, Any], text: Mapping[str, Any], family: Mapping[str, Any]) -> bool:
    default = family.get("tied", False)
    return bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", default)))


def _dtype(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """The checkpoint's dtype; engines load float32 checkpoints as bfloat16 unless told."""
    keys = ("dtype", "torch_dtype")
    found = next((t[k] for t in (text, config) for k in keys if t.get(k)), "bfloat16")
    return "bfloat16" if found == "float32" else str(found)


def _rope(text: Mapping[str, Any], attention: Attention, family: Mapping[str, Any]) -> Rope:
    """YaRN and linear scaling lengthen the table by their factor, llama3 scaling does not.

    Source: vLLM 0.12.0, ``model_executor/layers/rotary_embedding``. A second table is unscaled.
    """
    scaling: Mapping[str, Any] = text.get("rope_scaling") or text.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    size = attention.latent.rope_size if attention.latent else attention.key_size
    plain = longest = text["max_position_embeddings"] * family.get("rope_factor", 1)
    if kind in ("yarn", "deepseek_yarn"):
        longest = int(scaling["original_max_position_embeddings"] * scaling["factor"])
    if kind == "linear":
        longest = int(plain * scaling["factor"])
    width = text.get("rotary_dim") or int(size * text.get("partial_rotary_factor", 1.0))
    return Rope((longest, *[plain] * (family.get("rope_tables", 1) - 1)), width)
