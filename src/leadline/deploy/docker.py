"""The docker target: an engine in a container of ours, published on 127.0.0.1."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from leadline.deploy import containers
from leadline.deploy.env_file import key_headers
from leadline.deploy.health import is_healthy
from leadline.deploy.images import require_image
from leadline.deploy.log import LINE_BYTES, Redact, ServerLog
from leadline.deploy.refusals import SIGN, explain_refusal
from leadline.deploy.target import OnPhase, StartError
from leadline.errors import DeployError
from leadline.launch import Endpoint, Launch
from leadline.render.docker import require_container

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_POLL_S = 0.2
_LOOP = 3
"""Restarts before anyone saw it healthy: it never will be."""
# What a shell would call the status of a program that a signal ended.
_BY_SIGNAL = 128
_KILLED = _BY_SIGNAL + signal.SIGKILL
_NO_MEMORY = f"{SIGN}OOMKilled: the container went over its memory limit"


class DockerTarget:
    """Runs one server; see ``Target`` for the contract."""

    def __init__(
        self, redact: Redact = str, owner: str = "", labels: Mapping[str, str] | None = None
    ) -> None:
        self._redact = redact
        self._owner = owner
        self._labels = labels
        self._client: DockerClient | None = None
        self._container: Container | None = None
        self._log: ServerLog | None = None
        self._pump: threading.Thread | None = None
        self._state: dict[str, Any] = {}
        self._restarts = 0
        self._given_up = False
        self.image: str | None = None
        """The digest of what runs, or the id of an image that was built here."""

    async def start(
        self, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
    ) -> Endpoint:
        client, show = await self._open(launch, log, on_phase)
        await self._finish(lambda: self._create(client, launch, show))
        await self._finish(lambda: self._run(launch))
        endpoint = await self._attend(launch, timeout_s)
        await self._catch_up()
        return endpoint

    async def adopt(
        self, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
    ) -> Endpoint:
        """As ``start``, of a container that was started before."""
        client, _ = await self._open(launch, log, on_phase)
        name = require_container(launch).name
        self._container = await asyncio.to_thread(client.containers.get, name)
        return await self._attend(launch, timeout_s)

    async def keep(self) -> None:
        """Let go of a ready server: it stays, and the engine starts it again should it end."""
        if self._container:
            policy = {"Name": "unless-stopped"}
            await asyncio.to_thread(self._container.update, restart_policy=policy)
        await self.release()

    async def release(self) -> None:
        """Let go of a server that is not ours to end."""
        self._container = None
        if self._client:
            self._client.close()

    async def _finish(self, work: Callable[[], None]) -> None:
        """In a thread. A cancellation waits for its end: what it made must be known to ``stop``."""
        running = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            self._given_up = True
            while not running.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({running})
            raise

    async def _open(
        self, launch: Launch, log: Path, on_phase: OnPhase
    ) -> tuple[DockerClient, OnPhase]:
        """The engine, and a way to show phases from any thread."""
        loop = asyncio.get_running_loop()

        def show(phase: str) -> None:
            if self._given_up:
                raise DeployError("given up", where="start")  # ends a pull under way
            with suppress(RuntimeError):  # the loop has ended: nobody watches
                loop.call_soon_threadsafe(on_phase, phase)

        self._log = ServerLog(launch, log, self._redact, show)
        self._client = await asyncio.to_thread(containers.connect)
        return self._client, show

    async def _attend(self, launch: Launch, timeout_s: float) -> Endpoint:
        assert self._container  # noqa: S101
        assert self._log  # noqa: S101
        task = (self._container, self._log)
        self._pump = threading.Thread(target=_copy_log, args=task, daemon=True)
        self._pump.start()
        await self._wait_ready(launch, timeout_s)
        return Endpoint(launch.base_url, launch.served_model, key_headers(launch))

    @property
    def facts(self) -> dict[str, Any]:
        """Of the container, for the journal."""
        return {"image": self.image, "container": self._container and self._container.name}

    def exit_status(self) -> str | None:
        return word_exit(self._state)

    async def exited(self, within_s: float) -> str | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._container and not self.exit_status():
                    await asyncio.to_thread(self._look)
                    await asyncio.sleep(_POLL_S)
        return self.exit_status()

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        tail = self._log.tail(lines) if self._log else ()
        said = [_NO_MEMORY] if self._state.get("OOMKilled") else []
        if self._restarts:
            said.append(f"{SIGN}restarted {self._restarts} times; it does not stay up")
        return (*tail, *said)

    async def stop(self) -> None:
        if self._container is not None:
            await asyncio.to_thread(containers.end, self._container)
            await asyncio.to_thread(self._look)
            await self._drain_log()
            container, self._container = self._container, None
            await asyncio.to_thread(containers.remove, container)
        if self._client:
            self._client.close()
        if self._log and not self._pump:
            self._log.close()

    def _create(self, client: DockerClient, launch: Launch, on_phase: OnPhase) -> None:
        container = require_container(launch)
        self.image = require_image(client, container.image, on_phase, container.pull)
        if self._given_up:
            return
        options = containers.container_options(launch, self._owner, self._labels)
        self._container = containers.create(client, launch, options)

    def _run(self, launch: Launch) -> None:
        from docker.errors import APIError

        assert self._container  # noqa: S101
        try:
            self._container.start()
        except APIError as error:
            raise explain_refusal(error, launch) from error

    async def _wait_ready(self, launch: Launch, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as session:
                while not await is_healthy(session, launch):
                    await asyncio.to_thread(self._look)
                    if self.exit_status():
                        await self._drain_log()
                        raise self._start_error(f"the server ended: {self.exit_status()}", "exited")
                    if self._restarts >= _LOOP:
                        raise self._start_error("the server ends and is started again", "exited")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise self._start_error(f"not ready within {timeout_s:g} s", "timeout") from None

    async def _catch_up(self) -> None:
        from docker.errors import APIError

        assert self._container  # noqa: S101
        assert self._log  # noqa: S101
        assert self._pump  # noqa: S101
        pump, said = self._pump, asyncio.to_thread(self._container.logs)
        with suppress(APIError):
            await self._log.catch_up(said, lambda: not pump.is_alive())

    def _look(self) -> None:
        from docker.errors import NotFound

        if self._container is None:
            return
        try:
            self._container.reload()
            self._state = self._container.attrs["State"]
            self._restarts = self._container.attrs["RestartCount"]
        except NotFound:
            self._state = {"Status": "exited", "ExitCode": _KILLED}

    async def _drain_log(self) -> None:
        if self._pump:
            await asyncio.to_thread(self._pump.join, 2.0)

    def _start_error(self, what: str, cause: str) -> StartError:
        return StartError(
            what, cause=cause, log_tail=self.log_tail(), exit_status=self.exit_status()
        )


def _copy_log(container: Container, log: ServerLog) -> None:
    with closing(log):
        for line in split_lines(container.logs(stream=True, follow=True)):
            log.take(line)


def word_exit(state: dict[str, Any]) -> str | None:
    """How a container ended (``exit code 1``, ``killed by SIGKILL``), by ``docker inspect``."""
    if state.get("Status") != "exited":
        return None
    code = state["ExitCode"]
    if code <= _BY_SIGNAL or code - _BY_SIGNAL not in signal.valid_signals():
        return f"exit code {code}"
    return f"killed by {signal.Signals(code - _BY_SIGNAL).name}"


def split_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines with their ends; each redrawing of a bar is one, an endless line comes in pieces."""
    rest = b""
    for chunk in chunks:
        *lines, rest = re.split(rb"(?<=[\r\n])", rest + chunk)
        yield from lines
        if len(rest) > LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest
