"""Words of a command line as arguments, and where in them an engine starts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from leadline.lint.command import UNKNOWN, Given, Place, Word

_MODULES = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "vllm.entrypoints.api_server": "vllm",
    "sglang.launch_server": "sglang",
}
_PYTHON = re.compile(r"(?:.*/)?python3?(?:\.\d+)?")


@dataclass(frozen=True)
class Start:
    engine: str
    form: str
    rest: tuple[Word, ...]
    entry: Place


def find_start(words: Sequence[Word]) -> Start | None:
    """``vllm serve``, ``python -m sglang.launch_server`` and their like, wrappers before them."""
    for at, word in enumerate(words):
        text = (word.text or "").rsplit("/", maxsplit=1)[-1]
        following = words[at + 1].text if at + 1 < len(words) else None
        if text in ("vllm", "sglang") and following == "serve":
            return Start(text, "serve", tuple(words[at + 2 :]), join_places(words[at : at + 2]))
        if _PYTHON.fullmatch(text) and following == "-m" and at + 2 < len(words):
            engine = _MODULES.get(words[at + 2].text or "")
            if engine:
                entry = join_places(words[at : at + 3])
                return Start(engine, "module", tuple(words[at + 3 :]), entry)
    return None


def join_places(words: Sequence[Word]) -> Place:
    spans = [word.place.span for word in words]
    if not spans or None in spans:
        return Place(words[0].place.line if words else 1)
    return Place(words[0].place.line, (spans[0][0], spans[-1][1]))  # type: ignore[index]


def read_arguments(
    words: Sequence[Word], arity: Callable[[str], int]
) -> tuple[tuple[Given, ...], tuple[Word, ...]]:
    """Options with their values, and the words that belong to none.

    ``arity`` says how many words after an option may be its values.
    """
    given: list[Given] = []
    loose: list[Word] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if not is_option(word.text):
            loose.append(word)
            continue
        most = 0 if "=" in (word.text or "") else arity(word.text or "")
        values = list(takewhile(lambda each: not is_option(each.text), queue))[:most]
        del queue[: len(values)]
        given.append(_argument(word, values))
    return tuple(given), tuple(loose)


def is_option(text: str | None) -> bool:
    return text is not None and bool(re.match(r"--?[A-Za-z]", text))


def _argument(word: Word, values: Sequence[Word]) -> Given:
    text, equals, tail = (word.text or "").partition("=")
    name = text.lstrip("-").replace("-", "_")
    named = _named(word, text)
    if equals:
        start = word.place.span
        inner = (named.span[1] + 1, start[1]) if start and named.span else None
        value_place = Place(word.place.line, inner)
        return Given(
            name, text, parse_value(tail), word.place, named, value_place, word.is_secret_safe
        )
    if not values:
        return Given(name, text, True, word.place, named)
    read = [UNKNOWN if each.text is None else parse_value(each.text) for each in values]
    whole = UNKNOWN if UNKNOWN in read else read
    return Given(
        name=name,
        text=text,
        value=read[0] if len(read) == 1 else whole,
        place=join_places([word, *values]),
        name_place=named,
        value_place=join_places(values),
        from_variable=any(each.is_secret_safe or each.text is None for each in values),
    )


def _named(word: Word, text: str) -> Place:
    span = word.place.span
    return Place(word.place.line, (span[0], span[0] + len(text.encode())) if span else None)


def parse_value(text: str) -> Any:
    """Words stay words; only what looks like a mapping or a list is parsed, if it can be."""
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text
