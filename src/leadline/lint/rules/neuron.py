"""vLLM on Neuron, first plugin generation: what the plugin ignores, refuses and cannot compile."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from math import ceil

from leadline.catalog.engine_facts import parse_release
from leadline.lint.command import UNKNOWN, Command, Place
from leadline.lint.finding import Edit, Hit
from leadline.lint.images import parse_image
from leadline.lint.neuron import CORE_SIZE, NeuronCommand, neuron_facts, read_neuron
from leadline.lint.rule import rule
from leadline.plan.neuron_rules import find_rule, list_releases
from leadline.plan.neuron_settings import is_on
from leadline.units import show_bytes, show_tokens

_PLUGIN = "vllm-neuron 0.4.1 and 0.5.0, platform.py and neuronx_distributed_model_loader.py"
_NXDI = "NxDI 0.7 to 0.9, models/config.py and modules/autobucketing.py"
_HYPHENS = "override-neuron-config"
_SBUF_BYTES = 229_376
_ARTIFACTS = "NEURON_COMPILED_ARTIFACTS"
# The end of a folder's name that says for which settings it was made.
_DIGEST = re.compile(r"-[0-9a-f]{8,}/?$")


def _plugin(command: Command, version: str) -> NeuronCommand | None:
    found = read_neuron(command, version)
    return found if found is not None and found.is_plugin and found.release is not None else None


def _at(found: NeuronCommand, name: str = "") -> Place:
    given = found.command.given.get(name) or found.anchor
    return given.place if given else found.command.entry or found.command.place


@rule("NEU001", "error", "vllm-neuron platform.py: additional_config.get('override_neuron_config')")
def hyphenated_key(command: Command, version: str) -> Iterator[Hit]:
    """Key of ``additional_config`` that the plugin does not read.

    The user guide of SDK 2.28 prints it with hyphens; the code asks for underscores, and only an
    INFO line says that no overrides were passed. Everything under the key is silently ignored.
    """
    found = read_neuron(command, version)
    if found is None:
        return
    native = found.release is not None and found.release.generation == 2
    known = neuron_facts()["native_additional_config" if native else "additional_config"]
    for key in found.additional:
        if key not in known:
            near = key.replace("-", "_")
            near = near if near in known else next(iter(difflib.get_close_matches(key, known)), "")
            yield Hit(
                f"additional_config has {key!r}, which the plugin does not read",
                _at(found),
                f"write {near}" if near else "known: " + ", ".join(known),
                edits=_respell(found, key) if key == _HYPHENS and not native else (),
            )


def _respell(found: NeuronCommand, key: str) -> tuple[Edit, ...]:
    anchor = found.anchor
    place = anchor.value_place if anchor else None
    if place is None or place.span is None:
        return ()
    return (Edit(place.span, key.replace("-", "_"), part=key),)


@rule("NEU002", "error", _NXDI + ": an unknown key only logs a warning")
def unknown_override(command: Command, version: str) -> Iterator[Hit]:
    """NeuronConfig has no such key.

    It is dropped with a warning in the log ("Unexpected keyword arguments"); AWS' own model card
    ships one.
    """
    found = read_neuron(command, version)
    if found is None or found.release is None or found.release.generation == 0:
        return
    if found.release.generation == 2:
        yield from _unknown_native(found)
        return
    known = neuron_facts()["neuron_config"]
    nxdi = parse_release(found.release.nxdi)
    for key in found.override:
        row = known.get(key)
        at = _at(found)
        if row is None and not key.endswith(("_neuron_config", "draft_overrides")):
            near = next(iter(difflib.get_close_matches(key, known, cutoff=0.6)), None)
            yield Hit(f"NeuronConfig has no {key}", at, f"write {near}" if near else "take it out")
        elif row and nxdi < parse_release(row["since"]):
            yield Hit(
                f"{key} came with NxDI {row['since']}", at, "take it out", source=row["source"]
            )
        elif row and "last" in row and nxdi > parse_release(row["last"]):
            new = f"write {row['instead']}" if "instead" in row else "take it out"
            yield Hit(f"{key} was last in NxDI {row['last']}", at, new, source=row["source"])


def _unknown_native(found: NeuronCommand) -> Iterator[Hit]:
    given = found.additional.get("neuron_config")
    known = neuron_facts()["native_neuron_config"]
    for key in given if isinstance(given, dict) else ():
        if key not in known:
            near = next(iter(difflib.get_close_matches(key, known, cutoff=0.6)), None)
            yield Hit(
                f"neuron_config of the native plugin has no {key}",
                _at(found),
                f"write {near}" if near else "known: " + ", ".join(known),
                source=neuron_facts()["source"],
            )


@rule("NEU004", "error", _PLUGIN + ": 'When prefix caching is enabled, block_size must be set.'")
def caching_without_blocks(command: Command, version: str) -> Iterator[Hit]:
    """Prefix caching without ``block_size`` or ``num_gpu_blocks_override``.

    The first is asserted; without the second vLLM sizes the pool from free memory and can index
    past what was compiled.
    """
    found = _plugin(command, version)
    if found is None or not found.caches:
        return
    why = "prefix caching is on" + ("" if _says_caching(command) else " (by default)")
    if "block_size" not in command.given:
        cure = "set block_size, for example 32, or enable_prefix_caching=False"
        yield Hit(f"{why} and block_size is not set", _at(found, "enable_prefix_caching"), cure)
    if "num_gpu_blocks_override" not in command.given and _says_caching(command):
        yield Hit(
            f"{why} and num_gpu_blocks_override is not set",
            _at(found, "enable_prefix_caching"),
            "set it to ceil(max_model_len / block_size) x max_num_seqs",
        )


def _says_caching(command: Command) -> bool:
    return "enable_prefix_caching" in command.given


@rule("NEU005", "error", _PLUGIN + ", _handle_pa_num_blocks")
def blocks_disagree(command: Command, version: str) -> Iterator[Hit]:
    """``pa_num_blocks`` without the same ``num_gpu_blocks_override`` is a ValueError."""
    found = _plugin(command, version)
    if found is None or "pa_num_blocks" not in found.override:
        return
    blocks, given = found.override["pa_num_blocks"], command.number("num_gpu_blocks_override")
    if blocks is not UNKNOWN and blocks != given:
        yield Hit(
            f"pa_num_blocks is {blocks}, num_gpu_blocks_override is {given or 'not set'}",
            _at(found),
            f"set num_gpu_blocks_override to {blocks}, or take pa_num_blocks out",
        )


@rule("NEU006", "error", _PLUGIN + ", _validate_neuron_config")
def too_few_blocks(command: Command, version: str) -> Iterator[Hit]:
    """Fewer blocks than all sequences need, or a window that blocks do not fill."""
    found = _plugin(command, version)
    block = found.block_tokens if found else None
    if found is None or not found.caches or not block or not found.window:
        return
    least = ceil(found.window / block) * found.sequences
    blocks = command.number("num_gpu_blocks_override")
    if blocks is not None and blocks < least:
        yield Hit(
            f"{blocks} blocks of {block}; {found.sequences} sequences of "
            f"{show_tokens(found.window)} tokens need {least}",
            command.given["num_gpu_blocks_override"].place,
            f"write {least}",
        )
    if blocks is None and found.window % block:
        yield Hit(
            f"max_model_len {found.window} is no multiple of block_size {block}",
            command.given["block_size"].place,
            "make it one, or set num_gpu_blocks_override",
        )


@rule("NEU007", "error", str(find_rule("context_multiple").source))
def uneven_buckets(command: Command, version: str) -> Iterator[Hit]:
    """Token-generation kernel on two-core logical cores with a bucket that is no multiple of 256.

    "sharded context length must be a multiple of 128": the default list starts at 128, so
    the kernel needs ``token_generation_buckets`` of its own at any length.
    """
    found = _plugin(command, version)
    buckets = found.buckets if found else None
    if found is None or buckets is None or not found.kernels or _tiled(found):
        return
    multiple = find_rule("context_multiple")["tokens"] * CORE_SIZE
    if uneven := [size for size in buckets.decode if size % multiple]:
        yield Hit(
            f"{found.kernels[0]} with decode buckets {uneven}, no multiples of {multiple}",
            _at(found),
            "set token_generation_buckets (and context_encoding_buckets) from 256 on",
        )


def _tiled(found: NeuronCommand) -> bool:
    return found.release is not None and found.release.tiled_kernel


@rule("NEU008", "error", str(find_rule("score_row").source))
def score_row_too_long(command: Command, version: str) -> Iterator[Hit]:
    """The token-generation kernel's row of scores exceeds a partition of SBUF.

    4 bytes x context / 2 cores of the 224 KiB; the kernel of SDK 2.29 works in tiles.
    """
    found = _plugin(command, version)
    buckets = found.buckets if found else None
    if found is None or buckets is None or not found.kernels or _tiled(found):
        return
    row = find_rule("score_row")["score_bytes"] * buckets.decode[-1] // CORE_SIZE
    if row > _SBUF_BYTES:
        yield Hit(
            f"{found.kernels[0]} at {show_tokens(buckets.decode[-1])} tokens: a row of "
            f"{show_bytes(row)}, {show_bytes(_SBUF_BYTES)} are there",
            _at(found),
            "at most 114688 tokens, or switch the kernel off, or take SDK 2.29 (plugin 0.5.0)",
        )


@rule("NEU009", "error", _NXDI + ": a TypeError")
def no_prefix_buckets(command: Command, version: str) -> Iterator[Hit]:
    """Context buckets without prefix buckets, with prefix caching."""
    found = _plugin(command, version)
    if found and found.caches and found.override.get("context_encoding_buckets"):
        if not found.override.get("prefix_buckets"):
            yield Hit(
                "context_encoding_buckets without prefix_buckets, and prefix caching is on",
                _at(found),
                "add prefix_buckets, or set enable_prefix_caching to False",
            )


@rule("NEU010", "error", _NXDI)
def transposed_keys(command: Command, version: str) -> Iterator[Hit]:
    """``k_cache_transposed`` does not go with the blocks of prefix caching."""
    found = _plugin(command, version)
    if found and found.caches and is_on(found.override.get("k_cache_transposed")):
        yield Hit("k_cache_transposed with prefix caching", _at(found), "take one of them out")


@rule("NEU011", "error", "vllm 0.13 arg_utils.py fills 256 before the plugin's 32 can apply")
def sequences_missing(command: Command, version: str) -> Iterator[Hit]:
    """``max_num_seqs`` is not set, so a batch of 256 is compiled."""
    found = _plugin(command, version)
    if found and "max_num_seqs" not in command.given:
        yield Hit(
            "max_num_seqs is not set: graphs of a batch of 256 will be compiled",
            command.entry or command.place,
            "set max_num_seqs to the batch that is wanted",
        )


@rule("NEU012", "error", str(find_rule("context_kernel").source))
def prefill_cell_too_long(command: Command, version: str) -> Iterator[Hit]:
    """New and cached tokens of one prefill graph exceed what its kernel takes."""
    found = _plugin(command, version)
    buckets = found.buckets if found else None
    limit = found.release.context_kernel_tokens if found and found.release else 0
    if found and buckets and limit and sum(buckets.largest_cell) > limit:
        new, cached = buckets.largest_cell
        yield Hit(
            f"a graph of {show_tokens(new)} new and {show_tokens(cached)} cached tokens; the "
            f"kernel takes {show_tokens(limit)}",
            _at(found),
            "cap prefix_buckets and context_encoding_buckets",
        )


@rule("NEU013", "error", str(find_rule("tuple").source))
def impossible_tuple(command: Command, version: str) -> Iterator[Hit]:
    """Versions that were never released together.

    Plugin, vLLM, NxDI and compiler come as one SDK; a bare SDK number in a report may be any.
    """
    found = read_neuron(command, version)
    image = command.container.image if command.container else None
    sdk = parse_image(str(image.value)).sdk if image else None
    if found and image and sdk:
        release = next((r for r in list_releases() if sdk.startswith(r.sdk)), None)
        if release and release.vllm != version:
            yield Hit(
                f"SDK {sdk} goes with vLLM {release.vllm}, not {version}",
                image.place,
                "take the image of one SDK; `leadline plan` names the tuples",
            )
    if found and found.release is None and command.version_from != "newest":
        known = ", ".join(f"{r.vllm} (SDK {r.sdk})" for r in list_releases())
        yield Hit(
            f"no Neuron release goes with vLLM {version}",
            command.entry or command.place,
            f"known: {known}",
            severity="warning",
        )


@rule("NEU101", "warning", "vllm 0.13 arg_utils.py; vllm-neuron issue 16")
def caching_implicit(command: Command, version: str) -> Iterator[Hit]:
    """``enable_prefix_caching`` is not said, and is on by default.

    With it the plugin compiles a grid of graphs, with other defaults and more memory; scripts
    that call themselves "without prefix caching" run with it.
    """
    found = _plugin(command, version)
    if found and not _says_caching(command):
        yield Hit(
            "enable_prefix_caching is not set: prefix caching is on",
            command.entry or command.place,
            "write enable_prefix_caching=False (--no-enable-prefix-caching), or True",
        )


@rule("NEU102", "warning", _PLUGIN)
def batched_tokens_ignored(command: Command, version: str) -> Iterator[Hit]:
    """``max_num_batched_tokens`` is overwritten with 131,072 by the plugin."""
    found = _plugin(command, version)
    given = command.given.get("max_num_batched_tokens")
    if found and given:
        yield Hit(f"{given.text} is ignored: the plugin sets 131072", given.place, "take it out")


@rule("NEU103", "warning", _PLUGIN + "; aws-neuron-sdk issue 1368")
def compiled_artifacts(command: Command, version: str) -> Iterator[Hit]:
    """Compiled graphs that are taken as they are, or made anew at every start.

    Set and valid, the folder is loaded and every difference in the settings ignored; unset, the
    plugin deletes its own folder first, so that each start traces again.
    """
    found = _plugin(command, version)
    if found is None:
        return
    given = command.environment.get(_ARTIFACTS)
    if given and _DIGEST.search(str(given.value)):
        return  # a folder for these settings alone
    if given:
        yield Hit(
            f"{_ARTIFACTS} is set: a folder made with other settings is loaded without a word",
            given.place,
            "put the settings into the folder's name",
        )
    else:
        yield Hit(
            f"{_ARTIFACTS} is not set: every start traces the model again",
            command.entry or command.place,
            f"export {_ARTIFACTS} to a folder of its own for these settings",
            severity="note",
        )


@rule("NEU104", "warning", str(find_rule("flash").source))
def slow_prefill(command: Command, version: str) -> Iterator[Hit]:
    """Prefill bucket that the flash kernel does not take.

    It falls back to attention that materialises the scores, with a warning only.
    """
    found = _plugin(command, version)
    buckets = found.buckets if found else None
    given = found.override.get("context_encoding_buckets") if found else None
    if found is None or buckets is None or not given:
        return
    rule_ = find_rule("flash")
    slow = [
        size
        for size in buckets.context
        if size % rule_["long_multiple" if size >= rule_["long_from"] else "short_multiple"]
    ]
    if slow:
        yield Hit(
            f"context_encoding_buckets {slow} fall back to quadratic memory",
            _at(found),
            "write multiples of 512 (256 below 1024)",
        )


@rule("NEU105", "warning", str(find_rule("graph_memory").source))
def many_graphs(command: Command, version: str) -> Iterator[Hit]:
    """Default buckets with prefix caching: a grid of graphs, each of which takes device memory.

    297 to 374 MiB a graph fit the recorded runs (calibrated, low confidence). `leadline plan`
    says whether all of it fits for the model.
    """
    found = _plugin(command, version)
    buckets = found.buckets if found else None
    if found and buckets and found.caches and not found.override.get("prefix_buckets"):
        gib = buckets.graphs * find_rule("graph_memory")["least_graph_mib"] / 1024
        yield Hit(
            f"{buckets.graphs} graphs will be compiled, about {gib:.0f} GiB a core and more",
            _at(found),
            "give fewer context_encoding_buckets, prefix_buckets and token_generation_buckets",
        )


@rule("NEU106", "warning", "NxDI 0.8, models/config.py: kv_quant_config instead")
def dead_quantization(command: Command, version: str) -> Iterator[Hit]:
    """``kv_cache_quant`` has no effect from NxDI 0.8 on."""
    found = _plugin(command, version)
    dead = found and found.release and found.release.kv_quant_key == "kv_quant_config"
    if found and dead and "kv_cache_quant" in found.override:
        yield Hit("kv_cache_quant does nothing", _at(found), "write kv_quant_config")


@rule("NEU107", "warning", _PLUGIN + ": not checked by the plugin")
def block_sizes_differ(command: Command, version: str) -> Iterator[Hit]:
    """``pa_block_size`` differs from ``block_size``, or prefix caching is overridden by hand."""
    found = _plugin(command, version)
    if found is None:
        return
    block = found.override.get("pa_block_size")
    if isinstance(block, int) and found.block_tokens not in (None, block):
        yield Hit(
            f"pa_block_size {block} beside block_size {found.block_tokens}",
            _at(found),
            "write the same",
        )
    if not found.caches and is_on(found.override.get("is_prefix_caching")):
        yield Hit(
            "is_prefix_caching is overridden while vLLM's prefix caching is off",
            _at(found),
            "take it out, or enable prefix caching",
        )


@rule("NEU108", "warning", _PLUGIN)
def block_size_ignored(command: Command, version: str) -> Iterator[Hit]:
    """``block_size`` is overwritten with ``max_model_len`` while prefix caching is off."""
    found = _plugin(command, version)
    if found and not found.caches and "block_size" in command.given:
        given = command.given["block_size"]
        yield Hit(f"{given.text} is ignored: prefix caching is off", given.place, "take it out")


@rule("NEU201", "error", str(find_rule("native").source))
def native_limits(command: Command, version: str) -> Iterator[Hit]:
    """Native plugin: prefill segments and buckets that it refuses."""
    found = read_neuron(command, version)
    if found is None or found.release is None or found.release.generation != 2:
        return
    rule_ = find_rule("native")
    batched, window = command.number("max_num_batched_tokens"), found.window
    if batched and window and window > rule_["single_shot_tokens"]:
        if batched not in rule_["segment_sizes"]:
            yield Hit(
                f"max_num_batched_tokens {batched} above {rule_['single_shot_tokens']} tokens",
                command.given["max_num_batched_tokens"].place,
                "write one of " + ", ".join(map(str, rule_["segment_sizes"])),
            )
    if "override_neuron_config" in found.additional:
        yield Hit(
            "override_neuron_config is a key of the first plugin generation",
            _at(found),
            "write neuron_config, with the native plugin's keys",
        )


RULES = (
    hyphenated_key, unknown_override, caching_without_blocks, blocks_disagree, too_few_blocks,
    uneven_buckets, score_row_too_long, no_prefix_buckets, transposed_keys, sequences_missing,
    prefill_cell_too_long, impossible_tuple, caching_implicit, batched_tokens_ignored,
    compiled_artifacts, slow_prefill, many_graphs, dead_quantization, block_sizes_differ,
    block_size_ignored, native_limits,
)  # fmt: skip
