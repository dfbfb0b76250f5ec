"""The docker target: an engine in a container of ours, published on 127.0.0.1."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from leadline.deploy.health import is_healthy
from leadline.deploy.images import require_image
from leadline.deploy.log import LINE_BYTES, Redact, ServerLog
from leadline.deploy.target import OnPhase, StartError
from leadline.errors import DeployError
from leadline.launch import Endpoint, Launch
from leadline.render.docker import (
    LABEL,
    LOG_OPTIONS,
    ULIMITS,
    device_paths,
    require_container,
)

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_OWNER, _STOP_S = f"{LABEL}.owner", f"{LABEL}.stop-s"
_POLL_S = 0.2
# What a shell would call the status of a program that a signal ended.
_BY_SIGNAL = 128
_KILLED = _BY_SIGNAL + signal.SIGKILL
_CONFLICT = 409
_NO_MEMORY = "Docker says OOMKilled: the container went over its memory limit"


class DockerTarget:
    """Runs one server; see ``Target`` for the contract."""

    def __init__(self, redact: Redact = str, owner: str = "") -> None:
        self._redact = redact
        self._owner = owner
        self._client: DockerClient | None = None
        self._container: Container | None = None
        self._log: ServerLog | None = None
        self._pump: threading.Thread | None = None
        self._state: dict[str, Any] = {}

    async def start(
        self, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
    ) -> Endpoint:
        loop = asyncio.get_running_loop()

        def show(phase: str) -> None:
            loop.call_soon_threadsafe(on_phase, phase)

        self._log = ServerLog(launch, log, self._redact, show)
        client = await asyncio.to_thread(connect)
        self._client = client
        await asyncio.to_thread(self._create, client, launch, show)
        await asyncio.to_thread(self._run, launch)
        self._pump = threading.Thread(target=self._copy_log, daemon=True)
        self._pump.start()
        await self._wait_ready(launch, timeout_s)
        return Endpoint(url=launch.base_url, model=launch.served_model)

    def exit_status(self) -> str | None:
        if self._state.get("Status") != "exited":
            return None
        code = self._state["ExitCode"]
        if code <= _BY_SIGNAL:
            return f"exit code {code}"
        return f"killed by {signal.Signals(code - _BY_SIGNAL).name}"

    async def exited(self, within_s: float) -> str | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._container and not self.exit_status():
                    await asyncio.to_thread(self._look)
                    await asyncio.sleep(_POLL_S)
        return self.exit_status()

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        tail = self._log.tail(lines) if self._log else ()
        return (*tail, _NO_MEMORY) if self._state.get("OOMKilled") else tail

    async def stop(self) -> None:
        if self._container is not None:
            await asyncio.to_thread(end, self._container)
            await asyncio.to_thread(self._look)
            await self._drain_log()
            container, self._container = self._container, None
            await asyncio.to_thread(remove, container)
        if self._client:
            self._client.close()
        if self._log and not self._pump:
            self._log.close()

    def _create(self, client: DockerClient, launch: Launch, on_phase: OnPhase) -> None:
        from docker.errors import APIError

        container = require_container(launch)
        require_image(client, container.image, on_phase)
        options = container_options(launch, self._owner)
        try:
            self._container = client.containers.create(**options)
        except APIError as error:
            if error.status_code != _CONFLICT or not remove_ours(client, container.name):
                raise _explain(error, launch) from error
            self._container = client.containers.create(**options)

    def _run(self, launch: Launch) -> None:
        from docker.errors import APIError

        assert self._container  # noqa: S101
        try:
            self._container.start()
        except APIError as error:
            raise _explain(error, launch) from error

    def _copy_log(self) -> None:
        assert self._container  # noqa: S101
        assert self._log  # noqa: S101
        with closing(self._log):
            for line in _lines(self._container.logs(stream=True, follow=True)):
                self._log.take(line)

    async def _wait_ready(self, launch: Launch, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as session:
                while not await is_healthy(session, launch):
                    await asyncio.to_thread(self._look)
                    if self.exit_status():
                        await self._drain_log()
                        raise self._start_error(f"the server ended: {self.exit_status()}", "exited")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise self._start_error(f"not ready within {timeout_s:g} s", "timeout") from None

    def _look(self) -> None:
        from docker.errors import NotFound

        if self._container is None:
            return
        try:
            self._container.reload()
            self._state = self._container.attrs["State"]
        except NotFound:
            self._state = {"Status": "exited", "ExitCode": _KILLED}

    async def _drain_log(self) -> None:
        if self._pump:
            await asyncio.to_thread(self._pump.join, 2.0)

    def _start_error(self, what: str, cause: str) -> StartError:
        return StartError(
            what, cause=cause, log_tail=self.log_tail(), exit_status=self.exit_status()
        )


def connect() -> DockerClient:
    """The engine that ``docker`` itself would use. ``DeployError`` where none answers."""
    import docker
    from docker.errors import DockerException

    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        return docker.from_env()
    except DockerException as error:  # it asks the engine for its version
        if "Permission denied" in str(error):
            raise DeployError(
                "this user may not talk to Docker",
                where=where,
                cure="add the user to the group docker and log in again, or use rootless Docker",
            ) from error
        raise DeployError(
            "no Docker engine answers",
            where=where,
            cure="start it (systemctl start docker), or set DOCKER_HOST to where it listens",
        ) from error


def container_options(launch: Launch, owner: str = "") -> dict[str, Any]:
    """The same container as ``run_arguments`` describes, for the SDK; it does not restart."""
    from docker.types import DeviceRequest, LogConfig, Ulimit

    container = require_container(launch)
    gpus = container.devices.per_node if container.devices.kind == "nvidia" else 0
    return {
        "image": container.image,
        "entrypoint": list(container.entrypoint),
        "command": list(launch.arguments),
        "name": container.name,
        "labels": {LABEL: container.name, _OWNER: owner, _STOP_S: str(container.stop_s)},
        "environment": {**_secrets(container.secrets), **launch.env},
        "ports": {f"{container.port}/tcp": ("127.0.0.1", launch.port)},
        "init": True,
        "shm_size": container.shm_bytes,
        "mem_limit": container.memory_bytes,
        "ulimits": [Ulimit(name=name, soft=size, hard=size) for name, size in ULIMITS.items()],
        "log_config": LogConfig(type="json-file", config=LOG_OPTIONS),
        "volumes": [
            f"{volume.source}:{volume.path}:{'ro' if volume.read_only else 'rw'}"
            for volume in container.volumes
        ],
        "devices": [f"{path}:{path}:rwm" for path in device_paths(container.devices)],
        "device_requests": [DeviceRequest(count=gpus, capabilities=[["gpu"]])] if gpus else [],
    }


def find_ours(client: DockerClient, owner: str | None = None) -> list[Container]:
    """Containers that Leadline started, whether they run or not; those of one owner if named."""
    label = LABEL if owner is None else f"{_OWNER}={owner}"
    found: list[Container] = client.containers.list(all=True, filters={"label": label})
    return found


def remove_ours(client: DockerClient, name: str) -> bool:
    """Whether a container of that name was ours and is gone now."""
    ours = [container for container in find_ours(client) if container.name == name]
    for container in ours:
        remove(container)
    return bool(ours)


def remove(container: Container) -> None:
    """Ended gently, then taken away."""
    from docker.errors import NotFound

    end(container)
    with suppress(NotFound):
        container.remove(force=True)


def end(container: Container) -> None:
    """As gently as its own stop time-out allows."""
    from docker.errors import APIError

    with suppress(APIError):  # one that never ran cannot be stopped
        container.stop(timeout=int(container.labels.get(_STOP_S, 10)))


def _secrets(names: tuple[str, ...]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines; an endless one comes in pieces."""
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        yield from (line + b"\n" for line in lines)
        if len(rest) > LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _explain(error: Any, launch: Launch) -> DeployError:
    text = str(error.explanation or error)
    container = require_container(launch)
    if "port is already allocated" in text or "address already in use" in text:
        return StartError(
            f"port {launch.port} of 127.0.0.1 cannot be used",
            cause="port_in_use",
            log_tail=(text,),
        )
    for sign, what, cure in _REFUSALS:
        if sign in text:
            return DeployError(what, where=container.name, cure=cure)
    return DeployError(
        f"Docker refused the container: {text}", where=container.name, cure="see its message"
    )


_REFUSALS = (
    (
        "could not select device driver",
        "Docker has no driver for GPUs",
        "install the NVIDIA container toolkit and restart Docker (nvidia-ctk runtime configure)",
    ),
    (
        "error gathering device information",
        "a device of the container is not on this machine",
        "check that /dev/neuron* are there (neuron-ls), or plan fewer devices",
    ),
    (
        "is already in use by container",
        "a container of that name is there, and it is not ours",
        "rename it, or remove it yourself",
    ),
    (
        "executable file not found",
        "the image does not hold the program",
        "give target.executable, or another image",
    ),
    (
        "no such file or directory",
        "the image does not hold the program, or a folder to mount is missing",
        "give target.executable, or correct target.volumes",
    ),
)
