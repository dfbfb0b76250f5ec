"""From the finding of a failure to a deployment with its remedy, where that can be computed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from leadline.engines.engine import load_engine
from leadline.records import Finding, Turn
from leadline.spec import Cell, Search
from leadline.verdict.searches import Course

_MOST_HEALS = 3
_NAME = re.compile(r"[A-Za-z]\w*")
_WORDS = {"true": True, "false": False}


class Remedy(NamedTuple):
    finding: Finding
    turn: Turn
    changes: dict[str, Any]
    """All that has been changed since, by earlier remedies too."""


def find_remedy(course: Course, cell: Cell, finding: Finding | None) -> Remedy | None:
    """The first turn whose amount is known, and that is not what was tried already."""
    if not course.search.heal or finding is None or len(course.heals) >= _MOST_HEALS:
        return None
    window = load_engine(cell.settings.engine_name or "openai").window_setting
    # What does not touch the window comes first: the window is what is searched, or bounds it.
    for turn in sorted(finding.turns, key=lambda turn: turn.setting == window):
        if turn.setting == window and _is_searched(course.search, turn):
            continue
        for changes in _apply(turn, cell):
            if not _is_tried(changes, course):
                return Remedy(finding, turn, {**course.changes, **changes})
    return None


def _is_searched(search: Search, turn: Turn) -> bool:
    """A search over lengths goes along the window, or was told to leave it as it is."""
    raised = search.maximise == "input_tokens" and turn.way == "raise"
    return search.window == "follows" or raised


def _apply(turn: Turn, cell: Cell) -> Iterator[dict[str, Any]]:
    """Nothing where the diagnosis does not say how far."""
    if not _NAME.fullmatch(turn.setting):
        return
    now = {**cell.settings.settings, **cell.settings.env}.get(turn.setting)
    if turn.way == "remove":
        if now is not None:
            yield {turn.setting: None}
    elif turn.to is not None and (value := _read(turn.to)) != now:
        yield {turn.setting: value}


def _is_tried(changes: Mapping[str, Any], course: Course) -> bool:
    return any(
        all(heal.changes.get(name) == value for name, value in changes.items())
        for heal in course.heals
    )


def _read(text: str) -> Any:
    """As the setting is to be written: a number where it is one."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    plain = text.replace(",", "")
    for kind in (int, float):
        try:
            return kind(plain)
        except ValueError:
            continue
    return text
