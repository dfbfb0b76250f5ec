"""The kubernetes target: an engine in a pod of a cluster, carried to a port of 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp

from leadline.deploy import pods
from leadline.deploy.cluster import Cluster, RefusedError, connect
from leadline.deploy.forward import Forward
from leadline.deploy.health import is_healthy
from leadline.deploy.log import Redact, ServerLog, split_lines
from leadline.deploy.objects import apply_all, remove_all
from leadline.deploy.target import OnPhase, StartError
from leadline.deploy.watch import PodWatch, UnplacedError
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
_LATE_S = 20
"""A pod may take that long beyond its grace to be gone."""
_SERVICE_PORT = 80


class KubernetesTarget:
    """Runs one server; see ``Target`` for the contract."""

    def __init__(
        self,
        manifest: Manifest,
        redact: Redact = str,
        *,
        context: str | None = None,
        namespace: str | None = None,
    ) -> None:
        self._manifest = manifest
        self._redact = redact
        self._context = context
        self._namespace = namespace
        self._cluster: Cluster | None = None
        self._watch: PodWatch | None = None
        self._forward: Forward | None = None
        self._log: ServerLog | None = None
        self._reader: asyncio.Task[None] | None = None
        self._applied: list[Object] = []
        self._grace_s = 0

    async def start(
        self, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
    ) -> Endpoint:
        self._log = ServerLog(launch, log, self._redact, on_phase)
        self._cluster = await connect(self._context)
        namespace = self._namespace or self._cluster.namespace
        name, self._grace_s = require_container(launch).name, require_container(launch).stop_s
        watch = self._watch = PodWatch(self._cluster, namespace, name)
        reached = await self._open(self._cluster, watch, launch, namespace)
        await self._apply(self._cluster, watch, launch, namespace)
        try:
            pod = await watch.wait_begun(lambda phase: on_phase(self._redact(phase)))
        except UnplacedError as reason:
            if watch.pod and reason.cause == "exited":
                await _copy_log(self._cluster, watch.pod, self._log, pods.DOWNLOAD)
            raise self._start_error(watch, reason.what, reason.cause) from reason
        self._reader = asyncio.create_task(_copy_log(self._cluster, pod, self._log))
        await self._wait_ready(watch, reached, timeout_s)
        return Endpoint(url=reached.base_url, model=launch.served_model)

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
        tail = self._log.tail(lines) if self._log else ()
        return (*tail, *self._shown(self._watch.end_lines())) if self._watch else tail

    async def stop(self) -> None:
        try:
            if self._cluster and self._watch:
                await self._end(self._cluster, self._watch)
        finally:
            await self._close()

    async def _open(
        self, cluster: Cluster, watch: PodWatch, launch: Launch, namespace: str
    ) -> Launch:
        """The launch as it is reached: a port of ours, or the service from within the cluster."""
        container = require_container(launch)
        if cluster.inside:
            return replace(launch, host=f"{container.name}.{namespace}.svc", port=_SERVICE_PORT)
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

    async def _apply(
        self, cluster: Cluster, watch: PodWatch, launch: Launch, namespace: str
    ) -> None:
        container = require_container(launch)
        objects = self._manifest(launch, namespace)
        try:
            await watch.forget_events()
            applying = apply_all(cluster, namespace, container.name, objects, container.secrets)
            async for item in applying:
                self._applied.append(item)
        except RefusedError as refused:
            line = f"{pods.SIGN}refused ({refused.status}): {refused.what}"
            error = StartError(refused.what, cause="refused", log_tail=self._shown((line,)))
            error.where, error.cure = refused.where, refused.cure
            raise error from refused

    async def _wait_ready(self, watch: PodWatch, reached: Launch, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as session:
                while not await is_healthy(session, reached):
                    await watch.look()
                    if watch.status:
                        await watch.look_at_events()
                        await self._drain_log()
                        what = f"the server ended: {watch.status}"
                        raise self._start_error(watch, what, "exited")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await watch.look_at_events()
            what = f"not ready within {timeout_s:g} s"
            raise self._start_error(watch, what, "timeout") from None

    async def _end(self, cluster: Cluster, watch: PodWatch) -> None:
        """Everything goes but the claims; then the server's own end is waited for."""
        if self._applied:
            await watch.look()
        ending = asyncio.create_task(watch.wait_end())
        try:
            await remove_all(cluster, self._applied)
            self._applied = []
            begun = watch.pod and pods.has_begun(watch.pod)
            await asyncio.wait([ending], timeout=_LATE_S + (self._grace_s if begun else 0))
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)
        await self._drain_log()

    async def _close(self) -> None:
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._forward:
            await self._forward.close()
        if self._cluster:
            await self._cluster.close()
        if self._log:
            self._log.close()
        self._cluster = self._forward = self._reader = None

    async def _drain_log(self) -> None:
        if self._reader:
            await asyncio.wait([self._reader], timeout=2)

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
