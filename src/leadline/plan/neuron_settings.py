"""Settings of the first plugin generation: vLLM's arguments and NxDI's NeuronConfig overrides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.plan.architecture import Model
from leadline.plan.hardware import Device
from leadline.plan.neuron_buckets import Buckets, list_buckets
from leadline.plan.neuron_rules import NeuronRelease, find_rule
from leadline.plan.options import read_count, read_tokens
from leadline.plan.quantization import Quantization
from leadline.units import parse_tokens

CORE_VARIABLE = "NEURON_LOGICAL_NC_CONFIG"
ARTIFACT_VARIABLE = "NEURON_COMPILED_ARTIFACTS"

_ALIASES = {"tp": "tensor_parallel_size"}
_PLANNED = {
    "additional_config",
    "block_size",
    "dtype",
    "enable_prefix_caching",
    "max_model_len",
    "max_num_batched_tokens",
    "max_num_seqs",
    "num_gpu_blocks_override",
    "tensor_parallel_size",
}


@dataclass(frozen=True)
class NeuronSettings:
    """``override`` is additional_config.override_neuron_config, as the plugin will read it."""

    given: Mapping[str, Any]
    additional: Mapping[str, Any]
    override: Mapping[str, Any]
    tensor: int
    core_size: int
    """Physical cores that work as one logical core (LNC)."""
    max_model_tokens: int
    max_prompt_tokens: int
    max_seqs: int
    prefix_caching: bool
    block_tokens: int
    """0: not given."""
    blocks: int
    """Blocks of the pool that requests can use; slots of a sequence without prefix caching."""
    buckets: Buckets
    kernels: tuple[str, ...]
    """Token-generation kernels that are switched on."""
    kv_element_bytes: int
    quantization: Quantization | None
    """8-bit weights by override; None: as the checkpoint has them."""
    artifacts: str
    unplanned: tuple[str, ...]

    @property
    def least_blocks(self) -> int:
        """What the plugin asserts: every sequence of the batch at max_model_len."""
        return ceil(self.max_model_tokens / max(1, self.block_tokens)) * self.max_seqs


def read_neuron_settings(
    given: Mapping[str, Any],
    env: Mapping[str, str],
    model: Model,
    device: Device,
    release: NeuronRelease,
) -> NeuronSettings:
    """Defaults as the plugin fills them; prefix caching is on unless switched off."""
    known = {spell_option(key): value for key, value in given.items()}
    additional = read_mapping(known.get("additional_config"), "additional_config")
    override = read_mapping(additional.get("override_neuron_config"), "override_neuron_config")
    length = read_tokens("max_model_len", known.get("max_model_len") or model.max_position)
    asked = additional.get("max_prompt_length") or override.get("max_context_length") or length
    prompt = read_tokens("max_prompt_length", asked)
    seqs = parse_tokens(known.get("max_num_seqs", read_table("neuron")["defaults"]["max_num_seqs"]))
    caching = is_on(known.get("enable_prefix_caching", True))
    block = int(known.get("block_size") or 0)
    flags = find_rule("kernel")["flags"]
    return NeuronSettings(
        given=known,
        additional=additional,
        override=override,
        tensor=int(known.get("tensor_parallel_size", 1)),
        core_size=read_core_size(env, override, device),
        max_model_tokens=length,
        max_prompt_tokens=prompt,
        max_seqs=seqs,
        prefix_caching=caching,
        block_tokens=block if caching else length,
        blocks=_count_blocks(known, length, seqs, block) if caching else seqs,
        buckets=read_buckets(override, prompt, length, caching=caching),
        kernels=tuple(flag for flag in flags if is_on(override.get(flag))),
        kv_element_bytes=1 if is_on(override.get(release.kv_quant_key)) else model.dtype_bytes,
        quantization=_read_weights(override),
        artifacts=env.get(ARTIFACT_VARIABLE, ""),
        unplanned=tuple(sorted(set(known) - _PLANNED)),
    )


def read_core_size(env: Mapping[str, str], override: Mapping[str, Any], device: Device) -> int:
    """LNC: the environment wins over the override, which wins over the platform's own."""
    asked = env.get(CORE_VARIABLE) or override.get("logical_nc_config") or device.physical_cores
    size = read_count(CORE_VARIABLE, asked)
    if size < 1 or device.physical_cores % size:
        raise PlanError(
            f"{size} physical cores cannot be one logical core on {device.name}",
            where=CORE_VARIABLE,
            cure=f"1 to {device.physical_cores}; {device.physical_cores} is the default",
        )
    return size


def read_buckets(
    override: Mapping[str, Any], prompt_tokens: int, model_tokens: int, *, caching: bool
) -> Buckets:
    """The override's lists where given, else NxDI's own; one each with enable_bucketing off."""
    if not is_on(override.get("enable_bucketing", True)):
        return Buckets((prompt_tokens,), (0, prompt_tokens) if caching else (), (model_tokens,))
    rule, suffix = find_rule("buckets"), "_cached" if caching else ""
    context = _list(override.get("context_encoding_buckets"))
    # NxDI reads prefix_buckets only beside context_encoding_buckets.
    prefix = _list(override.get("prefix_buckets")) if context else ()
    default = list_buckets(rule[f"context_least{suffix}"], prompt_tokens)
    return Buckets(
        context=context or default,
        cached=(0, *(prefix or default)) if caching else (),
        decode=_list(override.get("token_generation_buckets"))
        or list_buckets(rule[f"decode_least{suffix}"], model_tokens),
    )


def read_mapping(value: object, name: str) -> Mapping[str, Any]:
    """A mapping, or the JSON text of one as it stands on a command line."""
    if value is None or value == "":
        return {}
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise PlanError(f"not JSON: {error}", where=name, cure='write {"key": value}') from error
    if not isinstance(found, Mapping):
        raise PlanError(f"{found!r} is not a mapping", where=name, cure='write {"key": value}')
    return found


def spell_option(key: str) -> str:
    name = key.strip().lstrip("-").replace("-", "_")
    return _ALIASES.get(name, name)


def is_on(value: object) -> bool:
    """Whether a switch is on: true, 1, or a configuration that is not empty."""
    return bool(value) and str(value).strip().lower() not in ("0", "false", "no", "off", "none")


def _list(values: Sequence[int] | None) -> tuple[int, ...]:
    """NxDI sorts the lists that it is given."""
    if values and not isinstance(values, list | tuple):
        raise PlanError(f"{values!r} is not a list of buckets", where="settings", cure="[256, 512]")
    return tuple(sorted(read_count("bucket", value) for value in values)) if values else ()


def _count_blocks(known: Mapping[str, Any], length: int, seqs: int, block: int) -> int:
    """num_gpu_blocks_override, or whole blocks of max_model_len for every sequence."""
    return int(known.get("num_gpu_blocks_override") or length // max(1, block) * seqs)


def _read_weights(override: Mapping[str, Any]) -> Quantization | None:
    """``quantized``: 8 bits, int8 or FP8, one float32 scale a matrix or an output channel."""
    if not is_on(override.get("quantized")):
        return None
    by_channel = "channel" in str(override.get("quantization_type", "per_tensor_symmetric"))
    return Quantization("neuron", 8, 4, group_rows=1 if by_channel else 0)
