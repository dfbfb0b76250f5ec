"""What ``launch_server`` and ``Engine()`` of one SGLang release take: ``ServerArgs``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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
from facts.source import Class, Field, Module, Tree, evaluate

_MARKS = ("A", "Annotated")
_VARIABLE = re.compile(r"""["'](SGL(?:ANG)?_[A-Z0-9_]*[A-Z0-9])["']""")
_LISTED = re.compile(r"^    (SGL(?:ANG)?_[A-Z0-9_]*[A-Z0-9]) *=", re.MULTILINE)


def read_sglang(folder: Path) -> dict[str, dict[str, Any]]:
    tree = Tree(folder, "sglang")
    module = tree.module("sglang.srt.server_args")
    found = module.find("ServerArgs") if module else None
    if found is None or not isinstance(found.node, ast.ClassDef):
        raise LookupError(f"{folder}: no ServerArgs")
    owner = Class(found.node, found.module)
    fields = list(owner.fields()) or list(_collected(tree))
    return {
        "cli": {name: plain(spec) for name, spec in [*_annotated(fields), *_registered(owner)]},
        "python": {
            each.name: plain(_unmarked(each)) for each in fields if not each.name.startswith("_")
        },
        "environment": _environment(folder),
    }


def _collected(tree: Tree) -> Iterator[Field]:
    """From 0.5.20 on the fields stand in namespace classes, which carry ``_NS_PATH``."""
    for path in sorted((tree.folder / "srt/arg_groups/fields").glob("*.py")):
        module = tree.module(f"sglang.srt.arg_groups.fields.{path.stem}")
        for node in ast.parse(path.read_text("utf-8")).body:
            if module and isinstance(node, ast.ClassDef) and "_NS_PATH" in ast.unparse(node):
                fields = Class(node, module).fields()
                yield from (each for each in fields if "Derived(" not in ast.unparse(each.node))


def _unmarked(each: Field) -> Spec:
    node = each.node.annotation
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) in _MARKS:
        node = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
    return spec_from_annotation(node, each.module) | {"default": each.default}


def _annotated(fields: list[Field]) -> Iterator[tuple[str, Spec]]:
    """Fields as ``A[type, "help"]`` or ``A[type, Arg(...)]``: the name is the option."""
    for each in fields:
        node = each.node.annotation
        if not (isinstance(node, ast.Subscript) and ast.unparse(node.value) in _MARKS):
            continue
        if isinstance(node.slice, ast.Tuple) and (mark := _mark(node.slice.elts[1:])):
            spec = _marked(each, mark)
            if spec is not None:
                yield each.name, spec


def _mark(found: list[ast.expr]) -> ast.expr | None:
    for node in found:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Arg":
            return node
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
            return node
    return None


def _marked(each: Field, mark: ast.expr) -> Spec | None:
    spec = _one_valued(_unmarked(each))
    keywords = (
        {k.arg: k.value for k in mark.keywords if k.arg} if isinstance(mark, ast.Call) else {}
    )
    if "no_cli" in keywords and evaluate(keywords["no_cli"], each.module) is True:
        return None
    for name, value in keywords.items():
        apply_keyword(spec, {"type_parser": "type"}.get(name, name), value, each.module)
    if "type_parser" in keywords:
        spec.pop("many", None)
    if not isinstance(mark, ast.Call) and (note := deprecation(evaluate(mark, each.module))):
        spec["deprecated"] = note
    first = evaluate(keywords["cli_name"], each.module) if "cli_name" in keywords else None
    aliases = evaluate(keywords["aliases"], each.module) if "aliases" in keywords else []
    spec["flags"] = [first or f"--{each.name.replace('_', '-')}", *(aliases or [])]
    return spec


def _one_valued(spec: Spec) -> Spec:
    """SGLang's booleans are switches without a ``--no-`` form."""
    return spec | {"kind": "switch"} if spec["kind"] == "boolean" else spec


def _registered(owner: Class) -> Iterator[tuple[str, Spec]]:
    method = owner.method("add_cli_args")
    if method is None:
        return
    module = method[1].module.adopt(method[0].body)
    for node in ast.walk(method[0]):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".add_argument"):
            yield from _one(node, module)


def _one(node: ast.Call, module: Module) -> Iterator[tuple[str, Spec]]:
    flags = [value for each in node.args if isinstance(value := evaluate(each, module), str)]
    long = [flag for flag in flags if flag.startswith("--")]
    if long:
        spec = spec_from_keywords(node.keywords, module) | {"flags": flags}
        dest = spec.get("dest")
        name = dest if isinstance(dest, str) else long[0].lstrip("-").replace("-", "_")
        yield name, {"default": None} | spec


def _environment(folder: Path) -> dict[str, Spec]:
    """Names that the package's files quote; newer releases also list them in ``environ.py``."""
    names = {name for path in folder.rglob("*.py") for name in _VARIABLE.findall(_text(path))}
    listed = folder / "srt/environ.py"
    if listed.exists():
        names |= set(_LISTED.findall(_text(listed)))
    return {name: {"kind": "env"} for name in sorted(names)}


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")
