"""What a first-generation plan should say beside its verdict: silent defaults, doubts, records."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from leadline.plan.architecture import Model
from leadline.plan.hardware import Device
from leadline.plan.neuron_buckets import count_tiles
from leadline.plan.neuron_checks import count_row_tokens, uses_odd_batch
from leadline.plan.neuron_rules import NeuronRelease, Rule, find_rule
from leadline.plan.neuron_settings import NeuronSettings, is_on
from leadline.plan.options import list_ignored, read_count
from leadline.units import show_tokens

ODD_BATCH = (
    "the published kernel refuses decode buckets below 256; that odd batches compile is a record"
)


def note_neuron(
    model: Model, device: Device, settings: NeuronSettings, release: NeuronRelease
) -> Iterator[str]:
    yield f"packages: {release}"
    yield from _note_defaults(settings)
    yield from _note_ignored(settings)
    yield from _note_overrides(settings, release)
    yield from _note_flash(settings)
    yield from note_heads(model, settings.tensor)
    if uses_odd_batch(settings, release):
        yield find_rule("odd_batch").note(ODD_BATCH)
    yield from (rule.note(text) for rule, text in list_doubts(device, settings, release))
    yield find_rule("graph_memory").note("memory of the compiled graphs is fitted")
    yield from list_ignored(settings.unplanned, "neuron")


def list_doubts(
    device: Device, settings: NeuronSettings, release: NeuronRelease
) -> Iterator[tuple[Rule, str]]:
    """Where no rule decides."""
    if settings.kernels and not release.tiled_kernel:
        yield from _doubt_mask_row(device, settings)
    yield from _doubt_module(settings)


def note_heads(model: Model, cores: int) -> Iterator[str]:
    """Copies and padding that the settings do not show."""
    heads = model.kv_heads
    if cores > heads and cores % heads == 0:
        yield f"{heads} KV heads on {cores} cores: every token is stored {cores // heads} times"
    if model.heads % cores:
        padded = ceil(model.heads / cores) * cores
        yield f"{model.heads} query heads are padded to {padded}; their weights are not counted"
    if any(reach.kind != "full" for reach in model.reaches):
        yield "layers with local attention are counted as if they kept every token"


def _note_defaults(settings: NeuronSettings) -> Iterator[str]:
    if "enable_prefix_caching" not in settings.given:
        yield "enable_prefix_caching is not set: prefix caching is on"
    if "max_num_seqs" not in settings.given:
        yield f"max_num_seqs is not set: a batch of {settings.max_seqs} is compiled"
    if settings.prefix_caching and "num_gpu_blocks_override" not in settings.given:
        yield (
            "num_gpu_blocks_override is not set: vLLM sizes its pool by free memory and may use "
            "blocks that were not compiled"
        )
    if settings.artifacts:
        yield f"artifacts in {settings.artifacts} are loaded as they are, whatever the settings say"
    else:
        yield "NEURON_COMPILED_ARTIFACTS is not set: every start traces the model again"


def _note_ignored(settings: NeuronSettings) -> Iterator[str]:
    if "override-neuron-config" in settings.additional:
        yield "additional_config: override-neuron-config is ignored, write override_neuron_config"
    if "max_num_batched_tokens" in settings.given:
        yield "max_num_batched_tokens is ignored: the plugin sets 131072"
    if "block_size" in settings.given and not settings.prefix_caching:
        yield "block_size is ignored without prefix caching"


def _note_overrides(settings: NeuronSettings, release: NeuronRelease) -> Iterator[str]:
    override = settings.override
    block = override.get("pa_block_size")
    if (
        settings.prefix_caching
        and block is not None
        and read_count("pa_block_size", block, 0) != settings.block_tokens
    ):
        yield f"pa_block_size {block} is not block_size {settings.block_tokens}, and not checked"
    if is_on(override.get("is_prefix_caching")) and not settings.prefix_caching:
        yield "is_prefix_caching is on, enable_prefix_caching is off: not checked, and wrong"
    if is_on(override.get("kv_cache_quant")) and release.kv_quant_key != "kv_cache_quant":
        yield f"kv_cache_quant has no effect since NxDI 0.8, use {release.kv_quant_key}"


def _note_flash(settings: NeuronSettings) -> Iterator[str]:
    """Only on logical cores of two does the kernel ask for even lengths."""
    rule = find_rule("flash")
    slow = [size for size in settings.buckets.context if size % _flash_multiple(size)]
    if slow and settings.core_size > 1:
        yield rule.note(f"prefill buckets {slow} run without the flash kernel")


def _flash_multiple(size: int) -> int:
    rule = find_rule("flash")
    return int(rule["long_multiple" if size >= rule["long_from"] else "short_multiple"])


def _doubt_mask_row(device: Device, settings: NeuronSettings) -> Iterator[tuple[Rule, str]]:
    """Between the score row alone and score and mask rows together nothing is certain."""
    score, mask = find_rule("score_row"), find_rule("mask_row")
    limit = device.sbuf_bytes_per_partition
    low = count_row_tokens(limit, score["score_bytes"] + mask["mask_bytes"], settings)
    high = count_row_tokens(limit, score["score_bytes"], settings)
    longest = settings.buckets.decode[-1]
    if limit and low < longest <= high:
        text = f"{show_tokens(longest)} tokens pass by the score row (limit {show_tokens(high)}), "
        yield mask, f"{text}not with a mask row beside it (limit {show_tokens(low)})"


def _doubt_module(settings: NeuronSettings) -> Iterator[tuple[Rule, str]]:
    rule, (new, cached) = find_rule("module_size"), settings.buckets.largest_cell
    tiles = count_tiles(new, cached, rule["tile_rows"], rule["tile_columns"])
    failed = cached and tiles >= rule["failed_cached_tiles"]
    if not failed and tiles > rule["passed_cached_tiles" if cached else "passed_tiles"]:
        yield rule, f"whether a graph of {tiles:,} attention tiles compiles is not predictable"
