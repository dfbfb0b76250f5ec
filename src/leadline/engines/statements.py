"""What an engine says of itself while it starts: figures, and the settings it resolved.

Both are read by tables (``catalog/<engine>.toml``); nothing here knows an engine.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from leadline.catalog.reading import read_table
from leadline.units import GIB

Unit = Literal["tokens", "GiB", "s", "x", "text"]
Value = float | int | str

_QUOTE_CHARS = 300
_GIVEN = re.compile(r"non-default args: (\{.*\})")


@dataclass(frozen=True)
class Statement:
    """A figure in a log line; the one group of ``pattern`` that matches is the figure."""

    name: str
    unit: Unit
    pattern: str


@dataclass(frozen=True)
class ResolvedSettings:
    """Where the engine shows the settings it works with, and our names for its."""

    line: str
    """Text of the log line that holds them as ``name=value``."""
    metric: str
    """Prometheus sample whose labels are settings."""
    log_names: Mapping[str, str] = field(default_factory=dict)
    metric_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Words:
    """All that was said."""

    figures: Mapping[str, Value] = field(default_factory=dict)
    quotes: Mapping[str, str] = field(default_factory=dict)
    """The line that each figure stood in."""
    settings: Mapping[str, str] = field(default_factory=dict)


def load_phases(engine: str) -> tuple[tuple[str, str], ...]:
    return tuple((entry["text"], entry["doing"]) for entry in read_table(engine)["phase"])


def load_worker_title(engine: str) -> str:
    return str(read_table(engine)["worker_title"])


def load_statements(engine: str) -> tuple[Statement, ...]:
    return tuple(Statement(**entry) for entry in read_table(engine)["statement"])


def load_resolved(engine: str) -> ResolvedSettings:
    facts = read_table(engine)["resolved"]
    names = {key: facts[key] for key in ("line", "metric", "log_names", "metric_names")}
    return ResolvedSettings(**names)


def read_words(
    lines: Iterable[str], statements: Iterable[Statement], resolved: ResolvedSettings | None
) -> Words:
    """The last value of each figure (of memory the smallest, which binds), and the settings."""
    compiled = [(entry, re.compile(entry.pattern)) for entry in statements]
    figures: dict[str, Value] = {}
    quotes: dict[str, str] = {}
    settings: dict[str, str] = {}
    for line in lines:
        for entry, pattern in compiled:
            if match := pattern.search(line):
                value = _read_value(match[match.lastindex or 0], entry.unit)
                if entry.unit == "GiB":
                    value = min(value, figures.get(entry.name, value))
                figures[entry.name], quotes[entry.name] = value, line.strip()[:_QUOTE_CHARS]
        if match := _GIVEN.search(line):
            settings |= _read_given(match[1])
        if resolved and resolved.line in line:
            settings |= _read_pairs(line, resolved.log_names)
    return Words(figures, quotes, settings)


def differing_settings(
    asked: Mapping[str, Any], resolved: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Settings that the engine shows with another value than asked: name to (asked, resolved).

    What it does not show is left out, and so is what asks the engine itself to choose.
    """
    found = {}
    for key, value in asked.items():
        name = key.lstrip("-").replace("-", "_")
        if name not in resolved or str(value).lower() in ("auto", "none", "-1"):
            continue
        if _plain(value) != _plain(resolved[name]):
            found[name] = (str(value), resolved[name])
    return found


def _read_value(text: str, unit: Unit) -> Value:
    if unit == "text":
        return text
    number = float(text.replace(",", ""))
    if unit == "tokens":
        return int(number)
    return int(number * GIB) if unit == "GiB" else number


def _read_given(text: str) -> dict[str, str]:
    """The arguments as the engine parsed them: a Python dict, which may hold what is no literal."""
    try:
        given = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {}
    return {name: str(value) for name, value in given.items()}


def _read_pairs(line: str, names: Mapping[str, str]) -> dict[str, str]:
    """``name=value`` for the names wanted; of a name that comes twice the first is the engine's."""
    found: dict[str, str] = {}
    for name, value in re.findall(r"(?<![\w.'])(\w+)=('[^']*'|[\w.:+-]+)", line):
        if name in names:
            found.setdefault(names[name], value.strip("'").removeprefix("torch."))
    return found


def _plain(value: Any) -> str:
    """One spelling for numbers, switches and names."""
    text = str(value).strip().lower().removeprefix("torch.")
    try:
        return f"{float(text):g}" if not text.isdigit() else str(int(text))
    except ValueError:
        return text
