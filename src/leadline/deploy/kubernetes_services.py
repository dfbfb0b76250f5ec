"""Standing services of a cluster: the very objects that ``leadline render`` writes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from leadline.deploy import pods
from leadline.deploy.cluster import Cluster, connect
from leadline.deploy.forward import Forward
from leadline.deploy.kubernetes import KubernetesTarget as PodTarget
from leadline.deploy.kubernetes import manifest_of
from leadline.deploy.log import Redact, split_lines
from leadline.deploy.objects import (
    CLAIM,
    WORKLOADS,
    find_owned,
    find_parts,
    find_service,
    find_workloads,
    owner_of,
    remove_all,
    wait_gone,
)
from leadline.deploy.process import free_port
from leadline.deploy.standing import UP, Check, Standing
from leadline.deploy.target import OnPhase, stop_shielded
from leadline.errors import DeployError
from leadline.launch import Endpoint
from leadline.render.kubernetes import ENGINE_LABEL, NAME_LABEL, Object, list_objects
from leadline.render.service import PORT, Service
from leadline.spec import KubernetesTarget

_MODEL, _SHAPE = "leadline.io/model", "leadline.io/shape"
_HALF = "it was applied half: leadline up completes it, leadline down removes it"
_NOWHERE = Path(os.devnull)
"""The cluster keeps the log."""
_SERVED_S = 120
"""Healthy since, it has that long to succeed at its readiness probe, which runs every 10 s."""
_GONE_S = 120
"""A pod may drain and end that long before its name is used anew."""


class KubernetesServices:
    """See ``Services`` for the contract; all in one namespace."""

    def __init__(self, redact: Redact = str, place: KubernetesTarget | None = None) -> None:
        self._redact = redact
        self._place = place or KubernetesTarget()

    def target(self, service: Service, owner: str) -> PodTarget:
        return self._target(service, owner, {_MODEL: service.served_model})

    async def remove_owned(self, owner: str) -> list[str]:
        async with self._open() as (cluster, namespace):
            left = await find_owned(cluster, namespace, owner)
            names = [item["metadata"]["name"] for item in left if item["kind"] in WORKLOADS]
            await remove_all(cluster, left)
            await wait_gone(cluster, namespace, names, _GONE_S)
            return names or sorted({item["metadata"]["name"] for item in left})

    def services(self) -> list[Standing]:
        return asyncio.run(self._list())

    @asynccontextmanager
    async def reach(self, standing: Standing) -> AsyncIterator[str | None]:
        async with self._open() as (cluster, namespace):
            if cluster.inside:
                yield standing.url
                return
            pod = await _find_pod(cluster, namespace, standing.name)
            forward, port = Forward(cluster, PORT, lambda: pod), free_port()
            await forward.open(port)
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                await forward.close()

    async def up(self, service: Service, port: int, on_phase: OnPhase, check: Check) -> Endpoint:
        target = self._target(service, UP, {_MODEL: service.served_model, _SHAPE: _shape(service)})
        launch, limit_s = service.launch(port), service.start_limit_s
        stands = await self._stands(service)
        start = target.adopt if stands else target.start
        if stands:
            on_phase("it is up already")
        try:
            endpoint = await start(launch, _NOWHERE, limit_s, on_phase)
            await check(endpoint)
            await target.wait_served(_SERVED_S, on_phase)
            target.keep()
        finally:
            await stop_shielded(target)  # after ``keep`` there is nothing to stop
        async with self._open() as (_, namespace):
            return Endpoint(_address(service.name, namespace), endpoint.model)

    def log(
        self, name: str, *, follow: bool = False, lines: int = 0, previous: bool = False
    ) -> Iterator[bytes]:
        """A loop of its own, for whoever asks has none."""
        with asyncio.Runner() as runner:
            reading = self._read_log(name, follow=follow, lines=lines, previous=previous)
            try:
                while (line := runner.run(anext(reading, None))) is not None:
                    yield line
            finally:
                runner.run(reading.aclose())

    def down(self, name: str, *, volumes: bool) -> list[str]:
        return asyncio.run(self._remove(name, claims=volumes))

    def _target(self, service: Service, owner: str, notes: dict[str, str]) -> PodTarget:
        return PodTarget(
            manifest_of(service),
            self._redact,
            context=self._place.context,
            namespace=self._place.namespace,
            owner=owner,
            notes=notes,
            place_limit_s=service.place_limit_s,
        )

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[tuple[Cluster, str]]:
        cluster = await connect(self._place.context)
        try:
            yield cluster, self._place.namespace or cluster.namespace
        finally:
            await cluster.close()

    async def _list(self) -> list[Standing]:
        async with self._open() as (cluster, namespace):
            parts = await find_parts(cluster, namespace)
            return [
                _describe(name, items[0], await _find_pod(cluster, namespace, name))
                for name, items in parts.items()
            ]

    async def _stands(self, service: Service) -> bool:
        """Whether this very service is up. ``DeployError`` if it is with other settings."""
        async with self._open() as (cluster, namespace):
            found = [
                item
                for item in await find_workloads(cluster, namespace)
                if item["metadata"]["name"] == service.name and owner_of(item) == UP
            ]
        if not found:
            return False
        if found[0]["metadata"].get("annotations", {}).get(_SHAPE) != _shape(service):
            raise DeployError(
                "it is up with other settings or another image",
                where=service.name,
                cure=f"leadline down {service.name} --target kubernetes, then leadline up again",
            )
        return True

    async def _read_log(
        self, name: str, *, follow: bool, lines: int, previous: bool
    ) -> AsyncGenerator[bytes]:
        async with self._open() as (cluster, namespace):
            pod = await _find_pod(cluster, namespace, name)
            if pod is None:
                return
            begun = pods.has_begun(pod) or not pods.has_begun(pod, pods.DOWNLOAD)
            container = pods.SERVER if begun else pods.DOWNLOAD
            if previous and not pods.container_status(pod, container).get("restartCount"):
                raise DeployError("its container was never started anew", where=name)
            pieces = cluster.read_log(
                pod, container, previous=previous, follow=follow and not previous, lines=lines
            )
            async with aclosing(pieces), aclosing(split_lines(pieces)) as found:
                async for line in found:
                    yield line

    async def _remove(self, name: str, *, claims: bool) -> list[str]:
        async with self._open() as (cluster, namespace):
            found = await find_service(cluster, namespace, name)
            await remove_all(cluster, found, claims=claims)
            await wait_gone(cluster, namespace, [name], _GONE_S)
        kept = "removed" if claims else "kept"
        held = sorted(item["metadata"]["name"] for item in found if item["kind"] == CLAIM)
        return [f"{name}: gone", *(f"claim {claim}: {kept}" for claim in held)]


async def _find_pod(cluster: Cluster, namespace: str, name: str) -> Object | None:
    return pods.pick_server(await cluster.find("Pod", namespace, f"{NAME_LABEL}={name}"))


def _describe(name: str, part: Object, pod: Object | None) -> Standing:
    """By its workload, or by any part of one that was never wholly applied."""
    metadata = part["metadata"]
    status = pods.container_status(pod or {})
    ended = pods.first_end(pod or {})
    return Standing(
        name=name,
        owner=owner_of(part),
        state=_state(pod, status) if part["kind"] in WORKLOADS else "incomplete",
        url=_address(name, metadata["namespace"]),
        image=status.get("image", ""),
        engine=metadata.get("labels", {}).get(ENGINE_LABEL, ""),
        model=metadata.get("annotations", {}).get(_MODEL, ""),
        restarts=int(status.get("restartCount", 0)),
        exit_status=pods.exit_words(ended) if ended else None,
        out_of_memory=bool(ended and ended.get("reason") == "OOMKilled"),
        started=(pod or {}).get("status", {}).get("startTime", ""),
        waits=_waits(pod) if part["kind"] in WORKLOADS else _HALF,
    )


def _state(pod: Object | None, status: Object) -> str:
    """As ``kubectl get pods`` shows it, but that a container which runs is ``running``."""
    state: dict[str, Any] = status.get("state", {})
    if pod is None:
        return "no pod"
    if "running" in state:
        return "running"
    detail: dict[str, Any] = state.get("waiting") or state.get("terminated") or {}
    return str(detail.get("reason") or pod["status"].get("phase"))


def _waits(pod: Object | None) -> str:
    if pod is None:
        return "the cluster has made no pod yet"
    lines = pods.waiting_lines(pod)
    return pods.phase_of(pod, ()) or (lines[0].removeprefix(pods.SIGN) if lines else "")


def _address(name: str, namespace: str) -> str:
    return f"http://{name}.{namespace}.svc"


def _shape(service: Service) -> str:
    """A digest of all objects but the secrets."""
    objects = [item for item, _ in list_objects(service, "")]
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()[:16]
