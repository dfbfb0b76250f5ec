"""What an engine release does: the catalog's tables, merged up to one version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from leadline.catalog.reading import read_table
from leadline.errors import PlanError

Version = tuple[int, ...]


class VllmRelease(BaseModel):
    """See ``catalog/vllm.toml`` for the meaning and the source of each key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: str
    group_tolerance: float
    chunked_hybrid: bool
    start_check: Literal["layers", "first_group", "all_groups"]
    check_own_stage: bool
    reserved_blocks: int
    size_line: Literal["blocks", "concurrency"]
    batches_in_flight: int
    graphs_in_budget: bool
    utilization: float
    sampler_extra_bytes: int
    sampler_rows_bytes: int
    expert_workspace: bool
    large_tier_gib: int
    non_torch_single_gib: float
    non_torch_tensor_gib: float
    non_torch_growth_gib: float
    non_torch_pipeline_gib: float


@cache
def parse_version(text: str) -> Version:
    """``0.12.0`` or ``0.5.6.post2`` as numbers; the suffix of a pre-release is left out."""
    numbers = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    if numbers is None:
        raise PlanError(
            f"{text!r} is not a version",
            where="engine",
            cure="write vllm==0.12.0, with the version that will run",
        )
    return tuple(int(part) for part in numbers[1].split("."))


@cache
def find_vllm_release(version: str) -> VllmRelease:
    """The behaviour of one vLLM version: every change up to it, in order."""
    table = read_table("vllm")
    wanted = parse_version(version)
    if wanted < parse_version(table["limits"]["oldest"]):
        raise PlanError(
            f"vLLM {version} is older than the oldest known here, {table['limits']['oldest']}",
            where="engine",
            cure="plan a newer version",
        )
    merged: dict[str, Any] = {}
    for change in table["release"]:
        if parse_version(change["since"]) <= wanted:
            merged |= change
    return VllmRelease.model_validate(merged)


def is_newer_than_read(version: str) -> bool:
    """Whether the release is newer than the newest one whose source was read."""
    limits: Mapping[str, str] = read_table("vllm")["limits"]
    return parse_version(version)[:2] > parse_version(limits["newest_read"])[:2]
