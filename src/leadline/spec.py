"""A campaign file as frozen models: read strictly, every error with its line and its cure."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from leadline.errors import SpecError
from leadline.units import parse_tokens

MAX = "max"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _tokens_or_max(value: object) -> int | str:
    return MAX if value == MAX else parse_tokens(value)  # type: ignore[arg-type]


TokenCount = Annotated[int, BeforeValidator(parse_tokens)]
PromptLength = Annotated[int | Literal["max"], BeforeValidator(_tokens_or_max)]
PromptForm = Literal["ids", "text", "chat"]
Name = Annotated[str, Field(pattern=f"^{NAME}$")]


def _http_url(url: str) -> str:
    if not re.match(r"https?://[^/\s]+", url):
        raise ValueError(f"{url!r} is not a server address; write http://HOST:PORT")
    return url.rstrip("/")


class ProcessTarget(Frozen):
    """Leadline starts the engine as a process of this machine, bound to 127.0.0.1."""

    kind: Literal["process"] = "process"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Default: a free port, chosen at each start."""
    executable: str | None = None
    """The engine's program, for example /opt/vllm/bin/vllm. Default: the one found on PATH."""


class DockerTarget(Frozen):
    """The engine in a container of a Docker engine. Planned, not yet started by Leadline."""

    kind: Literal["docker"] = "docker"
    image: str | None = None


class KubernetesTarget(Frozen):
    """The engine in a cluster. Planned, not yet started by Leadline."""

    kind: Literal["kubernetes"] = "kubernetes"
    image: str | None = None
    namespace: str | None = None


class EndpointTarget(Frozen):
    """A server that somebody else runs; Leadline only talks to it."""

    kind: Literal["endpoint"] = "endpoint"
    url: Annotated[str, AfterValidator(_http_url)]
    api_key_env: str | None = None
    """Name of the environment variable that holds the API key."""
    tokenizer: str | None = None
    """tokenizer.json, or a folder that holds one; default: ask the server."""


def _target(value: object) -> object:
    if not isinstance(value, str):
        return value
    return {"kind": "endpoint", "url": value} if "://" in value else {"kind": value}


_TARGET_KINDS = ("process", "docker", "kubernetes", "endpoint")


def _target_kind(value: Any) -> str:
    return str(value.get("kind", "") if isinstance(value, Mapping) else value.kind)


Target = Annotated[
    Annotated[ProcessTarget, Tag("process")]
    | Annotated[DockerTarget, Tag("docker")]
    | Annotated[KubernetesTarget, Tag("kubernetes")]
    | Annotated[EndpointTarget, Tag("endpoint")],
    Discriminator(_target_kind),
    BeforeValidator(_target),
]


class Deployment(Frozen):
    engine: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(==\S+)?$")] | None = None
    """``llamacpp``, ``vllm==0.12.0``, …; an endpoint may leave it out: then it is asked."""
    target: Target = ProcessTarget()
    model: str | None = None
    settings: Mapping[str, JsonValue] = {}
    """The engine's own arguments, under the engine's own names."""
    env: Mapping[str, str] = {}
    extends: str | None = None

    @property
    def engine_name(self) -> str | None:
        return self.engine.partition("==")[0] if self.engine else None


class Workload(Frozen):
    input_tokens: PromptLength = "max"
    """Prompt length, exact; ``max`` is the longest that leaves room for the output."""
    output_tokens: TokenCount = 200
    repeats: Annotated[int, Field(ge=1, le=1000)] = 3
    corpus: str | tuple[str, ...] = "kjv"
    """A text file, or the name of a corpus in the catalog; a list of them is joined in order."""
    prompt_as: PromptForm = "ids"
    """``ids`` (token ids to /v1/completions), ``text``, or ``chat`` (one user message)."""
    cold: bool = True
    """Require that no token of the prompt came from a cache."""
    needles: Annotated[int, Field(ge=0, le=64)] = 1
    """Passkeys hidden at random depths and asked for at the end."""
    limit_probes: bool = True
    """Also send one prompt of exactly the longest length and one that is too long."""


class Timeouts(Frozen):
    """Limits in seconds; where left out they follow from the plan."""

    start_s: Annotated[float, Field(gt=0)] = 600.0
    first_token_s: Annotated[float, Field(gt=0)] | None = None
    between_tokens_s: Annotated[float, Field(gt=0)] | None = None


_GATE = re.compile(r"\s*(?P<op><=|>=|<|>)\s*(?P<plan>plan\s*\*\s*)?(?P<number>\d+(?:\.\d+)?)\s*")
GateOp = Literal["<=", ">=", "<", ">"]


class Gate(Frozen):
    """A threshold on a measure: ``<= 2.5``, ``>= 0.95`` or ``<= plan * 1.3``."""

    op: GateOp
    number: float
    times_plan: bool = False

    def __str__(self) -> str:
        return f"{self.op} {'plan * ' if self.times_plan else ''}{self.number:g}"


def _gate(value: object) -> object:
    if isinstance(value, Gate | Mapping):
        return value
    match = _GATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a gate; write '<= 2.5', '>= 0.95' or '<= plan * 1.3'")
    return {
        "op": match["op"],
        "number": float(match["number"]),
        "times_plan": match["plan"] is not None,
    }


GateText = Annotated[Gate, BeforeValidator(_gate)]


class Gates(Frozen):
    recall: GateText | None = None
    ttft_s: GateText | None = None
    tpot_s: GateText | None = None
    e2e_s: GateText | None = None


class Cell(Frozen):
    """One combination of a deployment and a workload."""

    key: str
    deployment: str
    """Key of the deployment variant it runs on; equal for all cells that can share one."""
    settings: Deployment
    workload: Workload


class Campaign(Frozen):
    """A matrix of deployments and workloads; the same file serves every verb."""

    name: Name
    model: str | None = None
    hardware: str | None = None
    seed: int | None = None
    """Fixed: the same prompts in every run. Left out: fresh ones, so that no cache knows them."""
    deployments: Annotated[Mapping[Name, Deployment], Field(min_length=1)]
    matrix: Mapping[str, Annotated[list[Any], Field(min_length=1)]] = {}
    """Any ``workload.FIELD``, ``settings.NAME`` or ``env.NAME`` to a list of values; every
    combination is a cell. ``include`` lists further single combinations."""
    workload: Workload = Workload()
    timeouts: Timeouts = Timeouts()
    gates: Gates = Gates()

    @model_validator(mode="after")
    def _resolves(self) -> Campaign:
        for name in self.deployments:
            deployment = self.deployment(name)
            _require_engine(name, deployment)
        keys = Counter(cell.key for cell in self.cells())
        for key, count in keys.items():
            if count > 1:
                raise ValueError(f"matrix: cell {key!r} comes twice; name each combination once")
        return self

    def deployment(self, name: str, _seen: tuple[str, ...] = ()) -> Deployment:
        """The named deployment with everything it ``extends`` and the campaign's model."""
        own = self.deployments[name]
        if own.extends is None:
            return own if own.model else own.model_copy(update={"model": self.model})
        if own.extends in (*_seen, name):
            raise ValueError(f"deployment {name!r} extends itself")
        if own.extends not in self.deployments:
            raise ValueError(
                f"deployment {name!r} extends {own.extends!r}, which is not there"
                f"{_nearest(own.extends, self.deployments)}"
            )
        parent = self.deployment(own.extends, (*_seen, name))
        changed = {field: getattr(own, field) for field in own.model_fields_set}
        for field in ("settings", "env"):
            changed[field] = {**getattr(parent, field), **changed.get(field, {})}
        return parent.model_copy(update=changed)

    def cells(self) -> Iterator[Cell]:
        """Every cell, deployments first, so that cells sharing a server are neighbours."""
        points = list(_points(self.matrix))
        for name in self.deployments:
            base = self.deployment(name)
            for point in points:
                yield _cell(name, base, self.workload, point)

    def digest(self) -> str:
        """Hash of the resolved campaign: a run is resumed only by an equal one."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


_AxisValue = tuple[str, str, Any]


def _points(matrix: Mapping[str, list[Any]]) -> Iterator[tuple[_AxisValue, ...]]:
    """The product of all axes, those of the server outermost; then what ``include`` adds."""
    axes = [_axis(path, values) for path, values in matrix.items() if path != "include"]
    axes.sort(key=lambda axis: axis[0][0] == "workload")
    if axes or "include" not in matrix:
        yield from itertools.product(*axes)
    for extra in matrix.get("include", []):
        if not isinstance(extra, Mapping):
            raise ValueError(f"matrix include {extra!r}: write a mapping like those of the axes")
        yield tuple(_axis(path, [value])[0] for path, value in extra.items())


def _axis(path: str, values: list[Any]) -> list[_AxisValue]:
    group, _, field = path.partition(".")
    if group not in ("workload", "settings", "env") or not field:
        raise ValueError(f"matrix key {path!r}: write workload.FIELD, settings.NAME or env.NAME")
    if group == "workload" and field not in Workload.model_fields:
        raise ValueError(
            f"matrix key {path!r}: no such field{_nearest(field, Workload.model_fields)}"
        )
    return [(group, field, value) for value in values]


def _cell(name: str, base: Deployment, workload: Workload, point: tuple[_AxisValue, ...]) -> Cell:
    settings = {field: value for group, field, value in point if group == "settings"}
    env = {field: str(value) for group, field, value in point if group == "env"}
    changed = {field: value for group, field, value in point if group == "workload"}
    key = "/".join([name, *(f"{field}={value}" for field, value in {**settings, **env}.items())])
    deployment = base.model_copy(
        update={"settings": {**base.settings, **settings}, "env": {**base.env, **env}}
    )
    workload = _changed(workload, changed)
    labels = [f"{field}={getattr(workload, field)}" for field in {"input_tokens": None, **changed}]
    return Cell(
        key="/".join([key, *labels]), deployment=key, settings=deployment, workload=workload
    )


def _changed(workload: Workload, values: dict[str, Any]) -> Workload:
    """The workload with values of the matrix, which are to blame for what is wrong with it."""
    try:
        return Workload.model_validate({**workload.model_dump(exclude_unset=True), **values})
    except ValidationError as error:
        problems = [
            InitErrorDetails(
                type=problem["type"],
                loc=("matrix", f"workload.{problem['loc'][0]}"),
                input=problem["input"],
                ctx=problem.get("ctx", {}),
            )
            for problem in error.errors()
        ]
        raise ValidationError.from_exception_data("matrix", problems) from error


def _require_engine(name: str, deployment: Deployment) -> None:
    if deployment.target.kind != "endpoint":
        if deployment.engine is None:
            raise ValueError(f"deployment {name!r} needs an engine, for example llamacpp")
        if deployment.model is None:
            raise ValueError(f"deployment {name!r} needs a model, of its own or the campaign's")


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


# --- reading a file -------------------------------------------------------------------------


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
        path = _without_tags(problem["loc"])
        line = _line_of(tree, path)
        field = ".".join(str(part) for part in path) or "campaign"
        messages.append(f"{source}:{line}: {field}: {_problem(problem, path)}")
    return SpecError("\n".join(messages), cure="correct the named lines and run the command again")


def _without_tags(loc: tuple[Any, ...]) -> list[Any]:
    """The path as it stands in the file: pydantic adds the kind of a target after it."""
    return [
        part
        for before, part in itertools.pairwise((None, *loc))
        if not (before == "target" and part in _TARGET_KINDS)
    ]


def _problem(problem: Any, path: list[Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown key{_nearest(str(path[-1]), dict.fromkeys(_fields_at(path[:-1])))}"
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return "not a target; write process, docker, kubernetes, or http://HOST:PORT"
    text = str(problem["msg"]).removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (given: {given!r})" if isinstance(given, bool | int | float | str) else ""
    return text if shown and repr(given) in text else text + shown


_FIELDS: dict[str, type[BaseModel]] = {
    "workload": Workload,
    "timeouts": Timeouts,
    "gates": Gates,
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
