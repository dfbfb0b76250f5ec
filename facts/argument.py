"""One argument of one release, and the kinds of value that an annotation allows."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from facts.source import UNKNOWN, Module, evaluate, find_class, literal

Spec = dict[str, Any]
"""kind: switch, boolean, int, size, float, str, json, optional, other; many, choices, default,
flags, deprecated (the sentence that says so)."""

_TYPES = {
    "int": "int",
    "float": "float",
    "str": "str",
    "bool": "bool",
    "nullable_str": "str",
    "optional_str": "str",
    "json.loads": "json",
    "human_readable_int": "size",
    "human_readable_int_or_auto": "size",
    "optional_int": "int",
    "optional_float": "float",
    "parse_lora_paths": "json",
}
_WRAPPERS = {"Optional", "Union", "Annotated", "SkipValidation", "A", "Final", "Required"}
_DEPRECATED = re.compile(
    r"^\W*(?:note:?\s*)?(?:\[?\(?deprecated\b"
    r"|-{0,2}[\w-]+(?: \([^)]*\))? (?:is|are) (?:now )?deprecated)"
    r"|this (?:argument|flag|option|feature|parameter|field) (?:is|has been) (?:now )?deprecated"
    r"|\bis deprecated and will be (?:removed|ignored)|\bdeprecated (?:argument|flag|option|alias)",
    re.IGNORECASE,
)
_NOTE_CHARS = 180


def atoms(node: ast.AST, module: Module) -> Iterator[Any]:
    """What an annotation is a union of: names, ``None``, lists of literals, ``json``."""
    match node:
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            yield from atoms(left, module)
            yield from atoms(right, module)
        case ast.Constant(value=None):
            yield "none"
        case ast.Constant(value=str() as text):
            yield from atoms(ast.parse(text, mode="eval").body, module)
        case ast.Subscript(value=ast.Name(id="Literal")):
            yield literal(node, module)
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _WRAPPERS:
            members = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            for each in members if name == "Union" else members[:1]:
                yield from atoms(each, module)
        case ast.Subscript(value=value, slice=inner):
            yield _container(value, inner, module)
        case ast.Name(id=name):
            yield from _named(name, module)
        case _:
            yield "other"


def _container(value: ast.AST, inner: ast.expr, module: Module) -> Any:
    name = ast.unparse(value).rsplit(".", maxsplit=1)[-1].lower()
    if name not in ("list", "set", "tuple", "sequence"):
        return "json" if name in ("dict", "mapping") else "other"
    first = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
    return ("many", [*atoms(first, module)])


def _named(name: str, module: Module) -> Iterator[Any]:
    if name in ("int", "float", "str", "bool"):
        yield name
    elif name in ("dict", "Dict"):
        yield "json"
    elif name == "list":
        yield ("many", ["str"])
    else:
        found = module.find(name)
        if found is None:
            yield "other"
        elif isinstance(found.node, ast.ClassDef):
            owner = find_class(ast.Name(name), module)
            yield "json" if owner and owner.is_dataclass else "other"
        else:
            yield from atoms(found.node, found.module)


def spec_from_annotation(node: ast.AST, module: Module) -> Spec:
    """What vLLM's ``get_kwargs`` makes of a field's annotation, in its order of precedence."""
    found = [*atoms(node, module)]
    words = {each for each in found if isinstance(each, str)}
    many = next((each for each in found if isinstance(each, tuple)), None)
    choices = [value for each in found if isinstance(each, list) for value in each]
    if "json" in words and any(_is_config(each, module) for each in ast.walk(node)):
        return {"kind": "json"}
    if words == {"bool", "str", "none"} and not choices:
        return {"kind": "optional"}
    if "bool" in words:
        return {"kind": "boolean"}
    choices = [value for value in choices if value is not None]
    if choices or UNKNOWN in found:
        kind = "str" if not choices or isinstance(choices[0], str) else type(choices[0]).__name__
        free = "str" in words or UNKNOWN in found
        return {"kind": kind} if free else {"kind": kind, "choices": sorted(choices)}
    if many:
        inner = [each for each in many[1] if isinstance(each, str)]
        kind = inner[0] if len(inner) == 1 and inner[0] in ("int", "float") else "str"
        return {"kind": kind, "many": True}
    for kind in ("int", "float"):
        if kind in words:
            return {"kind": kind}
    if "json" in words:
        return {"kind": "json" if words <= {"json", "none"} else "str"}
    return {"kind": "str"}


def _is_config(node: ast.AST, module: Module) -> bool:
    owner = find_class(node, module) if isinstance(node, ast.Name) else None
    return owner is not None and owner.is_dataclass


def spec_from_keywords(keywords: list[ast.keyword], module: Module) -> Spec:
    """What explicit keywords of ``add_argument`` say."""
    spec: Spec = {}
    for keyword in keywords:
        if keyword.arg:
            apply_keyword(spec, keyword.arg, keyword.value, module)
    return spec


def apply_keyword(spec: Spec, name: str, node: ast.AST, module: Module) -> None:
    match name:
        case "type":
            spec["kind"] = _TYPES.get(ast.unparse(node), _unwrapped(node))
        case "action":
            spec |= _action(ast.unparse(node).strip("'\"").rsplit(".", maxsplit=1)[-1])
        case "choices":
            value = evaluate(node, module)
            spec["choices"] = value if isinstance(value, list) else None
        case "nargs":
            _apply_nargs(spec, evaluate(node, module))
        case "default":
            spec["default"] = evaluate(node, module)
        case "dest":
            spec["dest"] = evaluate(node, module)
        case "help":
            if note := deprecation(evaluate(node, module)):
                spec["deprecated"] = note
        case "deprecated":
            if evaluate(node, module) is True:
                spec.setdefault("deprecated", "deprecated by its parser")


def _unwrapped(node: ast.AST) -> str:
    """``optional_type(int)`` as int; anything else is taken as text."""
    if isinstance(node, ast.Call) and node.args:
        return _TYPES.get(ast.unparse(node.args[0]), "str")
    return "str"


def _action(name: str) -> Spec:
    if name in ("store_true", "store_false", "store_const", "count", "help"):
        return {"kind": "switch", "default": name == "store_false"}
    if name == "BooleanOptionalAction":
        return {"kind": "boolean"}
    if name in ("StoreBoolean", "StoreBooleanAction"):
        return {"kind": "optional"}
    if name == "append":
        return {"many": False}
    if "Deprecated" in name:
        return {"deprecated": f"argparse action {name}"} | (
            {}
            if "Store" in name and "True" not in name and "Const" not in name
            else {"kind": "switch"}
        )
    return {"kind": "str", "many": True} if "LoRA" in name else {}


def _apply_nargs(spec: Spec, value: Any) -> None:
    if value == "?":
        spec["kind"] = "optional" if spec.get("kind", "str") in ("str", "bool") else spec["kind"]
        spec["bare"] = True
    elif value in ("+", "*") or isinstance(value, int):
        spec["many"] = True


def deprecation(text: Any) -> str | None:
    """The sentence of a help text that calls the argument deprecated."""
    if not isinstance(text, str) or not _DEPRECATED.search(text):
        return None
    plain = " ".join(text.split())
    return plain if len(plain) <= _NOTE_CHARS else plain[:_NOTE_CHARS].rsplit(" ", 1)[0] + " …"


def plain(spec: Spec) -> Spec:
    """As it is stored: only what is known and says something."""
    kept: Spec = {"kind": spec.get("kind", "str")}
    if spec.get("many"):
        kept["many"] = True
    if spec.get("bare"):
        kept["bare"] = True
    if spec.get("choices"):
        kept["choices"] = sorted((c for c in spec["choices"] if c is not None), key=str)
    if is_plain(spec.get("default", UNKNOWN)):
        kept["default"] = spec["default"]
    for key in ("flags", "deprecated"):
        if spec.get(key):
            kept[key] = spec[key]
    return kept


def is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return value is not UNKNOWN
