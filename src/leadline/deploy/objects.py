"""Objects of ours in a cluster: applied, found and taken away; those of others are left alone."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from leadline.deploy.cluster import Cluster, RefusedError
from leadline.errors import DeployError
from leadline.render.kubernetes import MANAGER, MANAGER_LABEL, NAME_LABEL, Object, secret_name

WORKLOADS = ("Deployment", "LeaderWorkerSet")
CLAIM = "PersistentVolumeClaim"
_NOT_FOUND = 404


async def apply_all(
    cluster: Cluster, namespace: str, name: str, objects: Sequence[Object], secrets: Iterable[str]
) -> AsyncIterator[Object]:
    """Each object just before it is applied, so that a failure half-way can be undone.

    Makes the namespace and the Secret first; the workload comes last, so that no pod starts before
    all that belongs to it was accepted. ``RefusedError`` where the cluster says no, and
    ``DeployError`` for an object of that name that is not ours.
    """
    await _require_namespace(cluster, namespace)
    ordered = sorted(objects, key=lambda item: item["kind"] in WORKLOADS)
    for item in [*_secrets(namespace, name, _values(secrets)), *ordered]:
        await _require_ours(cluster, item)
        yield item
        await cluster.apply(item)


async def remove_all(cluster: Cluster, objects: Iterable[Object], *, claims: bool = False) -> None:
    """What of these is ours; the claims, which hold weights and compiled code, only if asked.

    The rest is tried even if one is refused; then the first refusal is raised.
    """
    refusals: list[DeployError] = []
    for item in objects:
        if item["kind"] == CLAIM and not claims:
            continue
        try:
            if is_ours(await cluster.read(item)):
                await cluster.delete(item)
        except DeployError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


async def find_workloads(cluster: Cluster, namespace: str) -> list[Object]:
    """Every Deployment and LeaderWorkerSet that Leadline has applied."""
    found = await cluster.find("Deployment", namespace, f"{MANAGER_LABEL}={MANAGER}")
    try:
        return found + await cluster.find(
            "LeaderWorkerSet", namespace, f"{MANAGER_LABEL}={MANAGER}"
        )
    except RefusedError as refused:
        if refused.status == _NOT_FOUND:  # not installed there
            return found
        raise


def is_ours(item: Object | None) -> bool:
    return item is not None and item["metadata"].get("labels", {}).get(MANAGER_LABEL) == MANAGER


def secret_of(namespace: str, name: str) -> Object:
    """The Secret of a service without its values, to find or remove it."""
    labels = {NAME_LABEL: name, MANAGER_LABEL: MANAGER}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(name), "namespace": namespace, "labels": labels},
    }


def _secrets(namespace: str, name: str, values: Mapping[str, str]) -> list[Object]:
    if not values:
        return []
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return [{**secret_of(namespace, name), "data": encoded}]


def _values(names: Iterable[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}


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
    if there is not None and not is_ours(there):
        raise DeployError(
            f"a {item['kind']} of that name is there, and it is not ours",
            where=f"{item['metadata']['namespace']}/{item['metadata']['name']}",
            cure="use another namespace, or remove it yourself",
        )
