"""A recorded day of requests, as JSON lines: when each came, how long it was, how it began.

Mooncake's form, ``{"timestamp": MS, "input_length": N, "output_length": N, "hash_ids": [..]}``, or
Azure's, ``{"TIMESTAMP": "2024-05-10 00:00:00.009", "ContextTokens": N, "GeneratedTokens": N}``.
Other fields are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from leadline.errors import SpecError
from leadline.units import parse_tokens, show_tokens

# What the public traces call it: Mooncake, Azure, and ours.
_INPUT = ("input_length", "ContextTokens", "input_tokens")
_OUTPUT = ("output_length", "GeneratedTokens", "output_tokens")
_TIME = ("timestamp", "TIMESTAMP")
_FORM = '{"timestamp": MS, "input_length": TOKENS, "output_length": TOKENS}'


class TraceLine(NamedTuple):
    """One request of a recorded day."""

    at_s: float
    """After the first."""
    input_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...] = ()
    """One for each block of the prompt, the last one perhaps not full: equal ids, equal tokens."""


def read_trace(path: Path) -> list[TraceLine]:
    """In the order of their times. ``SpecError`` names the first bad line."""
    found = [_read_request(path, number, facts) for number, facts in _read_lines(path)]
    ordered = sorted(found, key=lambda line: line.at_s)
    return [line._replace(at_s=line.at_s - ordered[0].at_s) for line in ordered]


def read_trace_lengths(path: Path) -> tuple[int, ...]:
    """The prompts of a trace in the order of its lines; nothing else need be in it."""
    return tuple(_read_length(path, number, facts) for number, facts in _read_lines(path))


def require_blocks(path: Path, lines: list[TraceLine], block_tokens: int) -> None:
    """``SpecError`` if the prefix hashes of a request are not one for each such block."""
    for line in lines:
        needed = -(-line.input_tokens // block_tokens)
        if line.hash_ids and len(line.hash_ids) != needed:
            raise SpecError(
                f"a prompt of {show_tokens(line.input_tokens)} tokens has {len(line.hash_ids)} "
                f"hash_ids; blocks of {block_tokens} tokens need {needed}",
                where=str(path),
                cure="give the trace's own block size: --trace-block-tokens N (campaign: "
                "load.trace_block_tokens), or leave its prefixes out: --no-trace-prefixes "
                "(load.trace_prefixes: false)",
            )


def _read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and content of each line; at least one."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", where=str(path), cure="check path and permissions"
        ) from error
    if not any(map(bytes.strip, lines)):
        raise SpecError("the trace is empty", where=str(path), cure="give one with requests")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise _no_request(path, number, error) from error


def _read_request(path: Path, number: int, facts: Any) -> TraceLine:
    try:
        return TraceLine(
            at_s=_seconds(_pick(facts, _TIME)),
            input_tokens=parse_tokens(_pick(facts, _INPUT)),
            output_tokens=parse_tokens(_pick(facts, _OUTPUT)),
            hash_ids=tuple(map(int, facts.get("hash_ids") or ())),
        )
    except (TypeError, ValueError) as error:
        raise _no_request(path, number, error) from error


def _read_length(path: Path, number: int, facts: Any) -> int:
    try:
        return parse_tokens(_pick(facts, _INPUT))
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"no length of a prompt: {error}",
            where=f"{path}, line {number}",
            cure='write {"input_length": TOKENS}',
        ) from error


def _pick(facts: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(facts, Mapping):
        raise TypeError("not an object")
    found = [facts[name] for name in names if name in facts]
    if len(found) != 1:
        raise ValueError(f"one of {', '.join(names)} has to be there")
    return found[0]


def _seconds(time: Any) -> float:
    """Milliseconds, or a calendar time."""
    if isinstance(time, str):
        return datetime.fromisoformat(time).timestamp()
    return float(time) / 1000


def _no_request(path: Path, number: int, error: Exception) -> SpecError:
    return SpecError(
        f"line {number} is not a request: {error}", where=str(path), cure=f"write {_FORM}"
    )
