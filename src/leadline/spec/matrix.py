"""The matrix: which values each combination of a deployment changes.

As in a CI's matrix: the product of all axes, where ``zip`` makes several of them one; less what
``exclude`` matches; then each entry of ``include`` is added to every combination of which it
changes no value of an axis, or is a combination of its own where there is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NoReturn, TypeAlias

from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from leadline.spec.frozen import nearest
from leadline.spec.load import Goals, Load, Sweep
from leadline.spec.workload import SharedPrefix, Workload
from leadline.units import parse_tokens

Point: TypeAlias = Mapping[str, Any]
"""``workload.FIELD`` (dotted where it lies deeper), ``settings.NAME``, ``env.NAME``: to a value."""

DEPLOYMENT = "deployment"
"""In ``include`` and ``exclude``: of this deployment alone."""
_WORDS = ("zip", "include", "exclude")
_WITHIN: dict[str, type[BaseModel]] = {
    "": Workload,
    "load": Load,
    "load.goals": Goals,
    "load.sweep": Sweep,
    "shared_prefix": SharedPrefix,
}
_Loc = tuple[str | int, ...]
_Axis = list[dict[str, Any]]
"""The points of one axis: one name each, or as many as are zipped."""


def expand(matrix: Mapping[str, Any], deployment: str) -> list[Point]:
    """The combinations of one deployment, those that share a server's settings side by side.

    A deployment of which the matrix says nothing has one, as it stands.
    """
    axes = list(_axes(matrix))
    extras = list(_about(matrix.get("include", ()), deployment))
    rules = list(_about(matrix.get("exclude", ()), deployment))
    product = [_merge(points) for points in itertools.product(*axes)] if axes or not extras else []
    kept = [point for point in product if not any(_matches(point, rule) for rule in rules)]
    order = {path: place for place, path in enumerate(_paths(matrix))}
    return [dict(sorted(p.items(), key=lambda pair: order[pair[0]])) for p in _add(kept, extras)]


def _axes(matrix: Mapping[str, Any]) -> list[_Axis]:
    """Those of the server first: they change slowest."""
    plain = [
        [{path: value} for value in values] for path, values in matrix.items() if path not in _WORDS
    ]
    zipped = [
        [dict(zip(group, values, strict=True)) for values in zip(*group.values(), strict=True)]
        for group in _groups(matrix)
    ]
    return sorted([*plain, *zipped], key=lambda axis: all(map(_is_of_workload, axis[0])))


def _groups(matrix: Mapping[str, Any]) -> list[Mapping[str, list[Any]]]:
    groups = matrix.get("zip", [])
    return [groups] if isinstance(groups, Mapping) else list(groups)


def _is_of_workload(path: str) -> bool:
    return path.startswith("workload.")


def _about(entries: Sequence[Mapping[str, Any]], deployment: str) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if entry.get(DEPLOYMENT, deployment) == deployment:
            yield {path: value for path, value in entry.items() if path != DEPLOYMENT}


def _merge(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {path: value for point in points for path, value in point.items()}


def _matches(point: Point, rule: Point) -> bool:
    return all(path in point and _same(point[path], value) for path, value in rule.items())


def _same(one: Any, other: Any) -> bool:
    """``2k`` and 2000 are the same length."""
    return bool(one == other and isinstance(one, bool) == isinstance(other, bool)) or (
        (count := _count(one)) is not None and count == _count(other)
    )


def _count(value: Any) -> int | None:
    try:
        return parse_tokens(value) if type(value) in (int, str) else None
    except ValueError:
        return None


def _add(kept: Sequence[Point], extras: Sequence[Point]) -> list[dict[str, Any]]:
    """What was added may be changed by a later entry; a value of an axis never is."""
    grown = [dict(point) for point in kept]
    alone = []
    for extra in extras:
        fitting = [pair for pair in zip(kept, grown, strict=True) if not _changes(pair[0], extra)]
        for point, new in fitting:
            new.update({path: value for path, value in extra.items() if path not in point})
        alone += [] if fitting else [dict(extra)]
    return [*grown, *alone]


def _changes(point: Point, extra: Point) -> bool:
    return not all(_same(point[path], extra[path]) for path in point.keys() & extra.keys())


def _paths(matrix: Mapping[str, Any]) -> Iterator[str]:
    """Every path once, as it first comes: a deployment's key does not depend on who adds what."""
    seen = [path for axis in _axes(matrix) for path in axis[0]]
    yield from dict.fromkeys(
        [*seen, *(path for extra in matrix.get("include", ()) for path in extra)]
    )


# --- what cannot be meant -----------------------------------------------------------------------


def _check(matrix: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every key, and the form of what it holds; values are checked with what they change."""
    for path, values in matrix.items():
        if path not in _WORDS:
            _require_path(path, (path,))
            _require_values(values, (path,))
    zipped = matrix.get("zip", [])
    for loc, group in (
        [(("zip",), zipped)] if isinstance(zipped, Mapping) else _entries(matrix, "zip")
    ):
        _require_group(group, loc, matrix)
    for word in ("include", "exclude"):
        for loc, entry in _entries(matrix, word):
            for path in _require_mapping(entry, loc):
                if path != DEPLOYMENT:
                    _require_path(path, (*loc, path))
    return matrix


Matrix = Annotated[Mapping[str, Any], AfterValidator(_check)]


def require_effect(matrix: Mapping[str, Any], deployments: Sequence[str]) -> None:
    """An entry that names nothing is a slip of the pen, and what it should keep out would run."""
    for word in ("include", "exclude"):
        for loc, entry in _entries(matrix, word):
            name = entry.get(DEPLOYMENT)
            if name is not None and name not in deployments:
                hint = nearest(str(name), dict.fromkeys(deployments))
                _blame(("matrix", *loc), f"there is no deployment {name!r}{hint}")
    bare = {path: values for path, values in matrix.items() if path not in ("include", "exclude")}
    for loc, entry in _entries(matrix, "exclude"):
        points = [point for name in deployments for point in expand(bare, name)]
        (rule,) = _about([entry], str(entry.get(DEPLOYMENT, "")))
        if not any(_matches(point, rule) for point in points):
            _blame(("matrix", *loc), "it matches no combination of the axes; correct or remove it")


def _entries(matrix: Mapping[str, Any], word: str) -> list[tuple[_Loc, Any]]:
    entries = matrix.get(word, [])
    if not isinstance(entries, list):
        _blame((word,), f"write a list of mappings, not {entries!r}")
    return [((word, number), entry) for number, entry in enumerate(entries)]


def _require_group(group: Any, loc: _Loc, matrix: Mapping[str, Any]) -> None:
    for path, values in _require_mapping(group, loc).items():
        _require_path(path, (*loc, path))
        _require_values(values, (*loc, path))
        if sum(path in other for other in (matrix, *_groups(matrix))) > 1:
            _blame((*loc, path), "it varies twice; name it once, as an axis or in one zip")
    lengths = {path: len(values) for path, values in group.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{path} has {count}" for path, count in lengths.items())
        _blame(loc, f"what is zipped needs equally many values: {shown}")


def _require_mapping(entry: Any, loc: _Loc) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping) or not entry:
        _blame(loc, f"write a mapping like {{workload.repeats: 1}}, not {entry!r}")
    return entry


def _require_values(values: Any, loc: _Loc) -> None:
    if not isinstance(values, list) or not values:
        _blame(loc, f"write a list of values, not {values!r}")


def _require_path(path: str, loc: _Loc) -> None:
    group, _, field = path.partition(".")
    if group not in ("workload", "settings", "env") or not field:
        _blame(loc, "not a matrix key: write workload.FIELD, settings.NAME or env.NAME")
    if group == "workload":
        _require_field(field, loc)


def _require_field(field: str, loc: _Loc) -> None:
    place, _, name = field.rpartition(".")
    known = _WITHIN[place].model_fields if place in _WITHIN else Workload.model_fields
    if place not in _WITHIN or name not in known:
        wrong = name if place in _WITHIN else field
        _blame(loc, f"no such field{nearest(wrong, known)}")


def _blame(loc: _Loc, text: str) -> NoReturn:
    problem = PydanticCustomError("matrix", "{text}", {"text": text})
    raise ValidationError.from_exception_data(
        "matrix", [InitErrorDetails(type=problem, loc=loc, input=None)]
    )


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
