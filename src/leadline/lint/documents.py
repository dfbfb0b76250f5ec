"""YAML files as nodes with their places: compose files, Kubernetes manifests, campaigns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from leadline.errors import SpecError
from leadline.lint.command import Given, Place, Word
from leadline.lint.words import parse_value

_INT, _BOOL, _NULL = "tag:yaml.org,2002:int", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"
_FLOAT = "tag:yaml.org,2002:float"


class Document:
    """One YAML document; values are asked for by path, each knows where it stands."""

    def __init__(self, root: Node, text: str) -> None:
        self.root, self.text = root, text
        self._read: dict[int, Any] = {}

    def get(self, node: Node | None, *path: str | int) -> Node | None:
        for key in path:
            if isinstance(node, MappingNode) and isinstance(key, str):
                node = next((v for k, v in node.value if k.value == key), None)
            elif isinstance(node, SequenceNode) and isinstance(key, int):
                node = node.value[key] if key < len(node.value) else None
            else:
                return None
        return node

    def items(self, node: Node | None) -> Iterator[tuple[str, Node]]:
        if isinstance(node, MappingNode):
            yield from ((str(key.value), value) for key, value in node.value)

    def each(self, node: Node | None) -> Iterator[Node]:
        if isinstance(node, SequenceNode):
            yield from node.value

    def plain(self, node: Node | None) -> Any:
        """As Python values; what contains itself is None there. An alias is read once."""
        if node is None:
            return None
        if id(node) not in self._read:
            self._read[id(node)] = None
            self._read[id(node)] = self._plain(node)
        return self._read[id(node)]

    def _plain(self, node: Node) -> Any:
        if isinstance(node, MappingNode):
            return {str(key.value): self.plain(value) for key, value in node.value}
        if isinstance(node, SequenceNode):
            return [self.plain(each) for each in node.value]
        return _scalar(node)

    def mappings(self, node: Node | None) -> list[dict[str, Any]]:
        """The mappings of a list; whatever else stands in it is left out."""
        read = self.plain(node)
        return [each for each in read if isinstance(each, dict)] if isinstance(read, list) else []

    def place(self, node: Node) -> Place:
        start, end = node.start_mark.index, node.end_mark.index
        return Place(node.start_mark.line + 1, (self._bytes(start), self._bytes(end)))

    def word(self, node: Node) -> Word:
        """One element of a command; block scalars have no span, for their text is changed."""
        text = str(node.value) if isinstance(node, ScalarNode) else None
        raw = text or ""
        if text is not None and ("$(" in text or "${" in text):
            text = None
        place = self.place(node)
        whole = getattr(node, "style", None) not in ("|", ">")
        return Word(text, place if whole else Place(place.line), text is None, raw)

    def given(self, name: str, node: Node) -> Given:
        place = self.place(node)
        value = self.plain(node)
        read = parse_value(value) if isinstance(value, str) else value
        return Given(name, name, read, place, place, place)

    def _bytes(self, index: int) -> int:
        return len(self.text[:index].encode())


def read_documents(text: str, source: str) -> list[Document]:
    """Raises ``SpecError`` with the line for a text that is not YAML."""
    try:
        return [Document(root, text) for root in YAML().compose_all(text) if root is not None]
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = error.problem
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = error.reason
    raise SpecError(
        f"not valid YAML: {problem}",
        where=f"{source}:{line}",
        cure="check indentation, colons and quotes at that line",
    )


def read_number(value: Any, default: float) -> float:
    """A number, or its text; the default for anything else, which the cluster will refuse."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


def _scalar(node: Node) -> Any:
    text = str(node.value)
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() in ("true", "yes", "on")
    try:
        if node.tag == _INT:
            return int(text.replace("_", ""), 0)
        if node.tag == _FLOAT:
            return float(text)
    except ValueError:
        return text
    return text
