"""Reading a campaign file: every error with its line and its cure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from leadline.errors import SpecError
from leadline.spec.budget import Amounts, Budget
from leadline.spec.campaign import Campaign, Deployment
from leadline.spec.frozen import nearest
from leadline.spec.gates import Gates, Timeouts
from leadline.spec.lengths import LENGTH_KINDS, LognormalShape
from leadline.spec.load import Goals, Load, Sweep, UserRange
from leadline.spec.search import Search
from leadline.spec.target import TARGET_KINDS, EndpointTarget
from leadline.spec.workload import SharedPrefix, Workload


def read_campaign(path: Path) -> Campaign:
    """Read and check a campaign file.

    Raises ``SpecError`` naming file, line, what is wrong and the cure.
    """
    return parse_campaign(_read_text(path), source=str(path))


def parse_campaign(text: str, *, source: str) -> Campaign:
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SpecError(
            f"not valid YAML: {error.problem}",
            where=f"{source}{line}",
            cure="check indentation, colons and quotes at that line",
        ) from error
    except ReaderError as error:
        raise SpecError(
            f"not valid YAML: {error.reason}",
            where=f"{source}:{text.count(chr(10), 0, error.position) + 1}",
            cure="check indentation, colons and quotes at that line",
        ) from error
    if not isinstance(tree, Mapping):
        raise SpecError(
            "not a campaign: it must be a mapping with name, model and deployments",
            where=source,
            cure="start from the example in the README, or `leadline quickstart --show`",
        )
    try:
        return Campaign.model_validate(_plain(tree))
    except ValidationError as error:
        raise _spec_error(error, tree, source) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError("no such campaign file", where=str(path), cure="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"cannot be read: {error}", where=str(path), cure="give a UTF-8 text file"
        ) from error


def _plain(node: Any) -> Any:
    """Ruamel's round-trip nodes as plain Python values."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _spec_error(error: ValidationError, tree: Any, source: str) -> SpecError:
    messages = []
    for problem in error.errors():
        path = path_in_file(problem["loc"])
        line = _line_of(tree, path)
        field = ".".join(str(part) for part in path) or "campaign"
        messages.append(f"{source}:{line}: {field}: {_problem(problem, path)}")
    return SpecError("\n".join(messages), cure="correct the named lines and run the command again")


def path_in_file(loc: tuple[Any, ...]) -> list[Any]:
    """The path as it stands in the file: pydantic adds the kind of a target or length after it."""
    return [
        part
        for before, part in itertools.pairwise((None, *loc))
        if not (isinstance(before, str) and part in _TAGS.get(before, ()))
    ]


def _problem(problem: Any, path: list[Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown key{nearest(str(path[-1]), dict.fromkeys(_fields_at(path[:-1])))}"
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return "not a target; write process, offline, docker, kubernetes, or http://HOST:PORT"
    text = str(problem["msg"]).removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (given: {given!r})" if isinstance(given, bool | int | float | str) else ""
    return text if shown and repr(given) in text else text + shown


_TAGS = {
    "target": TARGET_KINDS,
    "input_tokens": LENGTH_KINDS,
    "output_tokens": LENGTH_KINDS,
    "users": ("list", "range"),
    "rate": ("list", "range"),
}
_FIELDS: dict[str, type[BaseModel]] = {
    "load": Load,
    "goals": Goals,
    "sweep": Sweep,
    "search": Search,
    "users": UserRange,
    "rate": UserRange,
    "lognormal": LognormalShape,
    "shared_prefix": SharedPrefix,
    "workload": Workload,
    "timeouts": Timeouts,
    "gates": Gates,
    "budget": Budget,
    "ask_above": Amounts,
    "target": EndpointTarget,
}


def _fields_at(path: list[Any]) -> list[str]:
    if not path:
        return list(Campaign.model_fields)
    if path[-1] in _FIELDS:
        return list(_FIELDS[path[-1]].model_fields)
    return list(Deployment.model_fields)


def _line_of(tree: Any, path: list[Any]) -> int:
    """Line of the deepest part of the path that the file holds."""
    line = 1
    node = tree
    for part in path:
        positions = getattr(getattr(node, "lc", None), "data", None)
        if not positions or part not in positions:
            break
        line = positions[part][0] + 1
        node = node[part]
    return line
