"""YAML built as data and dumped by a library, with comments put where they explain something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

Path = tuple[str | int, ...]
Comments = dict[Path, str]
"""Path of a key within a document to what stands above it."""


def dump_yaml(documents: Sequence[tuple[Any, Comments]], header: str) -> str:
    """Documents of one stream under a comment."""
    yaml = YAML()
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    parts = []
    for document, comments in documents:
        out = StringIO()
        yaml.dump(_rich(document, comments, ()), out)
        parts.append(out.getvalue())
    return comment(header) + "".join(f"---\n{part.rstrip()}\n" for part in parts)


def comment(text: str) -> str:
    """Lines of a comment, for YAML and for shells."""
    return "".join(f"# {line}\n" if line else "#\n" for line in text.splitlines())


def _rich(node: Any, comments: Comments, at: Path) -> Any:
    """Plain data as ruamel's nodes, each with the comment of its path."""
    if isinstance(node, Mapping):
        rich = CommentedMap(
            {key: _rich(value, comments, (*at, key)) for key, value in node.items()}
        )
        for key in rich:
            if text := comments.get((*at, key)):
                rich.yaml_set_comment_before_after_key(key, before=text, indent=2 * len(at))
        return rich
    if isinstance(node, list | tuple):
        return CommentedSeq([_rich(item, comments, (*at, i)) for i, item in enumerate(node)])
    if isinstance(node, str):
        return _text(node)
    return node


def _text(text: str) -> Any:
    if "\n" in text and all(line.isprintable() for line in text.split("\n")):
        return LiteralScalarString(text)
    if _is_ambiguous(text) or not text.isprintable():
        return DoubleQuotedScalarString(text)
    return text


def _is_ambiguous(text: str) -> bool:
    """What some reader of YAML might take for a number, a boolean or a date."""
    return not text or text[0] in "0123456789-+.~" or text.lower() in _WORDS


_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}
