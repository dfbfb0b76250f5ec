"""Many releases as one table: for each name the releases that know it, and what changed when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Ranges = list[list[int]]
"""First and last release, as positions in the list of versions, both included."""


def merge(readings: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """One mapping for each section of the readings; they come in the order of the releases."""
    sections = {section: None for reading in readings for section in reading}
    return {
        section: _merge_section([each.get(section, {}) for each in readings])
        for section in sections
    }


def _merge_section(readings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = sorted({name for reading in readings for name in reading})
    return {name: _merge_name([reading.get(name) for reading in readings]) for name in names}


def _merge_name(specs: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    present = [index for index, spec in enumerate(specs) if spec is not None]
    merged: dict[str, Any] = {"in": _ranges(present)}
    changes = _changes([(index, specs[index]) for index in present])
    if changes[0][1] != {"kind": "env"}:
        merged["facts"] = changes
    return merged


def _ranges(present: Sequence[int]) -> Ranges:
    ranges: Ranges = []
    for index in present:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ranges


def _changes(specs: Sequence[tuple[int, Any]]) -> list[list[Any]]:
    changes: list[list[Any]] = []
    for index, spec in specs:
        if not changes or changes[-1][1] != spec:
            changes.append([index, spec])
    return changes
