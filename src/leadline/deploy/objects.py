"""Objects of ours in a cluster: applied, found and taken away; those of others are left alone."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from leadline.deploy.cluster import Cluster, RefusedError
from leadline.errors import DeployError
from leadline.render.kubernetes import MANAGER, MANAGER_LABEL, NAME_LABEL, Object, secret_name

OWNER_LABEL = "leadline.io/owner"
"""Who applied it: a run, or ``up``; a rendered file that was applied by hand has none."""
WORKLOADS = ("Deployment", "LeaderWorkerSet")
CLAIM = "PersistentVolumeClaim"
_KINDS = (*WORKLOADS, "Service", "PodDisruptionBudget", "Secret")
"""All that one service is made of but its claims."""
_NOT_FOUND = 404
_UNSEEN = (403, _NOT_FOUND)
_POLL_S = 0.5


def mark(objects: Iterable[Object], owner: str, notes: Mapping[str, str]) -> list[Object]:
    """The same objects as one owner's; the workload carries the notes as annotations.

    Claims belong to nobody: they outlive every owner.
    """
    return [item if item["kind"] == CLAIM else _marked(item, owner, notes) for item in objects]


async def apply_all(
    cluster: Cluster, namespace: str, objects: Sequence[Object]
) -> AsyncIterator[Object]:
    """Each object just before it is applied, so that a failure half-way can be undone.

    Makes the namespace first; the workload comes last, so that no pod starts before all that
    belongs to it was accepted. ``RefusedError`` where the cluster says no, and ``DeployError`` for
    an object of that name that is not ours.
    """
    await _finish(_require_namespace(cluster, namespace))
    for item in sorted(objects, key=lambda item: item["kind"] in WORKLOADS):
        await _require_ours(cluster, item)
        yield item
        await _finish(cluster.apply(item))


async def remove_all(cluster: Cluster, objects: Iterable[Object], *, claims: bool = False) -> None:
    """What of these is ours; the claims, which hold weights and compiled code, only if asked.

    The rest is tried even if one is refused; then the first refusal is raised.
    """
    refusals: list[DeployError] = []
    for item in objects:
        if item["kind"] == CLAIM and not claims:
            continue
        try:
            if _is_same(await cluster.read(item), item):
                await cluster.delete(item)
        except DeployError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


async def find_parts(cluster: Cluster, namespace: str) -> dict[str, list[Object]]:
    """All that Leadline has applied but the claims, by service, the workload first.

    A service that was applied half has no workload. Kinds that we may not list are left out.
    """
    found: dict[str, list[Object]] = {}
    for kind in _KINDS:
        for item in await _find(cluster, namespace, (kind,), "", passing=_UNSEEN):
            found.setdefault(_labels(item).get(NAME_LABEL, ""), []).append(item)
    return found


async def find_workloads(cluster: Cluster, namespace: str) -> list[Object]:
    """Every Deployment and LeaderWorkerSet that Leadline has applied."""
    return await _find(cluster, namespace, WORKLOADS, "")


async def find_owned(cluster: Cluster, namespace: str, owner: str) -> list[Object]:
    """All that one owner has applied there, the claims aside."""
    return await _find(cluster, namespace, _KINDS, f",{OWNER_LABEL}={owner}")


async def find_service(cluster: Cluster, namespace: str, name: str) -> list[Object]:
    """All that one service is made of, its claims too."""
    return await _find(cluster, namespace, (*_KINDS, CLAIM), f",{NAME_LABEL}={name}")


async def wait_gone(cluster: Cluster, namespace: str, names: Iterable[str], limit_s: float) -> None:
    """Until no pod of these services is left, or the time is over."""
    deadline = time.monotonic() + limit_s
    for name in names:
        while await cluster.find("Pod", namespace, f"{NAME_LABEL}={name}"):
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(_POLL_S)


def is_ours(item: Object | None) -> bool:
    return item is not None and _labels(item).get(MANAGER_LABEL) == MANAGER


def owner_of(item: Object) -> str:
    return str(_labels(item).get(OWNER_LABEL, ""))


def secret_of(namespace: str, name: str, values: Mapping[str, str]) -> Object:
    """The Secret of a service; without values to find or remove it."""
    labels = {NAME_LABEL: name, MANAGER_LABEL: MANAGER}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(name), "namespace": namespace, "labels": labels},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def _marked(item: Object, owner: str, notes: Mapping[str, str]) -> Object:
    metadata = {**item["metadata"]}
    if owner:
        metadata["labels"] = {**_labels(item), OWNER_LABEL: owner}
    if notes and item["kind"] in WORKLOADS:
        metadata["annotations"] = dict(notes)
    return {**item, "metadata": metadata}


def _labels(item: Object) -> Mapping[str, Any]:
    found: Mapping[str, Any] = item["metadata"].get("labels", {})
    return found


def _is_same(there: Object | None, item: Object) -> bool:
    """Ours, and of the same owner."""
    if there is None or not is_ours(there):
        return False
    return item["kind"] == CLAIM or owner_of(there) == owner_of(item)


async def _find(
    cluster: Cluster,
    namespace: str,
    kinds: Iterable[str],
    selector: str,
    passing: Iterable[int] = (_NOT_FOUND,),
) -> list[Object]:
    """LeaderWorkerSet is not installed everywhere."""
    found: list[Object] = []
    for kind in kinds:
        try:
            found += await cluster.find(kind, namespace, f"{MANAGER_LABEL}={MANAGER}{selector}")
        except RefusedError as refused:
            if refused.status not in passing:
                raise
    return found


async def _finish(work: Coroutine[Any, Any, object]) -> None:
    """A cancellation waits for its end: what the cluster was told, ``remove_all`` must see."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        raise


async def _require_namespace(cluster: Cluster, name: str) -> None:
    """Made where it is missing; it stays, for claims are kept in it."""
    item = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {MANAGER_LABEL: MANAGER}},
    }
    try:
        missing = await cluster.read(item) is None
    except RefusedError:  # many may use a namespace without seeing the list of them
        return
    if missing:
        await cluster.apply(item)


async def _require_ours(cluster: Cluster, item: Object) -> None:
    there = await cluster.read(item)
    if there is None or _is_same(there, item):
        return
    name = item["metadata"]["name"]
    where = f"{item['metadata']['namespace']}/{name}"
    if is_ours(there):
        raise DeployError(
            f"a {item['kind']} of that name is there, started by {owner_of(there) or 'a script'}",
            where=where,
            cure=f"leadline down {name} --target kubernetes",
        )
    raise DeployError(
        f"a {item['kind']} of that name is there, and it is not ours",
        where=where,
        cure="use another namespace, or remove it yourself",
    )
