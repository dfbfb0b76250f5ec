"""Python files: calls of ``LLM``, ``EngineArgs`` and their like, read from the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leadline.errors import SpecError
from leadline.lint.command import UNKNOWN, Given, Place

CALLS: Mapping[str, tuple[str, str]] = {
    "LLM": ("vllm", "vllm"),
    "EngineArgs": ("vllm", "vllm"),
    "AsyncEngineArgs": ("vllm", "vllm"),
    "ServerArgs": ("sglang", "sglang"),
    "Engine": ("sglang", "sglang"),
}
"""Name to its engine and the package it must come from."""
_MOST_BITS, _MOST_BASE = 64, 1024
_CLIENTS = ("post", "OpenAI", "AsyncOpenAI", "ClientTimeout", "Client", "AsyncClient", "request")


@dataclass(frozen=True)
class Call:
    engine: str
    name: str
    arguments: tuple[Given, ...]
    model: str | None
    place: Place


@dataclass(frozen=True)
class Program:
    calls: tuple[Call, ...]
    environment: Mapping[str, Given]
    """``os.environ["NAME"] = "value"``"""
    command_lines: tuple[tuple[tuple[str | None, Place], ...], ...]
    """Literal lists given to ``subprocess``, as words."""
    waits: tuple[tuple[str, float, Place], ...] = ()
    """``timeout=`` of calls that send requests."""


def read_program(text: str, source: str) -> Program:
    """Raises ``SpecError`` for a text that is not Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise SpecError(
            f"not Python that can be parsed: {error.msg}",
            where=f"{source}:{error.lineno or 1}",
            cure="check it with `python -m py_compile`",
        ) from None
    return _Reader(text, tree).read()


class _Reader:
    def __init__(self, text: str, tree: ast.Module) -> None:
        self.tree = tree
        lines = text.encode().splitlines(keepends=True)
        self.starts = [0]
        for line in lines:
            self.starts.append(self.starts[-1] + len(line))
        self.names = dict(_constants(tree))
        self.origins = dict(_imports(tree))

    def read(self) -> Program:
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        return Program(
            tuple(self._call(node, *found) for node in calls if (found := self._engine(node))),
            dict(self._environment()),
            tuple(self._words(node) for node in calls if _starts_process(node)),
            tuple(self._waits(calls)),
        )

    def _waits(self, calls: list[ast.Call]) -> Iterator[tuple[str, float, Place]]:
        for node in calls:
            name = ast.unparse(node.func).rsplit(".", maxsplit=1)[-1]
            for each in node.keywords if name in _CLIENTS else ():
                value = self._value(each.value) if each.arg in ("timeout", "total") else None
                if isinstance(value, int | float) and not isinstance(value, bool):
                    yield f"{name}({each.arg}=…)", float(value), self._place(each)

    def _engine(self, node: ast.Call) -> tuple[str, str] | None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        origin = self._origin(node.func)
        if name not in CALLS or origin is None:
            return None
        engine, package = CALLS[name]
        return (engine, name) if origin.split(".")[0] == package else None

    def _origin(self, func: ast.expr) -> str | None:
        """The module that the called name was imported from; ``vllm.LLM`` and ``sgl.Engine``."""
        while isinstance(func, ast.Attribute):
            func = func.value
        return self.origins.get(func.id) if isinstance(func, ast.Name) else None

    def _call(self, node: ast.Call, engine: str, name: str) -> Call:
        arguments = [self._keyword(each) for each in node.keywords if each.arg]
        for each in node.keywords:
            if each.arg is None:
                arguments += self._spread(each.value)
        first = self._value(node.args[0]) if node.args else UNKNOWN
        named = {each.name: each.value for each in arguments}
        model = named.get("model", named.get("model_path", first))
        return Call(
            engine,
            name,
            tuple(arguments),
            model if isinstance(model, str) else None,
            self._place(node),
        )

    def _keyword(self, node: ast.keyword) -> Given:
        start = self._offset(node.lineno, node.col_offset)
        name_place = Place(node.lineno, (start, start + len((node.arg or "").encode())))
        return Given(
            name=node.arg or "",
            text=node.arg or "",
            value=self._value(node.value),
            place=self._place(node),
            name_place=name_place,
            value_place=self._place(node.value),
            from_variable=not isinstance(node.value, ast.Constant | ast.Dict | ast.List),
        )

    def _spread(self, node: ast.expr) -> list[Given]:
        """``**kwargs`` where the file says what they are."""
        if isinstance(node, ast.Name):
            node = self.names.get(node.id, node)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "dict"
        ):
            return [self._keyword(each) for each in node.keywords if each.arg]
        if not isinstance(node, ast.Dict):
            return []
        return [
            Given(
                key.value, key.value, self._value(value), self._place(key), self._place(key),
                self._place(value),
            )
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        ]  # fmt: skip

    def _value(self, node: ast.expr, depth: int = 0) -> Any:  # noqa: PLR0911
        """The literal, through the file's own constants; ``UNKNOWN`` for what is computed."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in self.names and depth < 8:
                return self._value(self.names[name], depth + 1)
            case ast.List(elts=elts) | ast.Tuple(elts=elts):
                return [self._value(each, depth) for each in elts]
            case ast.Dict(keys=keys, values=values):
                read = [UNKNOWN if key is None else self._value(key, depth) for key in keys]
                pairs = zip(read, values, strict=True)
                return {str(key): self._value(value, depth) for key, value in pairs}
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.BinOp(left=left, right=right, op=ast.Mult() | ast.Pow() as op):
                return _multiply(self._value(left, depth), self._value(right, depth), op)
        return UNKNOWN

    def _environment(self) -> Iterator[tuple[str, Given]]:
        for node in ast.walk(self.tree):
            match node:
                case ast.Assign(
                    targets=[ast.Subscript(value=value, slice=ast.Constant(value=str() as name))]
                ) if ast.unparse(value) in ("os.environ", "environ"):
                    place = self._place(node)
                    read = self._value(node.value)
                    text = read if isinstance(read, str) else None
                    yield name, Given(name, name, text, place, place, self._place(node.value))

    def _words(self, node: ast.Call) -> tuple[tuple[str | None, Place], ...]:
        first = node.args[0]
        elements = first.elts if isinstance(first, ast.List) else []
        values = [(self._value(each), self._place(each)) for each in elements]
        return tuple((str(v) if v is not UNKNOWN else None, place) for v, place in values)

    def _place(self, node: ast.expr | ast.keyword | ast.stmt) -> Place:
        start = self._offset(node.lineno, node.col_offset)
        end = self._offset(node.end_lineno or node.lineno, node.end_col_offset or 0)
        return Place(node.lineno, (start, end))

    def _offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names that are assigned once, anywhere in the file."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            if isinstance(node.targets[0], ast.Name):
                found.setdefault(node.targets[0].id, []).append(node.value)
    yield from ((name, values[0]) for name, values in found.items() if len(values) == 1)


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, node.module or ""


def _starts_process(node: ast.Call) -> bool:
    name = ast.unparse(node.func)
    starters = ("run", "Popen", "call", "check_call", "check_output", "execvp")
    is_starter = name.split(".")[-1] in starters and name.startswith(("subprocess", "Popen", "os"))
    return is_starter and bool(node.args)


def _multiply(left: Any, right: Any, op: ast.operator) -> Any:
    if not isinstance(left, int) or not isinstance(right, int):
        return UNKNOWN
    if isinstance(op, ast.Mult):
        return left * right
    return left**right if 0 <= right <= _MOST_BITS and abs(left) <= _MOST_BASE else UNKNOWN
