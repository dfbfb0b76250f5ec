"""The plain middle of a stream, read column by column: one token in each event, nothing else.

Nearly all events of a load are of this kind, and they are many. The types say what plain is;
whatever does not fit them is left to ``answer``, which reads one event at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import repeat

import msgspec

from leadline.records import Event

COUNT_PATH = "usage.completion_tokens"


class _Choice(msgspec.Struct, gc=False):
    text: str
    finish_reason: None = None


class _Usage(msgspec.Struct, gc=False):
    completion_tokens: int


class _Token(msgspec.Struct, gc=False, kw_only=True):
    choices: tuple[_Choice]
    error: None = None


class _CountedToken(_Token, gc=False, kw_only=True):
    usage: _Usage


_decode_tokens = msgspec.json.Decoder(_Token).decode_lines
_decode_counted = msgspec.json.Decoder(_CountedToken).decode_lines
_make_event = partial(tuple.__new__, Event)


def read_plain(ticks: list[int], payloads: list[bytes], *, counted: bool) -> list[Event] | None:
    """One event for each payload; ``None`` if any of them is not plain."""
    lines = b"\n".join(payloads)
    try:
        if not counted:
            tokens = _decode_tokens(lines)
            texts = [token.choices[0].text for token in tokens]
            return _events(ticks, texts, repeat(None, len(tokens)))
        running = _decode_counted(lines)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    texts = [token.choices[0].text for token in running]
    return _events(ticks, texts, [token.usage.completion_tokens for token in running])


def _events(ticks: list[int], texts: list[str], counts: Iterable[int | None]) -> list[Event] | None:
    if len(texts) != len(ticks):
        return None  # an empty payload, or an event over two of them
    return list(map(_make_event, zip(ticks, texts, counts, strict=True)))
