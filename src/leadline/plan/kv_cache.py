"""vLLM's paged KV cache: groups of layers, blocks, the two lines of its log, the largest request.

One pool of blocks serves all groups of layers. A block of one group holds ``block_tokens`` tokens
for every layer of that group, so all groups have as many layers (padded where they do not). A
request needs blocks in every group: for its whole length where attention is full, for a window or
a chunk where it is not. Source: vLLM ``v1/core/kv_cache_utils.py``, ``v1/kv_cache_interface.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from leadline.plan.architecture import Model
from leadline.plan.patterns import FULL, Reach
from leadline.plan.releases import VllmRelease
from leadline.plan.weights import Shards, stage_layers

NULL_BLOCKS = 1
"""The pool never hands out its first block. Source: vLLM ``v1/core/block_pool.py``."""

LONGEST_TOKENS = 2**40


@dataclass(frozen=True)
class PoolSettings:
    """``context_ranks``: decode x prefill context parallel; ``element_bytes``: of the cache."""

    max_model_tokens: int
    batched_tokens: int
    block_tokens: int = 16
    element_bytes: float = 2
    hybrid: bool = True
    context_ranks: int = 1
    latent_bytes: int = 0
    """Bytes of one latent vector where the format fixes it (fp8_ds_mla: 656), else 0."""
    override_blocks: int = 0


@dataclass(frozen=True)
class Group:
    reach: Reach
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Pool:
    """The KV cache of one engine instance, as each of its ranks holds it."""

    groups: tuple[Group, ...]
    blocks: int
    block_tokens: int
    bytes_per_token: float
    """Bytes that one more token of a long request takes on each rank."""
    block_bytes: int
    """Bytes of one block on a rank of the first stage."""
    capacity_tokens: int
    """As this release logs it ("GPU KV cache size")."""
    concurrency: float
    """As the engine logs it ("Maximum concurrency")."""
    max_request_tokens: int
    """Longest single request that can ever be scheduled, by memory alone."""
    starts: bool
    """Whether the release's own start-up check lets the engine start."""
    needed_bytes: int
    """Bytes that the start-up check wants for one request of the maximum length."""
    startable_tokens: int
    """Longest max_model_len that the start-up check accepts."""


def plan_pool(
    model: Model,
    shards: Shards,
    settings: PoolSettings,
    release: VllmRelease,
    available_bytes: Sequence[int],
) -> Pool:
    """The pool from the bytes that each pipeline stage has for it (one number per stage)."""
    page_bytes = count_page_bytes(model, shards, settings)
    groups = group_layers(model.reaches, settings, release)
    parts = stage_layers(len(model.layers), shards.pipeline)
    stages = [groups] if len(parts) == 1 else [_on_stage(groups, layers) for layers in parts]
    blocks = settings.override_blocks or min(
        max(available, 0) // page_bytes // _group_size(stage)
        for available, stage in zip(available_bytes, stages, strict=True)
    )
    each = count_request_blocks(groups, settings, release, settings.max_model_tokens)
    concurrency = blocks / each
    checks = [
        _start_check(model, layers, groups, stage, page_bytes=page_bytes, release=release)
        for layers, stage in zip(parts, stages, strict=True)
    ]

    def passes(tokens: int) -> bool:
        return all(
            check.count_bytes(settings, release, tokens) + check.reserve_bytes <= available
            for check, available in zip(checks, available_bytes, strict=True)
        )

    full_groups = sum(group.reach == FULL for group in groups)
    per_block = page_bytes * _group_size(stages[0])
    return Pool(
        groups=groups,
        blocks=blocks,
        block_tokens=settings.block_tokens,
        bytes_per_token=full_groups * per_block / settings.block_tokens / settings.context_ranks,
        block_bytes=per_block,
        capacity_tokens=_capacity(blocks, len(groups), concurrency, settings, release),
        concurrency=concurrency,
        max_request_tokens=find_longest(
            lambda tokens: (
                count_request_blocks(groups, settings, release, tokens) <= blocks - NULL_BLOCKS
            )
        ),
        starts=blocks > 0 and passes(settings.max_model_tokens),
        needed_bytes=max(
            check.count_bytes(settings, release, settings.max_model_tokens) for check in checks
        ),
        startable_tokens=find_longest(passes),
    )


def count_page_bytes(model: Model, shards: Shards, settings: PoolSettings) -> int:
    """Bytes of one block of one layer on one rank: KV heads are split until one is left."""
    attention = model.layers[0].attention
    if settings.latent_bytes:
        return settings.block_tokens * settings.latent_bytes
    heads = max(1, attention.cached_heads // shards.tensor)
    return int(settings.block_tokens * heads * attention.cached_elements * settings.element_bytes)


def group_layers(
    reaches: Sequence[Reach], settings: PoolSettings, release: VllmRelease
) -> tuple[Group, ...]:
    """Layers of one kind, cut into groups of equal size.

    Without the hybrid manager local layers keep everything beside full ones: one group.
    """
    if not settings.hybrid and FULL in reaches:
        reaches = [FULL] * len(reaches)
    kinds: dict[Reach, list[int]] = {}
    for index, reach in enumerate(reaches):
        kinds.setdefault(reach, []).append(index)
    size = _common_size([len(layers) for layers in kinds.values()], release.group_tolerance)
    return tuple(
        Group(reach, tuple(layers[part::parts]))
        for reach, layers in kinds.items()
        for parts in [ceil(len(layers) / size)]
        for part in range(parts)
    )


def count_request_blocks(
    groups: Sequence[Group], settings: PoolSettings, release: VllmRelease, tokens: int
) -> int:
    """Blocks of the pool that one request of ``tokens`` tokens (prompt and output) may hold."""
    return sum(_reach_blocks(group.reach, settings, release, tokens) for group in groups)


def find_longest(fits: Callable[[int], bool], limit: int = LONGEST_TOKENS) -> int:
    """The largest token count that fits, 0 if not even one; ``fits`` must be monotone."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _common_size(counts: Sequence[int], tolerance: float) -> int:
    """Layers per group: the smallest kind's, or the largest's where padding wastes little."""
    return max(counts) if max(counts) < min(counts) * tolerance else min(counts)


def _on_stage(groups: Sequence[Group], layers: range) -> tuple[Group, ...]:
    return tuple(
        replace(group, layers=tuple(index for index in group.layers if index in layers))
        for group in groups
    )


def _group_size(groups: Sequence[Group]) -> int:
    return max(len(group.layers) for group in groups)


def _reach_blocks(reach: Reach, settings: PoolSettings, release: VllmRelease, tokens: int) -> int:
    """full: every token (its share, with context parallelism); chunked: one chunk and what is in
    flight; sliding: the window before what is in flight, and one block for its crooked start.
    """
    block, in_flight = settings.block_tokens, release.batches_in_flight * settings.batched_tokens
    if reach.kind == "full":
        return ceil(ceil(tokens / settings.context_ranks) / block)
    if reach.kind == "chunked":
        return ceil(min(reach.tokens + in_flight, tokens) / block)
    return ceil(min(reach.tokens - 1 + in_flight, tokens) / block) + 1


def _capacity(
    blocks: int, groups: int, concurrency: float, settings: PoolSettings, release: VllmRelease
) -> int:
    if release.size_line == "concurrency":
        return int(concurrency * settings.max_model_tokens)
    return blocks // groups * settings.block_tokens * settings.context_ranks


def _start_check(
    model: Model,
    layers: range,
    groups: tuple[Group, ...],
    stage: tuple[Group, ...],
    *,
    page_bytes: int,
    release: VllmRelease,
) -> _StartCheck:
    own = _group_size(stage)
    reserve = release.reserved_blocks * page_bytes * own
    if release.start_check == "layers":
        kinds = Counter(model.layers[index].attention.reach for index in layers)
        return _StartCheck(tuple(kinds.items()), page_bytes, reserve)
    width = own if release.check_own_stage else _group_size(groups)
    charged = groups[:1] if release.start_check == "first_group" else groups
    return _StartCheck(tuple((group.reach, width) for group in charged), page_bytes, reserve)


@dataclass(frozen=True)
class _StartCheck:
    """What the release's start-up check charges one stage: pages of layers, kind by kind."""

    charged: tuple[tuple[Reach, int], ...]
    """Kinds of attention, and how many layers of each (or layers a group) are charged."""
    page_bytes: int
    reserve_bytes: int

    def count_bytes(self, settings: PoolSettings, release: VllmRelease, tokens: int) -> int:
        """Bytes for one request of ``tokens`` tokens."""
        return self.page_bytes * sum(
            layers * _reach_blocks(reach, settings, release, tokens)
            for reach, layers in self.charged
        )
