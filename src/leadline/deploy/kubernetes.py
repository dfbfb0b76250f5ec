"""The kubernetes target: an engine in a pod of a cluster, carried to a port of 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from leadline.deploy import pods
from leadline.deploy.chronicle import Chronicle
from leadline.deploy.cluster import Cluster, RefusedError, connect
from leadline.deploy.env_file import key_headers, read_secrets
from leadline.deploy.forward import Forward
from leadline.deploy.health import is_healthy
from leadline.deploy.log import Redact, ServerLog, split_lines
from leadline.deploy.objects import CLAIM, apply_all, mark, remove_all, secret_of
from leadline.deploy.target import OnPhase, StartError
from leadline.deploy.watch import PLACE_S, PodWatch, UnplacedError
from leadline.errors import DeployError
from leadline.launch import Endpoint, Launch
from leadline.render.docker import require_container
from leadline.render.kubernetes import Object, list_objects
from leadline.render.service import Service

Manifest = Callable[[Launch, str], list[Object]]
"""The objects of a launch in a namespace: those that ``render`` writes."""


def manifest_of(service: Service) -> Manifest:
    """Exactly the objects that ``leadline render`` writes."""
    return lambda _, namespace: [item for item, _ in list_objects(service, namespace)]


_POLL_S = 0.2
_LATE_S = 60
"""A server may take that long beyond its grace to be gone: a kubelet that was told of its end and
could not see to it looks at its pods again after so long (``syncFrequency``)."""
_UNBEGUN_S = 20
"""Nothing runs in a pod that has not begun, however long the node keeps the rest of it."""
_SERVICE_PORT = 80
_DOWNLOADING = (("Fetching ", "downloading the weights"),)


class KubernetesTarget:
    """Runs one server; see ``Target`` for the contract."""

    def __init__(
        self,
        manifest: Manifest,
        redact: Redact = str,
        *,
        context: str | None = None,
        namespace: str | None = None,
        owner: str = "",
        notes: Mapping[str, str] | None = None,
        place_limit_s: float = PLACE_S,
    ) -> None:
        self._manifest = manifest
        self._redact = redact
        self._context = context
        self._namespace = namespace
        self._owner = owner
        self._notes = notes or {}
        self._place_limit_s = place_limit_s
        self._cluster: Cluster | None = None
        self._watch: PodWatch | None = None
        self._forward: Forward | None = None
        self._logs: list[ServerLog] = []
        self._readers: list[asyncio.Task[None]] = []
        self._applied: list[Object] = []
        self._grace_s = 0

    async def start(
        self, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
    ) -> Endpoint:
        cluster, watch = await self._open(launch, log, on_phase)
        reached = await self._reach(cluster, watch, launch)
        await self._apply(cluster, watch, launch)
        await self._wait_begun(cluster, watch, (launch, log), on_phase)
        endpoint = await self._attend(watch, reached, timeout_s)
        await self._catch_up(cluster, watch)
        return endpoint

    async def adopt(
        self, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
    ) -> Endpoint:
        """As ``start``, of objects that were applied before."""
        cluster, watch = await self._open(launch, log, on_phase)
        reached = await self._reach(cluster, watch, launch)
        await self._wait_begun(cluster, watch, (launch, log), on_phase)
        return await self._attend(watch, reached, timeout_s)

    async def wait_served(self, within_s: float, on_phase: OnPhase) -> None:
        """Until the Service sends requests to it: the readiness probe has its own period."""
        watch = self._watch
        assert watch  # noqa: S101
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await watch.look()
                if not pods.is_ready(watch.pod or {}):
                    on_phase("waiting for the readiness probe")
                while not watch.status and not pods.is_ready(watch.pod or {}):
                    await asyncio.sleep(_POLL_S)
                    await watch.look()
                if not watch.status:
                    return
        await watch.look_at_events()
        what = watch.status or f"its readiness probe does not succeed within {within_s:g} s"
        raise self._start_error(watch, what, "exited" if watch.status else "timeout")

    def keep(self) -> None:
        """Let go of a ready server: ``stop`` leaves it as it is."""
        self._applied = []

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of the pod, for the journal."""
        pod = self._watch.pod if self._watch else None
        return pods.describe(pod) if pod else {}

    def exit_status(self) -> str | None:
        return self._watch.status if self._watch else None

    async def exited(self, within_s: float) -> str | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._cluster and self._watch and self._watch.pod and not self._watch.status:
                    await self._watch.look()
                    await asyncio.sleep(_POLL_S)
                if self._cluster and self._watch:
                    await self._watch.look_at_events()
        return self.exit_status()

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        tail = self._logs[0].tail(lines) if self._logs else ()
        return (*tail, *self._shown(self._watch.end_lines())) if self._watch else tail

    async def stop(self) -> None:
        try:
            if self._cluster and self._watch and self._applied:
                await self._end(self._cluster, self._watch)
        finally:
            await self._close()

    async def _open(self, launch: Launch, log: Path, on_phase: OnPhase) -> tuple[Cluster, PodWatch]:
        self._logs = [ServerLog(launch, log, self._redact, on_phase)]
        self._cluster = await connect(self._context)
        self._namespace = self._namespace or self._cluster.namespace
        container = require_container(launch)
        self._grace_s = container.stop_s
        chronicle = Chronicle(log, self._redact)
        self._watch = PodWatch(self._cluster, self._namespace, container.name, chronicle)
        return self._cluster, self._watch

    async def _reach(self, cluster: Cluster, watch: PodWatch, launch: Launch) -> Launch:
        """The launch as it is reached: a port of ours, or the service from within the cluster."""
        container = require_container(launch)
        if cluster.inside:
            host = f"{container.name}.{self._namespace}.svc"
            return replace(launch, host=host, port=_SERVICE_PORT)
        self._forward = Forward(cluster, container.port, lambda: watch.pod)
        try:
            await self._forward.open(launch.port)
        except OSError as error:
            raise StartError(
                f"port {launch.port} of 127.0.0.1 cannot be used",
                cause="port_in_use",
                log_tail=(str(error),),
            ) from error
        return launch

    async def _apply(self, cluster: Cluster, watch: PodWatch, launch: Launch) -> None:
        namespace = self._namespace or cluster.namespace
        try:
            await watch.forget_events()
            objects = self._objects(launch, namespace)
            watch.claims = frozenset(
                item["metadata"]["name"] for item in objects if item["kind"] == CLAIM
            )
            async for item in apply_all(cluster, namespace, objects):
                self._applied.append(item)
        except RefusedError as refused:
            line = f"{pods.SIGN}refused ({refused.status}): {refused.what}"
            error = StartError(refused.what, cause="refused", log_tail=self._shown((line,)))
            error.where, error.cure = refused.where, refused.cure
            raise error from refused

    def _objects(self, launch: Launch, namespace: str) -> list[Object]:
        """The Secret first: it stands in no file."""
        container = require_container(launch)
        values = read_secrets(container)
        secrets = [secret_of(namespace, container.name, values)] if values else []
        return mark([*secrets, *self._manifest(launch, namespace)], self._owner, self._notes)

    async def _wait_begun(
        self,
        cluster: Cluster,
        watch: PodWatch,
        place: tuple[Launch, Path],
        on_phase: OnPhase,
    ) -> None:
        launch, log = place

        def show(phase: str) -> None:
            if phase == pods.DOWNLOADING and watch.pod and len(self._logs) == 1:
                named = replace(launch, phases=_DOWNLOADING)
                path = log.with_name("download.log") if log.suffix else log
                self._logs.append(ServerLog(named, path, self._redact, on_phase))
                self._read(cluster, watch.pod, self._logs[-1], pods.DOWNLOAD)
            on_phase(self._redact(phase))

        try:
            pod = await watch.wait_begun(show, self._place_limit_s)
        except UnplacedError as reason:
            if watch.pod and reason.cause == "exited":
                await _copy_log(cluster, watch.pod, self._logs[0], pods.DOWNLOAD)
            raise self._start_error(watch, reason.what, reason.cause) from reason
        self._read(cluster, pod, self._logs[0], pods.SERVER)

    def _read(self, cluster: Cluster, pod: Object, log: ServerLog, name: str) -> None:
        self._readers.append(asyncio.create_task(_copy_log(cluster, pod, log, name)))

    async def _attend(self, watch: PodWatch, reached: Launch, timeout_s: float) -> Endpoint:
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as session:
                while not await is_healthy(session, reached):
                    await watch.look()
                    if watch.status:
                        await watch.look_at_events()
                        await self._drain_logs()
                        what = f"the server ended: {watch.status}"
                        raise self._start_error(watch, what, "exited")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await watch.look_at_events()
            what = f"not ready within {timeout_s:g} s"
            raise self._start_error(watch, what, "timeout") from None
        return Endpoint(reached.base_url, reached.served_model, key_headers(reached))

    async def _catch_up(self, cluster: Cluster, watch: PodWatch) -> None:
        assert watch.pod  # noqa: S101
        said = _join(cluster.read_log(watch.pod, pods.SERVER))
        with suppress(DeployError, aiohttp.ClientError):
            await self._logs[0].catch_up(said, self._readers[-1].done)

    async def _end(self, cluster: Cluster, watch: PodWatch) -> None:
        """Everything goes but the claims; then the server's own end is waited for."""
        await watch.look()
        ending = asyncio.create_task(watch.wait_end())
        try:
            await remove_all(cluster, self._applied)
            self._applied = []
            begun = watch.pod and pods.has_begun(watch.pod)
            await asyncio.wait([ending], timeout=self._grace_s + _LATE_S if begun else _UNBEGUN_S)
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)
        await watch.look_at_events()
        await self._drain_logs()

    async def _close(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        if self._forward:
            await self._forward.close()
        if self._cluster:
            await self._cluster.close()
        for log in self._logs:
            log.close()
        self._cluster = self._forward = None
        self._readers = []

    async def _drain_logs(self) -> None:
        if self._readers:
            await asyncio.wait(self._readers, timeout=2)

    def _start_error(self, watch: PodWatch, what: str, cause: str) -> StartError:
        told = () if cause == "exited" else self._shown(watch.waiting_lines())
        return StartError(
            self._redact(what),
            cause=cause,
            log_tail=(*self.log_tail(), *told),
            exit_status=watch.status,
        )

    def _shown(self, lines: Iterable[str]) -> tuple[str, ...]:
        return tuple(self._redact(line) for line in lines)


async def _copy_log(cluster: Cluster, pod: Object, log: ServerLog, name: str = pods.SERVER) -> None:
    """Of the container that ran first, even where another has taken its place."""
    again = pods.container_status(pod, name).get("restartCount", 0) > 0
    pieces = cluster.read_log(pod, name, previous=again, follow=not again)
    with suppress(DeployError, aiohttp.ClientError):
        async with aclosing(pieces), aclosing(split_lines(pieces)) as lines:
            async for line in lines:
                log.take(line)


async def _join(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])
