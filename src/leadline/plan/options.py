"""Engine options as they are written: dashes or underscores, short names, JSON in a string."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.units import parse_tokens

# vLLM on Neuron takes vLLM's options.
_NAMED_LIKE = {"neuron": "vllm"}


def spell_options(
    given: Mapping[str, Any], aliases: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Options under the engine's own long names; ``{...}`` and ``[...]`` strings are parsed."""
    short = aliases or {}
    spelled = {}
    for key, value in given.items():
        name = spell(key)
        spelled[short.get(name, name)] = _parse(name, value)
    return spelled


@cache
def spell(key: str) -> str:
    """``--max-model-len`` as ``max_model_len``."""
    return key.strip().lstrip("-").replace("-", "_")


def is_on(value: object) -> bool:
    """Whether a switch, an environment variable or a bare flag says yes."""
    return str(value).strip().lower() in ("1", "true", "yes", "on")


def read_numbers(given: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """The options with their numbers read; ``PlanError`` for one that cannot be meant."""
    rules = read_table("options")[_NAMED_LIKE.get(engine, engine)]["numbers"]
    return {key: _read_value(spell(key), value, rules) for key, value in given.items()}


def read_count(name: str, value: Any, least: int = 1) -> int:
    """A whole number, not below ``least``; ``PlanError`` for anything else."""
    if type(value) is int and value >= least:
        return value
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[+-]?\d+", text) or int(text) < least:
        raise PlanError(
            f"{name} {value!r} is not a whole number",
            where="settings",
            cure=f"write a whole number of at least {least}",
        )
    return int(text)


def list_ignored(names: Iterable[str], engine: str) -> Iterator[str]:
    """Warnings for settings that a plan does not use: known ones together, unknown ones each."""
    table = read_table("options")[_NAMED_LIKE.get(engine, engine)]
    known = _split_names(table["names"])
    wanted = sorted(names)
    if plain := [name for name in wanted if name in known]:
        yield "not looked at by the plan: " + ", ".join(plain)
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, [*known, *table["numbers"]], n=1)
            nearest = f"; the nearest is {close[0]}" if close else ""
            yield f"{engine} has no setting {name!r} known here, it is ignored{nearest}"


@cache
def _split_names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _read_value(name: str, value: Any, rules: Mapping[str, Mapping[str, Any]]) -> Any:
    rule = rules.get(name)
    if rule is None or value is None:
        return value
    return _READERS[rule["kind"]](name, value, rule)


def _read_whole(name: str, value: Any, rule: Mapping[str, Any]) -> int:
    count = read_count(name, value, rule["least"])
    if count > rule.get("most", count):
        raise PlanError(
            f"{name} {count} is more than any deployment has",
            where="settings",
            cure=f"write at most {rule['most']}",
        )
    return count


def _read_wholes(name: str, value: Any, rule: Mapping[str, Any]) -> Sequence[int]:
    """A list, its JSON, or the numbers one after the other as on a command line."""
    many = re.split(r"[\s,]+", value.strip("[] ")) if isinstance(value, str) else value
    return [read_count(name, each, rule["least"]) for each in many]


def _read_tokens(name: str, value: Any, _rule: Mapping[str, Any]) -> int:
    return read_tokens(name, value)


def read_tokens(name: str, value: Any) -> int:
    """A token count; ``PlanError`` with the accepted forms for anything else."""
    try:
        return parse_tokens(value)
    except ValueError as error:
        raise PlanError(
            f"{name}: {error}", where="settings", cure="write 8192, 10k or 2M"
        ) from None


def _read_length(name: str, value: Any, rule: Mapping[str, Any]) -> int | str:
    return str(value) if str(value) in ("auto", "-1") else _read_tokens(name, value, rule)


def _read_share(name: str, value: Any, rule: Mapping[str, Any]) -> float:
    text, zero = str(value).strip(), rule.get("least") == 0
    share = float(text) if re.fullmatch(r"\d*\.?\d+|\d+\.", text) else -1.0
    if not (0 < share <= 1 or (zero and share == 0)):
        raise PlanError(
            f"{name} {value!r} is no share of the whole",
            where="settings",
            cure="write a number between 0 and 1, for example 0.9",
        )
    return share


_READERS: Mapping[str, Callable[[str, Any, Mapping[str, Any]], Any]] = {
    "count": _read_whole,
    "counts": _read_wholes,
    "tokens": _read_tokens,
    "length": _read_length,
    "share": _read_share,
}


def _parse(name: str, value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as broken:
        raise PlanError(
            f"{name} is not JSON: {broken}", where="settings", cure="quote it as one string"
        ) from broken
