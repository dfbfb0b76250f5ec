"""A campaign: deployments times workloads, and the cells that this makes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from leadline.spec.budget import Budget
from leadline.spec.expectation import Expected
from leadline.spec.frozen import Frozen, Name, nearest
from leadline.spec.gates import Gates, Timeouts
from leadline.spec.lengths import show_length
from leadline.spec.matrix import Matrix, Point, change_workload, expand, require_effect
from leadline.spec.search import Search, require_searchable, seed_cell
from leadline.spec.target import ProcessTarget, Target
from leadline.spec.workload import Workload


class Deployment(Frozen):
    engine: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(==\S+)?$")] | None = None
    """``llamacpp``, ``vllm==0.12.0``, …; an endpoint may leave it out: then it is asked."""
    target: Target = ProcessTarget()
    model: str | None = None
    settings: Mapping[str, JsonValue] = {}
    """The engine's own arguments, under the engine's own names."""
    env: Mapping[str, str] = {}
    extends: str | None = None
    expect: Expected | None = None
    """What its cells are known to come to: ``pass``, ``fail`` or ``{fail: CAUSE}``. One that comes
    otherwise is what the run is about, and decides its exit code."""

    @property
    def engine_name(self) -> str | None:
        return self.engine.partition("==")[0] if self.engine else None


class Cell(Frozen):
    """One combination of a deployment and a workload."""

    key: str
    deployment: str
    """Key of the deployment variant it runs on; equal for all cells that can share one."""
    settings: Deployment
    workload: Workload
    labels: tuple[str, ...] = ()
    """The deployment's name and ``field=value`` for all that tells the cell from others."""

    @property
    def workload_key(self) -> str:
        """Equal for the same workload on any deployment."""
        return self.key.removeprefix(f"{self.deployment}/")

    @property
    def trials(self) -> range:
        """Their numbers; a load is one."""
        return range(1, 2 if self.is_load else self.workload.repeats + 1)

    @property
    def is_load(self) -> bool:
        return self.workload.load is not None


class Campaign(Frozen):
    """A matrix of deployments and workloads; the same file serves every verb."""

    name: Name
    model: str | None = None
    hardware: str | None = None
    seed: int | None = None
    """Fixed: the same prompts in every run. Left out: fresh ones, so that no cache knows them."""
    deployments: Annotated[Mapping[Name, Deployment], Field(min_length=1)]
    matrix: Matrix = {}  # noqa: RUF012  (frozen)
    """Any ``workload.FIELD``, ``settings.NAME`` or ``env.NAME`` to a list of values; every
    combination is a cell. ``zip`` takes such lists value by value together, ``exclude`` leaves out
    what matches, ``include`` adds to what matches, or adds a combination of its own."""
    order: Literal["in_turn", "interleaved"] = "in_turn"
    """``in_turn``: one deployment after the other. ``interleaved``: all are up at once, and take
    turns trial by trial, so that none is measured in another hour than its rivals; the report then
    compares them with the first."""
    workload: Workload = Workload()
    search: Search | None = None
    """Find the largest level that works, instead of measuring given ones."""
    timeouts: Timeouts = Timeouts()
    gates: Gates = Gates()
    budget: Budget = Budget()
    """What the run may take; it stops cleanly before that is exceeded, and a larger one resumes."""

    @model_validator(mode="after")
    def _resolves(self) -> Campaign:
        for name in self.deployments:
            deployment = self.deployment(name)
            _require_engine(name, deployment)
        require_effect(self.matrix, list(self.deployments))
        require_searchable(self)
        cells = list(self.cells())
        if not cells:
            raise ValueError("matrix: exclude leaves no cell")
        for cell in cells:
            if problem := cell.workload.problem():
                raise ValueError(f"cell {cell.key!r}: workload.{problem}")
        keys = Counter(cell.key for cell in cells)
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
                f"{nearest(own.extends, self.deployments)}"
            )
        parent = self.deployment(own.extends, (*_seen, name))
        changed = {field: getattr(own, field) for field in own.model_fields_set}
        for field in ("settings", "env"):
            changed[field] = {**getattr(parent, field), **changed.get(field, {})}
        return parent.model_copy(update=changed)

    def cells(self) -> Iterator[Cell]:
        """Every cell once, deployments first; with a search, each is what one search starts of."""
        for name in self.deployments:
            base = self.deployment(name)
            for point in expand(self.matrix, name):
                cell = _cell(name, base, self.workload, point)
                yield seed_cell(self.search, cell) if self.search else cell

    def starts(self) -> dict[str, list[Cell]]:
        """The cells that share one start, by deployment variant; in the order of the campaign."""
        groups: dict[str, list[Cell]] = {}
        for cell in self.cells():
            groups.setdefault(cell.deployment, []).append(cell)
        return groups

    def digest(self) -> str:
        """Hash of the resolved campaign: a run is resumed only by an equal one, whatever it may
        cost, and whatever is expected of it.
        """
        asked = self.model_dump(
            mode="json", exclude={"budget": True, "deployments": {"__all__": {"expect"}}}
        )
        canonical = json.dumps(asked, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _cell(name: str, base: Deployment, workload: Workload, point: Point) -> Cell:
    settings, changed = _within(point, "settings"), _within(point, "workload")
    env = {field: str(value) for field, value in _within(point, "env").items()}
    names = [name, *(f"{field}={value}" for field, value in {**settings, **env}.items())]
    key = "/".join(names)
    deployment = base.model_copy(
        update={"settings": {**base.settings, **settings}, "env": {**base.env, **env}}
    )
    workload = change_workload(workload, changed)
    labels = [f"{field}={_label(workload, field)}" for field in {"input_tokens": None, **changed}]
    return Cell(
        key="/".join([key, *labels]),
        deployment=key,
        settings=deployment,
        workload=workload,
        labels=(*names, *labels),
    )


def _within(point: Point, group: str) -> dict[str, Any]:
    start = f"{group}."
    return {p.removeprefix(start): value for p, value in point.items() if p.startswith(start)}


def _label(workload: Workload, field: str) -> str:
    if field == "input_tokens" and workload.load and workload.load.trace:
        return "trace"
    value: Any = workload
    for part in field.split("."):
        value = getattr(value, part)
    return show_length(value) if field in ("input_tokens", "output_tokens") else str(value)


def _require_engine(name: str, deployment: Deployment) -> None:
    if deployment.target.kind != "endpoint":
        if deployment.engine is None:
            raise ValueError(f"deployment {name!r} needs an engine, for example llamacpp")
        if deployment.model is None:
            raise ValueError(f"deployment {name!r} needs a model, of its own or the campaign's")
