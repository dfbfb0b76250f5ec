"""Shell scripts: their commands as words, with what a variable holds where the script says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from leadline.errors import SpecError
from leadline.lint.command import Given, Place, Word


@dataclass
class Script:
    """Commands in the order of the text."""

    commands: list[tuple[Word, ...]] = field(default_factory=list)
    environment: dict[str, Given] = field(default_factory=dict)
    """Exported variables."""
    broken_lines: list[int] = field(default_factory=list)


def read_script(
    text: str, *, source: str = "", first_line: int = 1, offset: int | None = 0
) -> Script:
    """``offset``: bytes of the file before this text; None where it is not a piece of it."""
    tree = _parser().parse(text.encode())
    reader = _Reader(text.encode(), source, first_line, offset)
    reader.visit(tree.root_node)
    return reader.script


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bash.language()))


class _Reader:
    def __init__(self, text: bytes, source: str, first_line: int, offset: int | None) -> None:
        self.text, self.source, self.first_line, self.offset = text, source, first_line, offset
        self.script = Script()
        self.values: dict[str, str] = {}
        self.arrays: dict[str, tuple[Word, ...]] = {}

    def visit(self, node: Node) -> None:
        match node.type:
            case "ERROR":
                self.script.broken_lines.append(node.start_point.row + self.first_line)
            case "variable_assignment":
                self._assign(node)
                return
            case "declaration_command":
                self._declare(node)
                return
            case "command":
                self._command(node)
        for child in node.children:
            self.visit(child)

    def _assign(self, node: Node) -> Word | None:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is None:
            return None
        key = self._raw(name)
        if value is not None and value.type == "array":
            self.arrays[key] = tuple(
                w for child in value.named_children for w in self._words(child)
            )
            return None
        word = self._word(value) if value is not None else Word("", self._place(node))
        if word.text is not None:
            self.values[key] = word.text
        return word

    def _declare(self, node: Node) -> None:
        """``export NAME=value``; of ``export NAME`` alone the value may be known."""
        exported = self._raw(node).startswith("export")
        for child in node.named_children:
            if child.type != "variable_assignment":
                continue
            word, name = self._assign(child), child.child_by_field_name("name")
            if exported and word is not None and name is not None:
                self.script.environment[self._raw(name)] = self._variable(child, name, word)

    def _variable(self, node: Node, name: Node, word: Word) -> Given:
        raw = self._raw(name)
        return Given(
            raw,
            raw,
            word.text,
            self._place(node),
            self._place(name),
            word.place,
            word.is_secret_safe,
        )

    def _command(self, node: Node) -> None:
        words: list[Word] = []
        for child in node.named_children:
            if child.type == "variable_assignment":
                words.append(self._prefix(child))
            elif child.type == "command_name":
                words += self._words(child.named_children[0])
            elif child.type not in ("file_redirect", "herestring_redirect"):
                words += self._words(child)
        if words:
            self.script.commands.append(tuple(words))

    def _prefix(self, node: Node) -> Word:
        """``NAME=value`` before a command, as one word."""
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        inner = self._word(value) if value is not None else None
        tail = inner.text if inner else ""
        text = None if tail is None or name is None else f"{self._raw(name)}={tail}"
        return Word(text, self._place(node), bool(inner and inner.is_secret_safe))

    def _words(self, node: Node) -> Iterator[Word]:
        """One word, or the elements of ``"${ARRAY[@]}"``."""
        array = self._array_name(node)
        if array is not None and array in self.arrays:
            yield from self.arrays[array]
        else:
            yield self._word(node)

    def _array_name(self, node: Node) -> str | None:
        text = self._raw(node).strip('"')
        if text.startswith("${") and text.endswith(("[@]}", "[*]}")):
            return text[2:-4]
        return None

    def _word(self, node: Node) -> Word:
        text, known = self._text(node)
        return Word(text, self._place(node), known, self._raw(node).strip("\"'"))

    def _text(self, node: Node) -> tuple[str | None, bool]:
        """The word's text, and whether a variable gave some of it."""
        match node.type:
            case "word":
                return self._raw(node).replace("\\", ""), False
            case "number":
                return self._raw(node), False
            case "raw_string":
                return self._raw(node)[1:-1], False
            case "simple_expansion" | "expansion":
                return self._expand(node), True
            case "string" | "concatenation" | "string_content" | "translated_string":
                return self._joined(node)
        return None, True

    def _joined(self, node: Node) -> tuple[str | None, bool]:
        if node.type == "string_content":
            return self._raw(node).replace('\\"', '"').replace("\\\n", ""), False
        parts = [self._text(child) for child in node.named_children]
        if node.type == "string" and not parts:
            return self._raw(node)[1:-1], False
        varied = any(from_variable for _, from_variable in parts)
        if any(text is None for text, _ in parts):
            return None, varied
        return "".join(text or "" for text, _ in parts), varied

    def _expand(self, node: Node) -> str | None:
        """``$NAME`` and ``${NAME:-default}`` where the script itself says the value."""
        inner = node.named_children
        if not inner or inner[0].type != "variable_name":
            return None
        name = self._raw(inner[0])
        if name in self.values:
            return self.values[name]
        default = self._raw(node).removeprefix("${" + name).removesuffix("}")
        plain = default.startswith((":-", ":=")) and "$" not in default
        return default[2:].strip("\"'") if plain else None

    def _raw(self, node: Node) -> str:
        return self.text[node.start_byte : node.end_byte].decode()

    def _place(self, node: Node) -> Place:
        line = node.start_point.row + self.first_line
        if self.offset is None:
            return Place(line)
        return Place(line, (self.offset + node.start_byte, self.offset + node.end_byte))


def split_command(text: str, line: int) -> tuple[tuple[Word, ...], ...]:
    """The commands of a text that is not a piece of the file, as for ``sh -c``."""
    return tuple(read_script(text, first_line=line, offset=None).commands)


def check_readable(script: Script, source: str) -> None:
    """``SpecError`` where nothing but broken syntax was found."""
    if script.broken_lines and not script.commands:
        raise SpecError(
            "not a shell script that can be parsed",
            where=f"{source}:{script.broken_lines[0]}",
            cure="check it with `bash -n`",
        )
