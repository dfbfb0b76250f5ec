"""What is wrong with a first-generation deployment, in the order in which it would be met:
arguments, compilation, loading.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import ceil

from leadline.plan.architecture import Model
from leadline.plan.hardware import Hardware
from leadline.plan.neuron_buckets import Buckets, count_tiles, list_buckets, prune_buckets
from leadline.plan.neuron_memory import NeuronMemory
from leadline.plan.neuron_rules import NeuronRelease, Rule, find_rule
from leadline.plan.neuron_settings import NeuronSettings, is_on
from leadline.plan.options import read_count
from leadline.plan.schema import Finding
from leadline.units import show_bytes, show_tokens

_MIB = 2**20


def check_neuron(
    model: Model,
    hardware: Hardware,
    settings: NeuronSettings,
    release: NeuronRelease,
    memory: NeuronMemory,
) -> Iterator[Finding]:
    yield from check_cores(settings.tensor, hardware)
    yield from check_trained_context(settings.max_model_tokens, model, find_rule("arguments"))
    yield from _check_cache_arguments(settings)
    yield from _check_switches(settings, release)
    yield from _check_bucket_lists(settings)
    if settings.kernels and not release.tiled_kernel:
        yield from _check_kernel(model, hardware, settings)
    yield from _check_context_kernel(settings, release)
    yield from _check_module(settings)
    yield from _check_load(settings, memory)


def check_cores(tensor: int, hardware: Hardware) -> Iterator[Finding]:
    if tensor > hardware.devices:
        yield find_rule("arguments").find(
            "invalid_parallelism",
            f"{tensor} ranks on {hardware.devices} logical cores",
            "tensor_parallel_size",
            "lower",
            str(hardware.devices),
        )


def check_trained_context(tokens: int, model: Model, rule: Rule) -> Iterator[Finding]:
    """The plugin replaces vLLM's own check by one that accepts everything."""
    if tokens > model.max_position:
        yield rule.find(
            "exceeds_trained_context",
            f"{show_tokens(tokens)} tokens, trained to {show_tokens(model.max_position)}; "
            "the plugin does not refuse it",
            "max_model_len",
            "lower",
            show_tokens(model.max_position),
        )


def uses_odd_batch(settings: NeuronSettings, release: NeuronRelease) -> bool:
    """Whether only the kit's odd batches say that a decode bucket this short compiles."""
    short = settings.buckets.decode[0] < _bucket_multiple(settings)
    return bool(settings.kernels) and not release.tiled_kernel and short and is_odd(settings)


def is_odd(settings: NeuronSettings) -> bool:
    return settings.max_seqs % 2 == 1


def count_score_bytes(settings: NeuronSettings) -> int:
    """Bytes of one SBUF partition that the score row takes: 4 x context / physical cores."""
    longest = settings.buckets.decode[-1]
    return int(find_rule("score_row")["score_bytes"] * longest // settings.core_size)


def count_row_tokens(partition_bytes: int, token_bytes: int, settings: NeuronSettings) -> int:
    """Longest decode bucket whose rows of that many bytes a token fit into a partition."""
    multiple = _bucket_multiple(settings)
    return partition_bytes // token_bytes * settings.core_size // multiple * multiple


def show_buckets(buckets: Buckets) -> str:
    """The lists as NeuronConfig overrides, ready to paste."""
    lists = {"context_encoding_buckets": list(buckets.context)}
    if buckets.cached:
        lists["prefix_buckets"] = list(buckets.cached[1:])
    return json.dumps(lists | {"token_generation_buckets": list(buckets.decode)})


def _check_cache_arguments(settings: NeuronSettings) -> Iterator[Finding]:
    """Blocks: the plugin's assertions, which fire before anything is compiled."""
    rule, compiled = find_rule("arguments"), settings.override.get("pa_num_blocks")
    given = settings.given.get("num_gpu_blocks_override")
    if not settings.prefix_caching:
        return
    if not settings.block_tokens:
        reason = "prefix caching is on and needs block_size"
        yield rule.find("start_fail", reason, "block_size", "set", "32")
    elif settings.blocks < settings.least_blocks:
        reason = f"{settings.blocks:,} blocks, {settings.max_seqs} sequences need "
        reason += f"{settings.least_blocks:,}"
        amount = f"{settings.least_blocks}"
        yield rule.find("start_fail", reason, "num_gpu_blocks_override", "raise", amount)
    if compiled is not None and read_count("pa_num_blocks", compiled, 0) != int(given or 0):
        reason = f"pa_num_blocks {compiled} without the same num_gpu_blocks_override ({given})"
        yield rule.find("start_fail", reason, "num_gpu_blocks_override", "set", str(compiled))


def _check_switches(settings: NeuronSettings, release: NeuronRelease) -> Iterator[Finding]:
    """Overrides that exclude each other."""
    rule, kernel, override = find_rule("arguments"), find_rule("kernel"), settings.override
    if len(settings.kernels) > 1 and not release.tiled_kernel:
        reason = "at most one token-generation kernel: " + ", ".join(settings.kernels)
        yield rule.find("start_fail", reason, settings.kernels[-1], "unset", "false")
    block, projections = kernel["block_flag"], kernel["projection_flags"]
    if block in settings.kernels and not any(is_on(override.get(key)) for key in projections):
        reason = f"{block} needs a QKV kernel"
        yield rule.find("start_fail", reason, projections[0], "set", "true")
    if settings.prefix_caching and is_on(override.get("k_cache_transposed")):
        reason = "k_cache_transposed does not go with the blocks of prefix caching"
        yield rule.find("start_fail", reason, "k_cache_transposed", "unset", "false")
    if settings.prefix_caching and not is_on(override.get("is_prefix_caching", True)):
        reason = "vLLM caches prefixes, is_prefix_caching says no"
        yield rule.find("start_fail", reason, "is_prefix_caching", "unset", "true")


def _check_bucket_lists(settings: NeuronSettings) -> Iterator[Finding]:
    rule, override, buckets = find_rule("arguments"), settings.override, settings.buckets
    alone = override.get("context_encoding_buckets") and not override.get("prefix_buckets")
    if settings.prefix_caching and alone:
        reason = "context_encoding_buckets alone end in a TypeError with prefix caching"
        amount = json.dumps(list(buckets.cached[1:]))
        yield rule.find("bucket_missing", reason, "prefix_buckets", "set", amount)
    for flag, longest, limit in (
        ("context_encoding_buckets", buckets.context[-1], settings.max_prompt_tokens),
        ("token_generation_buckets", buckets.decode[-1], settings.max_model_tokens),
    ):
        if longest > limit:
            reason = f"largest bucket {show_tokens(longest)} exceeds {show_tokens(limit)}"
            yield rule.find("start_fail", reason, flag, "lower", show_tokens(limit))
        elif longest < limit:
            reason = f"nothing longer than {show_tokens(longest)} of {show_tokens(limit)} tokens"
            reason += " has a graph"
            yield rule.find("bucket_missing", reason, flag, "raise", f"add {limit}")
    if is_on(override.get("sequence_parallel_enabled")):
        yield from _check_sequence_parallel(settings)


def _check_sequence_parallel(settings: NeuronSettings) -> Iterator[Finding]:
    uneven = [size for size in settings.buckets.context if size % settings.tensor]
    if uneven:
        yield find_rule("arguments").find(
            "start_fail",
            f"sequence parallelism over {settings.tensor} cores cannot split buckets {uneven}",
            "context_encoding_buckets",
            "change",
            f"multiples of {settings.tensor}",
        )


def _check_kernel(model: Model, hardware: Hardware, settings: NeuronSettings) -> Iterator[Finding]:
    """The token-generation attention kernel that keeps whole rows on chip."""
    yield from _check_multiple(settings)
    yield from _check_rows(model, settings)
    row, limit = count_score_bytes(settings), hardware.device.sbuf_bytes_per_partition
    if limit and row > limit:
        rule = find_rule("score_row")
        tokens = count_row_tokens(limit, rule["score_bytes"], settings)
        yield rule.find(
            "compile_fail",
            f"a float32 score row of {show_tokens(settings.buckets.decode[-1])} tokens over "
            f"{settings.core_size} cores takes {show_bytes(row)} of the {show_bytes(limit)} of "
            "an SBUF partition",
            "max_model_len",
            "lower",
            f"{tokens} at most; or unset {', '.join(settings.kernels)}; or take neuron==0.5.0",
        )


def _check_multiple(settings: NeuronSettings) -> Iterator[Finding]:
    multiple, buckets = _bucket_multiple(settings), settings.buckets.decode
    uneven = [size for size in buckets if size % multiple]
    exempt = is_odd(settings) and all(size < multiple for size in uneven)
    if uneven and not exempt:
        good = _even_buckets(buckets, multiple)
        yield find_rule("context_multiple").find(
            "compile_fail",
            f"decode buckets {uneven} are not multiples of {multiple} "
            f"({settings.core_size} x {multiple // settings.core_size} tokens)",
            "token_generation_buckets",
            "set",
            f"{json.dumps(list(good))}, and context_encoding_buckets likewise from {multiple}",
        )


def _even_buckets(buckets: tuple[int, ...], multiple: int) -> tuple[int, ...]:
    last = buckets[-1] // multiple * multiple
    return list_buckets(multiple, max(last, multiple))


def _bucket_multiple(settings: NeuronSettings) -> int:
    return int(find_rule("context_multiple")["tokens"] * settings.core_size)


def _check_rows(model: Model, settings: NeuronSettings) -> Iterator[Finding]:
    rule, heads = find_rule("score_rows"), ceil(model.heads / settings.tensor)
    if settings.max_seqs * heads > rule["rows"]:
        reason = f"{settings.max_seqs} sequences x {heads} query heads on {rule['rows']} partitions"
        amount = str(rule["rows"] // heads)
        yield rule.find("compile_fail", reason, "max_num_seqs", "lower", amount)


def _check_context_kernel(settings: NeuronSettings, release: NeuronRelease) -> Iterator[Finding]:
    limit = release.context_kernel_tokens
    new, cached = settings.buckets.largest_cell
    if limit and new + cached > limit:
        half = f"{show_tokens(limit // 2)}, and context_encoding_buckets likewise"
        yield find_rule("context_kernel").find(
            "compile_fail",
            f"{show_tokens(new)} new and {show_tokens(cached)} cached tokens in one graph, "
            f"the kernel takes {show_tokens(limit)}",
            "prefix_buckets",
            "lower",
            show_tokens(limit - new) if new < limit else half,
        )


def _check_module(settings: NeuronSettings) -> Iterator[Finding]:
    """The one graph size that is known not to compile; beside it nothing is known."""
    rule, (new, cached) = find_rule("module_size"), settings.buckets.largest_cell
    tiles = count_tiles(new, cached, rule["tile_rows"], rule["tile_columns"])
    if cached and tiles >= rule["failed_cached_tiles"]:
        yield rule.find(
            "compile_fail",
            f"a graph of {show_tokens(new)} new and {show_tokens(cached)} cached tokens did not "
            "compile: 'Could not serialize module proto'",
            "max_model_len",
            "lower",
            f"{max(new, cached) // 2}; or set enable_prefix_caching false",
        )


def _check_load(settings: NeuronSettings, memory: NeuronMemory) -> Iterator[Finding]:
    rule = find_rule("graph_memory")
    if memory.left_bytes <= 0:
        yield _too_much(settings, memory)
        return
    share = memory.graph_share_bytes / _MIB
    if share < rule["most_graph_mib"]:
        sure = share < rule["least_graph_mib"]
        flag, direction, amount = _fewer_graphs(settings, memory)
        yield rule.find(
            "start_fail" if sure else "risk_oom_outside_budget",
            f"{memory.graphs} graphs share {show_bytes(memory.left_bytes)}, {share:.0f} MiB each; "
            f"they need {rule['least_graph_mib']} to {rule['most_graph_mib']}",
            flag,
            direction,
            amount,
        )


def _too_much(settings: NeuronSettings, memory: NeuronMemory) -> Finding:
    """Weights and KV cache alone exceed the core."""
    short = show_bytes(-memory.left_bytes)
    flag, amount = "max_num_seqs", f"{short} too much"
    if settings.prefix_caching and settings.blocks > settings.least_blocks:
        flag, amount = "num_gpu_blocks_override", f"{settings.least_blocks} ({amount})"
    reason = f"weights and KV cache exceed {show_bytes(memory.core_bytes)} a core"
    return find_rule("kv_heads").find("start_fail", reason, flag, "lower", amount)


def _fewer_graphs(settings: NeuronSettings, memory: NeuronMemory) -> tuple[str, str, str]:
    """Bucket lists with as many graphs as surely fit, else fewer sequences at once."""
    most = int(memory.left_bytes / (find_rule("graph_memory")["most_graph_mib"] * _MIB))
    pruned = prune_buckets(settings.buckets, most)
    if pruned is None:
        return "max_num_seqs", "lower", f"{settings.max_seqs // 2 or 1}, with fewer blocks"
    return "override_neuron_config", "set", f"{show_buckets(pruned)} ({pruned.graphs} graphs)"
