"""An engine's sources read as syntax: names, types and constants are followed, nothing runs."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

UNKNOWN: Final = type("Unknown", (), {"__repr__": lambda _: "UNKNOWN"})()
"""A value that only running the engine would tell."""

_MOST_REEXPORTS = 12
_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.LShift: operator.lshift,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


class Symbol(NamedTuple):
    node: ast.AST
    module: Module


class Tree:
    """The package's files; modules are parsed when they are asked for."""

    def __init__(self, folder: Path, package: str) -> None:
        self.folder = folder
        self.package = package
        self._modules: dict[str, Module | None] = {}

    def module(self, dotted: str) -> Module | None:
        if dotted not in self._modules:
            self._modules[dotted] = self._load(dotted)
        return self._modules[dotted]

    def _load(self, dotted: str) -> Module | None:
        first, *rest = dotted.split(".")
        if first != self.package:
            return None
        stem = self.folder.joinpath(*rest)
        for path in (
            stem.with_suffix(".py") if rest else stem / "__init__.py",
            stem / "__init__.py",
        ):
            if path.is_file():
                return Module(self, dotted, path)
        return None


class Module:
    def __init__(self, tree: Tree, name: str, path: Path) -> None:
        self.tree, self.name, self.path = tree, name, path

    @cached_property
    def _names(self) -> dict[str, ast.AST]:
        names: dict[str, ast.AST] = {}
        for name, node in _bindings(ast.parse(self.path.read_text("utf-8")).body):
            # A class stays itself where a call assembles it again under its name.
            if not (isinstance(node, ast.Call) and isinstance(names.get(name), ast.ClassDef)):
                names[name] = node
        return names

    def find(self, name: str, depth: int = 0) -> Symbol | None:
        """Where a name is defined, through imports and re-exports."""
        node = self._names.get(name)
        if node is None or depth > _MOST_REEXPORTS:
            return None
        if isinstance(node, ast.ImportFrom):
            return self._imported(node, name, depth)
        if isinstance(node, ast.Name) and node.id != name:
            return self.find(node.id, depth + 1) or Symbol(node, self)
        return Symbol(node, self)

    def _imported(self, node: ast.ImportFrom, name: str, depth: int) -> Symbol | None:
        origin = next(a.name for a in node.names if (a.asname or a.name) == name)
        source = self.tree.module(self._absolute(node))
        return source.find(origin, depth + 1) if source else None

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        up = node.level - (1 if self.path.name == "__init__.py" else 0)
        base = parts[: len(parts) - up] if up else parts
        return ".".join([*base, node.module] if node.module else base)

    def bind(self, target: ast.expr, value: ast.expr) -> Module:
        """The module inside a loop, where the target is that value."""
        inner = Module(self.tree, self.name, self.path)
        names, values = [target], [value]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            names, values = target.elts, value.elts
        bound = {n.id: v for n, v in zip(names, values, strict=True) if isinstance(n, ast.Name)}
        inner.__dict__["_names"] = self._names | bound
        return inner

    def adopt(self, body: list[ast.stmt]) -> Module:
        """The module as a function sees it, with the imports and names of its body."""
        inner = Module(self.tree, self.name, self.path)
        inner.__dict__["_names"] = self._names | dict(_bindings(body))
        return inner


def _bindings(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Every name that the statements bind; of two branches, the type checker's comes last."""
    for node in body:
        match node:
            case ast.ImportFrom():
                yield from ((alias.asname or alias.name, node) for alias in node.names)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name, node
            case ast.If():
                yield from _bindings(node.orelse)
                yield from _bindings(node.body)
            case ast.Try():
                yield from _bindings([s for h in node.handlers for s in h.body])
                yield from _bindings(node.body)


# --- classes --------------------------------------------------------------------------------


class Class(NamedTuple):
    node: ast.ClassDef
    module: Module

    @property
    def lineage(self) -> list[Class]:
        """The class and its bases, most derived first."""
        found = [self]
        for base in self.node.bases:
            if parent := find_class(base, self.module):
                found += parent.lineage
        return found

    def method(self, name: str, after: Class | None = None) -> tuple[ast.FunctionDef, Class] | None:
        lineage = self.lineage
        if after is not None:
            names = [each.node.name for each in lineage]
            lineage = lineage[names.index(after.node.name) + 1 :]
        for owner in lineage:
            for node in owner.node.body:
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    return node, owner
        return None

    def fields(self) -> Iterator[Field]:
        """Annotated fields in order, each with the string that stands below it."""
        seen: dict[str, Field] = {}
        for owner in reversed(self.lineage):
            for position, node in enumerate(owner.node.body):
                if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                    continue
                if ast.unparse(node.annotation).startswith(("ClassVar", "InitVar")):
                    continue
                below = owner.node.body[position + 1 : position + 2]
                text = _docstring(below[0]) if below else ""
                seen[node.target.id] = Field(node.target.id, node, owner.module, text)
        yield from seen.values()

    @property
    def is_enum(self) -> bool:
        return any("Enum" in ast.unparse(base) for each in self.lineage for base in each.node.bases)

    @property
    def is_dataclass(self) -> bool:
        marks = [ast.unparse(mark) for each in self.lineage for mark in each.node.decorator_list]
        return any("dataclass" in mark or mark.split("(")[0] == "config" for mark in marks)

    def members(self) -> dict[str, Any]:
        """Names and values of an enumeration."""
        return {
            node.targets[0].id: evaluate(node.value, self.module)
            for node in self.node.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }


class Field(NamedTuple):
    name: str
    node: ast.AnnAssign
    module: Module
    text: str

    @property
    def default(self) -> Any:
        return UNKNOWN if self.node.value is None else evaluate(self.node.value, self.module)


def find_class(node: ast.AST, module: Module) -> Class | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.Name(node.value)
    if isinstance(node, ast.Attribute):
        node = ast.Name(node.attr)
    if not isinstance(node, ast.Name):
        return None
    found = module.find(node.id)
    return (
        Class(found.node, found.module) if found and isinstance(found.node, ast.ClassDef) else None
    )


def _docstring(node: ast.stmt) -> str:
    match node:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return " ".join(text.split())
    return ""


# --- values ---------------------------------------------------------------------------------


def evaluate(node: ast.AST, module: Module) -> Any:
    """The constant that an expression stands for, or ``UNKNOWN``."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=elts) | ast.Tuple(elts=elts) | ast.Set(elts=elts):
            return _items(elts, module)
        case ast.Dict():
            return _dictionary(node, module)
        case ast.Name(id=name):
            found = module.find(name)
            return (
                evaluate(found.node, found.module) if found and found.node is not node else UNKNOWN
            )
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = evaluate(operand, module)
            return UNKNOWN if value is UNKNOWN else -value
        case ast.BinOp():
            return _calculate(node, module)
        case ast.Attribute():
            return _attribute(node, module)
        case ast.JoinedStr(values=values):
            parts = [evaluate(v, module) for v in values]
            return UNKNOWN if UNKNOWN in parts else "".join(map(str, parts))
        case ast.ListComp():
            return _comprehension(node, module)
        case ast.Call():
            return _call(node, module)
        case ast.Subscript(value=ast.Name(id="Literal")):
            return literal(node, module)
    return UNKNOWN


def literal(node: ast.Subscript, module: Module) -> Any:
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    values: list[Any] = []
    for each in inner:
        value = evaluate(each, module)
        values += value if isinstance(value, list) else [value]
    return UNKNOWN if UNKNOWN in values else values


def _items(elts: list[ast.expr], module: Module) -> Any:
    values: list[Any] = []
    for each in elts:
        starred = isinstance(each, ast.Starred)
        value = evaluate(each.value if isinstance(each, ast.Starred) else each, module)
        if value is UNKNOWN or (starred and not isinstance(value, list | dict)):
            return UNKNOWN
        values += list(value) if starred else [value]
    return values


def _dictionary(node: ast.Dict, module: Module) -> Any:
    keys = [evaluate(key, module) if key else UNKNOWN for key in node.keys]
    if UNKNOWN in keys or not all(isinstance(k, str | int) for k in keys):
        return UNKNOWN
    return {key: evaluate(value, module) for key, value in zip(keys, node.values, strict=True)}


def _calculate(node: ast.BinOp, module: Module) -> Any:
    left, right = evaluate(node.left, module), evaluate(node.right, module)
    known = UNKNOWN not in (left, right) and type(node.op) in _OPERATORS
    try:
        return _OPERATORS[type(node.op)](left, right) if known else UNKNOWN
    except TypeError:
        return UNKNOWN


def _attribute(node: ast.Attribute, module: Module) -> Any:
    if node.attr == "value":
        return evaluate(node.value, module)
    owner = find_class(node.value, module) if isinstance(node.value, ast.Name) else None
    if owner is None:
        return UNKNOWN
    if owner.is_enum:
        return owner.members().get(node.attr, UNKNOWN)
    found = next((field for field in owner.fields() if field.name == node.attr), None)
    if found is not None:
        return found.default
    plain = dict(_bindings(owner.node.body)).get(node.attr)
    return evaluate(plain, owner.module) if plain is not None else UNKNOWN


def _comprehension(node: ast.ListComp, module: Module) -> Any:
    """``[each.value for each in SomeEnum]``, or of names, or a plain copy."""
    if len(node.generators) != 1 or node.generators[0].ifs:
        return UNKNOWN
    over = node.generators[0].iter
    owner = find_class(over, module)
    if owner and owner.is_enum:
        element = ast.unparse(node.elt)
        names = [name.lower() for name in owner.members()]
        return names if ".name" in element else list(owner.members().values())
    return evaluate(over, module) if isinstance(node.elt, ast.Name) else UNKNOWN


def _call(node: ast.Call, module: Module) -> Any:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    given = {key.arg: key.value for key in node.keywords if key.arg}
    if name in ("field", "Field"):
        return _field_default(node, given, module)
    if name == "get_field" and (owner := find_class(node.args[0], module)):
        wanted = evaluate(node.args[1], module)
        return next((f.default for f in owner.fields() if f.name == wanted), UNKNOWN)
    if name in ("get_args", "list", "sorted", "set", "int", "tuple") and len(node.args) == 1:
        value = evaluate(node.args[0], module)
        return list(value) if isinstance(value, list | dict) else value
    if name == "keys" and isinstance(node.func, ast.Attribute):
        value = evaluate(node.func.value, module)
        return list(value) if isinstance(value, dict) else UNKNOWN
    if name in ("list", "dict", "set") and not node.args and not node.keywords:
        return {} if name == "dict" else []
    return UNKNOWN


def _field_default(node: ast.Call, given: dict[str, ast.expr], module: Module) -> Any:
    if "default" in given:
        return evaluate(given["default"], module)
    factory = given.get("default_factory")
    if isinstance(factory, ast.Lambda):
        return evaluate(factory.body, module)
    if isinstance(factory, ast.Name) and factory.id in ("list", "dict", "set"):
        return {} if factory.id == "dict" else []
    return evaluate(node.args[0], module) if node.args else UNKNOWN
