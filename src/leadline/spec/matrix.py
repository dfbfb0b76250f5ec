"""The matrix: which values each combination changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails

from leadline.spec.frozen import nearest
from leadline.spec.load import Goals, Load, Sweep
from leadline.spec.workload import SharedPrefix, Workload

Axis = tuple[str, str, Any]
"""(``workload``, ``settings`` or ``env``; the field, dotted where it lies deeper; its value)."""

_WITHIN: dict[str, type[BaseModel]] = {
    "": Workload,
    "load": Load,
    "load.goals": Goals,
    "load.sweep": Sweep,
    "shared_prefix": SharedPrefix,
}


def points(matrix: Mapping[str, list[Any]]) -> Iterator[tuple[Axis, ...]]:
    """The product of all axes, those of the server outermost; then what ``include`` adds."""
    axes = [_axis(path, values) for path, values in matrix.items() if path != "include"]
    axes.sort(key=lambda axis: axis[0][0] == "workload")
    if axes or "include" not in matrix:
        yield from itertools.product(*axes)
    for extra in matrix.get("include", []):
        if not isinstance(extra, Mapping):
            raise ValueError(f"matrix include {extra!r}: write a mapping like those of the axes")
        yield tuple(_axis(path, [value])[0] for path, value in extra.items())


def _axis(path: str, values: list[Any]) -> list[Axis]:
    group, _, field = path.partition(".")
    if group not in ("workload", "settings", "env") or not field:
        raise ValueError(f"matrix key {path!r}: write workload.FIELD, settings.NAME or env.NAME")
    if group == "workload":
        _require_field(path, field)
    return [(group, field, value) for value in values]


def _require_field(path: str, field: str) -> None:
    place, _, name = field.rpartition(".")
    known = _WITHIN[place].model_fields if place in _WITHIN else Workload.model_fields
    if place not in _WITHIN or name not in known:
        wrong = name if place in _WITHIN else field
        raise ValueError(f"matrix key {path!r}: no such field{nearest(wrong, known)}")


def change_workload(workload: Workload, values: Mapping[str, Any]) -> Workload:
    """The workload with values of the matrix, which are to blame for what is wrong with it."""
    changed = workload.model_dump(exclude_unset=True)
    for path, value in values.items():
        _put(changed, path.split("."), value)
    try:
        return Workload.model_validate(changed)
    except ValidationError as error:
        problems = [
            InitErrorDetails(
                type=problem["type"],
                loc=("matrix", f"workload.{_blamed(problem['loc'], values)}"),
                input=problem["input"],
                ctx=problem.get("ctx", {}),
            )
            for problem in error.errors()
        ]
        raise ValidationError.from_exception_data("matrix", problems) from error


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = tree.get(part)
        tree[part] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        tree = inner
    tree[path[-1]] = value


def _blamed(loc: tuple[Any, ...], values: Mapping[str, Any]) -> str:
    """The axis that a problem of the changed workload lies in."""
    place = ".".join(map(str, loc))
    inside = [path for path in values if f"{place}.".startswith(f"{path}.")]
    around = [path for path in values if path.startswith(f"{place}.")]
    return str(next(iter([*inside, *around]), loc[0]))
