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
from functools import lru_cache
from math import ceil

from leadline.plan.architecture import Model
from leadline.plan.patterns import FULL, Reach
from leadline.plan.releases import VllmRelease
from leadline.plan.weights import Shards, stage_layers

NULL_BLOCKS = 1
"""The pool never hands out its first block. Source: vLLM ``v1/core/block_pool.py``."""

LONGEST_TOKENS = 2**40
"""Stands for "no limit", where every layer looks only so far back."""

Charge = tuple[Reach, int]
"""A kind of attention, and how many pages each of its blocks counts for."""


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

    needed = [check.count_bytes(settings, release, settings.max_model_tokens) for check in checks]
    startable = min(
        find_longest(check.charged, check.count_pages(available), settings, release)
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
            tuple((group.reach, 1) for group in groups), blocks - NULL_BLOCKS, settings, release
        ),
        starts=blocks > 0 and settings.max_model_tokens <= startable,
        needed_bytes=max(needed),
        startable_tokens=startable,
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
    one = not settings.hybrid and FULL in reaches
    return _cut_groups((FULL,) * len(reaches) if one else tuple(reaches), release.group_tolerance)


@lru_cache
def _cut_groups(reaches: tuple[Reach, ...], tolerance: float) -> tuple[Group, ...]:
    kinds: dict[Reach, list[int]] = {}
    for index, reach in enumerate(reaches):
        kinds.setdefault(reach, []).append(index)
    size = _common_size([len(layers) for layers in kinds.values()], tolerance)
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


def find_longest(
    charged: Sequence[Charge], pages: int, settings: PoolSettings, release: VllmRelease
) -> int:
    """The longest request that ``pages`` hold, 0 if not even one token.

    Beyond the longest local reach only full attention grows, in proportion; below, bisection.
    """
    slope = sum(weight for reach, weight in charged if reach.kind == "full")
    local = [charge for charge in charged if charge[0].kind != "full"]
    most = max((_held_tokens(reach, settings, release) for reach, _ in local), default=0)
    spare = pages - _count_pages(local, settings, release, most)
    if spare >= 0 and not slope:
        return LONGEST_TOKENS
    longest = spare // slope * settings.block_tokens * settings.context_ranks if slope else -1
    if longest >= most:
        return longest
    return _bisect(lambda tokens: _count_pages(charged, settings, release, tokens) <= pages, most)


def _bisect(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to ``limit`` that fits, 0 if none; ``fits`` must be monotone."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _count_pages(
    charged: Sequence[Charge], settings: PoolSettings, release: VllmRelease, tokens: int
) -> int:
    return sum(
        weight * _reach_blocks(reach, settings, release, tokens) for reach, weight in charged
    )


def _common_size(counts: Sequence[int], tolerance: float) -> int:
    """Layers per group: the smallest kind's, or the largest's where padding wastes little."""
    return max(counts) if max(counts) < min(counts) * tolerance else min(counts)


@lru_cache
def _on_stage(groups: tuple[Group, ...], layers: range) -> tuple[Group, ...]:
    return tuple(
        replace(group, layers=tuple(index for index in group.layers if index in layers))
        for group in groups
    )


def _group_size(groups: Sequence[Group]) -> int:
    """At least 1: a stage may have no layer at all, which is refused elsewhere."""
    return max(1, *(len(group.layers) for group in groups))


def _reach_blocks(reach: Reach, settings: PoolSettings, release: VllmRelease, tokens: int) -> int:
    """full: every token (its share, with context parallelism); local: what it holds at most, and
    for a sliding window one block more for its crooked start.
    """
    if reach.kind == "full":
        return ceil(ceil(tokens / settings.context_ranks) / settings.block_tokens)
    held = min(_held_tokens(reach, settings, release), tokens)
    return ceil(held / settings.block_tokens) + (reach.kind == "sliding")


def _held_tokens(reach: Reach, settings: PoolSettings, release: VllmRelease) -> int:
    """chunked: one chunk and what is in flight; sliding: the window before what is in flight."""
    in_flight = release.batches_in_flight * settings.batched_tokens
    return reach.tokens + in_flight - (reach.kind == "sliding")


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
        return _StartCheck(_count_kinds(model, layers), page_bytes, reserve)
    width = own if release.check_own_stage else _group_size(groups)
    charged = groups[:1] if release.start_check == "first_group" else groups
    return _StartCheck(tuple((group.reach, width) for group in charged), page_bytes, reserve)


@lru_cache
def _count_kinds(model: Model, layers: range) -> tuple[Charge, ...]:
    return tuple(Counter(model.layers[index].attention.reach for index in layers).items())


@dataclass(frozen=True)
class _StartCheck:
    """What the release's start-up check charges one stage: pages of layers, kind by kind."""

    charged: tuple[Charge, ...]
    page_bytes: int
    reserve_bytes: int

    def count_bytes(self, settings: PoolSettings, release: VllmRelease, tokens: int) -> int:
        """Bytes for one request of ``tokens`` tokens."""
        return self.page_bytes * _count_pages(self.charged, settings, release, tokens)

    def count_pages(self, available_bytes: int) -> int:
        """Pages that the check lets one request have."""
        return (available_bytes - self.reserve_bytes) // self.page_bytes
