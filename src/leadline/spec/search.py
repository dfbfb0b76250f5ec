"""A search for the largest level that works: of prompt length, or of requests at once.

Each cell of the campaign becomes one search, and each level that it asks a cell of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from leadline.spec.frozen import Frozen, TokenCount
from leadline.spec.load import Load
from leadline.spec.workload import Workload

if TYPE_CHECKING:
    from leadline.spec.campaign import Campaign, Cell

Unit = Literal["input_tokens", "concurrency"]
_FIELDS: dict[Unit, str] = {"input_tokens": "input_tokens", "concurrency": "load.users"}


def _rising(levels: Sequence[int]) -> Sequence[int]:
    if list(levels) != sorted(set(levels)):
        raise ValueError("write the levels in rising order, each once")
    return levels


_Level = Annotated[TokenCount, Field(ge=1)]


class Search(Frozen):
    """Starts from the plan's own answer and halves the distance on real runs."""

    maximise: Unit
    """``input_tokens``: the longest prompt. ``concurrency``: users at once, of a load."""
    within: Literal["gates"] = "gates"
    """A level passes if its cell does: every proof holds, and every gate."""
    resolution: _Level | None = None
    """How near the largest level that passes and the smallest that fails must be. Default: 1 % of
    the plan's answer for tokens, 1 for users."""
    low: _Level | None = None
    high: _Level | None = None
    """No level outside is asked. Default: from 1 to twice what the plan holds possible."""
    levels: Annotated[tuple[_Level, ...], AfterValidator(_rising)] = ()
    """Only these, for example the buckets that were compiled. Default: what fills whole blocks of
    the KV cache; on Neuron, the context buckets of the settings."""
    window: Literal["fixed", "follows"] = "fixed"
    """``fixed``: the server is as the deployment says. ``follows``: each length is asked of a
    server whose context window just holds it, so that memory is the limit and not the window."""
    most_runs: Annotated[int, Field(ge=1, le=1000)] = 30
    """Of one search; then it ends with what it knows."""
    heal: bool = False
    """Apply the remedy of a failure as a new deployment, where the diagnosis says how far, and
    search on there. At most three times for each search."""

    @property
    def field(self) -> str:
        """Of the workload, as the matrix would name it."""
        return _FIELDS[self.maximise]

    @property
    def label(self) -> str:
        return f"{self.field}="


def seed_cell(search: Search, cell: Cell) -> Cell:
    """What a search is made of: valid, and still without its level."""
    if search.maximise == "input_tokens":
        return cell
    load = (cell.workload.load or Load()).model_copy(update={"users": 1})
    return cell.model_copy(update={"workload": cell.workload.model_copy(update={"load": load})})


def search_key(search: Search, cell: Cell) -> str:
    """Of the search that a cell of the campaign stands for."""
    return "/".join(label for label in cell.labels if not label.startswith(search.label))


def level_cell(
    search: Search,
    seed: Cell,
    level: int,
    take: int = 1,
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> Cell:
    """The cell that asks for one level, on the deployment as it is or with changed settings."""
    changed = change_cell(seed, settings or {}, env or {})
    names = _names(changed)
    others = [n for n in changed.labels[len(names) :] if not n.startswith(search.label)]
    labels = [f"{search.label}{level}", *others]
    if search.maximise == "concurrency":
        labels = [*others, f"{search.label}{level}"]
    labels = [*names, *labels, *([f"take={take}"] if take > 1 else [])]
    workload = _at(search, seed.workload, level)
    updates = {"key": "/".join(labels), "labels": tuple(labels), "workload": workload}
    return changed.model_copy(update=updates)


def change_cell(cell: Cell, settings: Mapping[str, Any], env: Mapping[str, str]) -> Cell:
    """The same on a deployment with changed settings, which is another one; ``None`` takes away."""
    names = _names(cell)
    changes = [f"{name}={value}" for name, value in {**settings, **env}.items()]
    labels = (*names, *changes, *cell.labels[len(names) :])
    deployment = cell.settings.model_copy(
        update={
            "settings": _put(cell.settings.settings, settings),
            "env": {**cell.settings.env, **env},
        }
    )
    return cell.model_copy(
        update={
            "key": "/".join(labels),
            "deployment": "/".join([*names, *changes]),
            "settings": deployment,
            "labels": labels,
        }
    )


def _names(seed: Cell) -> tuple[str, ...]:
    """The labels that make up the deployment's key."""
    for count in range(len(seed.labels) + 1):
        if "/".join(seed.labels[:count]) == seed.deployment:
            return seed.labels[:count]
    return (seed.deployment,)


def _put(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``None`` takes a setting away."""
    changed = {**settings, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def _at(search: Search, workload: Workload, level: int) -> Workload:
    """As many requests as users at least: else they would not all be there at once."""
    if search.maximise == "input_tokens":
        workload, load = workload.model_copy(update={"input_tokens": level}), workload.load
    else:
        load = (workload.load or Load()).model_copy(update={"users": level})
    if load is None:
        return workload
    users = load.users or 1
    requests = max(load.requests, users) if load.requests else 2 * users
    return workload.model_copy(update={"load": load.model_copy(update={"requests": requests})})


def require_searchable(campaign: Campaign) -> None:
    """``ValueError`` for what a search cannot be combined with."""
    search = campaign.search
    if search is None:
        return
    for problem in _problems(campaign, search):
        raise ValueError(f"search: {problem}")


def _problems(campaign: Campaign, search: Search) -> Iterable[str]:
    workload, field = campaign.workload, search.field
    if campaign.order == "interleaved":
        yield "its levels follow from one another; leave order: interleaved out"
    if f"workload.{field}" in _named(campaign.matrix):
        yield f"it finds {field} itself; take workload.{field} out of the matrix"
    if search.maximise == "input_tokens" and workload.input_tokens != "max":
        yield "it finds input_tokens itself; leave them out of the workload"
    load = workload.load
    if load and (load.trace or load.sweep or (search.maximise == "concurrency" and load.drivers)):
        yield f"load: {load.drivers[0]} cannot be combined with it; leave it out"
    if search.low and search.high and search.low > search.high:
        yield "low is above high"
    if any(campaign.deployment(n).target.kind == "offline" for n in campaign.deployments):
        yield "an offline deployment is not searched; use a server"
    if search.window == "follows" and any(
        campaign.deployment(n).target.kind == "endpoint" for n in campaign.deployments
    ):
        yield "the window of somebody else's server cannot follow; leave window: follows out"


def _named(matrix: Mapping[str, Any]) -> set[str]:
    """Every field that the matrix varies, wherever it does."""
    inner = [matrix.get(word, ()) for word in ("zip", "include")]
    groups = [group for each in inner for group in ([each] if isinstance(each, Mapping) else each)]
    return {*matrix, *(name for group in groups for name in group)}
