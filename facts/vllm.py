"""What ``vllm serve`` and ``LLM()`` of one release take, read from the functions that say so.

``make_arg_parser`` and everything it calls are walked statement by statement; ``get_kwargs`` is
understood, as is what the callers then change in its result.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from facts.argument import (
    Spec,
    apply_keyword,
    deprecation,
    plain,
    spec_from_annotation,
    spec_from_keywords,
)
from facts.source import UNKNOWN, Class, Module, Symbol, Tree, evaluate, find_class

_INTERNAL = {"self", "kwargs", "args"}


def read_vllm(folder: Path) -> dict[str, dict[str, Any]]:
    tree = Tree(folder, "vllm")
    engine = _class(tree, "vllm.engine.arg_utils", "EngineArgs")
    asynchronous = _class(tree, "vllm.engine.arg_utils", "AsyncEngineArgs")
    return {
        "cli": _read_cli(tree),
        "python": _fields(engine) | _offline(tree),
        "async": _fields(asynchronous),
        "environment": _environment(tree),
    }


def _class(tree: Tree, module: str, name: str) -> Class:
    source = tree.module(module)
    found = source.find(name) if source else None
    if found is None or not isinstance(found.node, ast.ClassDef):
        raise LookupError(f"{tree.folder}: no class {module}.{name}")
    return Class(found.node, found.module)


def _fields(owner: Class) -> dict[str, Spec]:
    return {
        each.name: plain(_field_spec(each))
        for each in owner.fields()
        if not each.name.startswith("_")
    }


def _field_spec(each: Any) -> Spec:
    spec = spec_from_annotation(each.node.annotation, each.module)
    spec["default"] = each.default
    if note := deprecation(each.text):
        spec["deprecated"] = note
    return spec


def _offline(tree: Tree) -> dict[str, Spec]:
    """The parameters of ``LLM.__init__``; the rest goes to ``EngineArgs``."""
    node, owner = _class(tree, "vllm.entrypoints.llm", "LLM").method("__init__") or (None, None)
    if node is None or owner is None:
        raise LookupError(f"{tree.folder}: LLM has no __init__")
    found = {}
    for argument, default in _parameters(node.args):
        if argument.arg in _INTERNAL or argument.annotation is None:
            continue
        spec = spec_from_annotation(argument.annotation, owner.module)
        spec["default"] = evaluate(default, owner.module) if default else UNKNOWN
        found[argument.arg] = plain(spec)
    return found


def _parameters(args: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    blanks: list[ast.expr | None] = [None] * (len(args.args) - len(args.defaults))
    yield from zip(args.args, [*blanks, *args.defaults], strict=True)
    yield from zip(args.kwonlyargs, args.kw_defaults, strict=True)


def _environment(tree: Tree) -> dict[str, Spec]:
    module = tree.module("vllm.envs")
    found = module.find("environment_variables") if module else None
    if module is None or found is None or not isinstance(found.node, ast.Dict):
        raise LookupError(f"{tree.folder}: no environment_variables")
    names = [evaluate(key, module) for key in found.node.keys if key]
    return {
        name: {"kind": "env"}
        for name in names
        if isinstance(name, str) and name.startswith(("VLLM_", "LD_", "CUDA_", "S3_"))
    }


# --- the command line -----------------------------------------------------------------------


def _read_cli(tree: Tree) -> dict[str, Spec]:
    # The file has moved twice: openai/, launchers/ (0.32), common/ (0.33).
    for path in sorted(tree.folder.glob("entrypoints/*/cli_args.py")):
        module = tree.module(f"vllm.entrypoints.{path.parent.name}.cli_args")
        found = module.find("make_arg_parser") if module else None
        if found and isinstance(found.node, ast.FunctionDef):
            reader = _Reader()
            reader.run(found.node, _Frame(found.module.adopt(found.node.body)))
            sized = set(_sized(tree))
            return {key: plain(_size(spec, key in sized)) for key, spec in reader.found.items()}
    raise LookupError(f"{tree.folder}: no make_arg_parser")


def _sized(tree: Tree) -> Iterator[str]:
    """Fields whose numbers may be written 2M: ``get_kwargs`` lists or compares their names."""
    module = tree.module("vllm.engine.arg_utils")
    for function in ("get_kwargs", "_compute_kwargs"):
        found = module.find(function) if module else None
        for node in ast.walk(found.node) if found else ():
            names = node.elts if isinstance(node, ast.Set) else []
            names = node.comparators if isinstance(node, ast.Compare) else names
            yield from (n.value for n in names if isinstance(n, ast.Constant) and n.value)


def _size(spec: Spec, sized: bool) -> Spec:
    return spec | {"kind": "size"} if sized and spec.get("kind") == "int" else spec


@dataclass
class _Frame:
    """One function call: where its names come from, its class, its mappings of keywords."""

    module: Module
    bound: Class | None = None
    owner: Class | None = None
    mappings: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Reader:
    found: dict[str, Spec] = field(default_factory=dict)

    def run(self, node: ast.FunctionDef, frame: _Frame) -> Any:
        return self._block(node.body, frame)

    def _block(self, body: list[ast.stmt], frame: _Frame) -> Any:
        for node in body:
            match node:
                case ast.If():
                    self._block(node.body, frame)
                    self._block(node.orelse, frame)
                case ast.With() | ast.Try():
                    self._block(node.body, frame)
                case ast.For():
                    self._loop(node, frame)
                case ast.Assign(targets=[target], value=value):
                    self._assign(target, value, frame)
                case ast.AugAssign(target=ast.Subscript() as target):
                    self._store(target, ast.Name("unknown"), frame)
                case ast.Delete(targets=[ast.Subscript() as target]):
                    self._delete(target, frame)
                case ast.Expr(value=ast.Call() as call):
                    self._call(call, frame)
                case ast.Return(value=ast.expr() as value):
                    return self._value(value, frame)
        return None

    def _value(self, node: ast.expr, frame: _Frame) -> Any:
        """A mapping of keywords, all of a class or one of a field; ``None`` for anything else."""
        match node:
            case ast.Name(id=name):
                return frame.mappings.get(name)
            case ast.Subscript(value=value, slice=ast.Constant(value=key)):
                whole = self._value(value, frame)
                return whole.get(key) if isinstance(whole, dict) else None
            case ast.Dict(keys=keys, values=values):
                return self._changed(keys, values, frame)
            case ast.Call():
                return self._call(node, frame)
        return None

    def _changed(
        self, keys: list[ast.expr | None], values: list[ast.expr], frame: _Frame
    ) -> Spec | None:
        """``{**kwargs["name"], "default": None}``"""
        spec: Spec = {}
        for key, value in zip(keys, values, strict=True):
            if key is None:
                spec |= self._value(value, frame) or {}
            elif isinstance(key, ast.Constant):
                apply_keyword(spec, key.value, value, frame.module)
        return spec

    def _call(self, node: ast.Call, frame: _Frame) -> Any:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else _name(node.func)
        if name == "add_argument":
            self._add(node, frame)
        elif name == "get_kwargs" and node.args:
            owner = frame.bound if _name(node.args[0]) in ("cls", "self") else None
            owner = owner or find_class(node.args[0], frame.module)
            return {each.name: _field_spec(each) for each in owner.fields()} if owner else None
        elif isinstance(node.func, ast.Attribute):
            return self._method(node, node.func, frame)
        return self._function(node, frame)

    def _method(self, node: ast.Call, func: ast.Attribute, frame: _Frame) -> Any:
        receiver = func.value
        upward = isinstance(receiver, ast.Call) and _name(receiver.func) == "super"
        own = upward or _name(receiver) in ("cls", "self")
        bound = frame.bound if own else find_class(receiver, frame.module)
        if bound is None or not isinstance(receiver, ast.Name | ast.Call):
            return None
        found = bound.method(func.attr, after=frame.owner if upward else None)
        if found is None:
            return None
        return self._enter(found[0], found[1].module, node, frame, bound, found[1])

    def _function(self, node: ast.Call, frame: _Frame) -> Any:
        """Helpers like ``_add_vllm_args(parser)``, where they are given a parser."""
        found: Symbol | None = frame.module.find(_name(node.func))
        given = [_name(each) for each in node.args]
        if found is None or not isinstance(found.node, ast.FunctionDef) or "parser" not in given:
            return None
        return self._enter(found.node, found.module, node, frame, None, None)

    def _enter(
        self,
        function: ast.FunctionDef,
        module: Module,
        node: ast.Call,
        frame: _Frame,
        bound: Class | None,
        owner: Class | None,
    ) -> Any:
        names = [a.arg for a in function.args.args if a.arg not in ("cls", "self")]
        given = {
            name: self._value(each, frame) for name, each in zip(names, node.args, strict=False)
        }
        mappings = {name: value for name, value in given.items() if isinstance(value, dict)}
        inner = _Frame(module.adopt(function.body), bound, owner, mappings)
        return self.run(function, inner)

    def _loop(self, node: ast.For, frame: _Frame) -> None:
        """Over a mapping's items, each an option by its key; or over a list that is written out."""
        match node:
            case ast.For(iter=ast.List(elts=elts) | ast.Tuple(elts=elts)):
                for element in elts:
                    inner = frame.module.bind(node.target, element)
                    self._block(node.body, replace(frame, module=inner))
            case ast.For(
                target=ast.Tuple(elts=[ast.Name(), ast.Name()]),
                iter=ast.Call(func=ast.Attribute(value=value, attr="items")),
            ):
                whole = self._value(value, frame)
                for key, spec in (whole or {}).items():
                    self._keep([*spec.get("flags", []), f"--{key.replace('_', '-')}"], spec)

    def _assign(self, target: ast.expr, value: ast.expr, frame: _Frame) -> None:
        if isinstance(target, ast.Subscript):
            self._store(target, value, frame)
        elif isinstance(target, ast.Name):
            mapping = self._value(value, frame)
            if isinstance(mapping, dict):
                frame.mappings[target.id] = mapping

    def _store(self, target: ast.Subscript, value: ast.expr, frame: _Frame) -> None:
        spec = self._value(target.value, frame)
        if isinstance(spec, dict) and isinstance(target.slice, ast.Constant):
            if target.slice.value == "flags":
                spec["flags"] = evaluate(value, frame.module)
            else:
                apply_keyword(spec, target.slice.value, value, frame.module)

    def _delete(self, target: ast.Subscript, frame: _Frame) -> None:
        spec = self._value(target.value, frame)
        if isinstance(spec, dict) and isinstance(target.slice, ast.Constant):
            spec.pop({"nargs": "many"}.get(target.slice.value, target.slice.value), None)

    def _add(self, node: ast.Call, frame: _Frame) -> None:
        flags = [
            value for each in node.args if isinstance(value := evaluate(each, frame.module), str)
        ]
        spec: Spec = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                spec |= self._value(keyword.value, frame) or {}
        self._keep(flags, spec | spec_from_keywords(node.keywords, frame.module))

    def _keep(self, flags: list[str], spec: Spec) -> None:
        long = [flag for flag in flags if flag.startswith("--")]
        if long:
            name = spec.get("dest") or long[0].lstrip("-").replace("-", "_")
            self.found[name] = {"default": None} | spec | {"flags": flags}


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""
