"""The process target: an engine as a child of ours, on 127.0.0.1, gone when we are gone."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import psutil

from leadline.deploy.env_file import key_headers
from leadline.deploy.health import is_healthy
from leadline.deploy.leftovers import OWNER
from leadline.deploy.log import LINE_BYTES, TAIL_LINES, Redact, ServerLog
from leadline.deploy.ports import word_holder
from leadline.deploy.shared_memory import mapped_segments, unlink_unused
from leadline.deploy.target import OnPhase, StartError
from leadline.deploy.workers import Workers, is_alive, word_exit
from leadline.errors import DeployError
from leadline.launch import Endpoint, Launch

_POLL_S = 0.1
_HEALTH_S = 30.0
_STOP_S = 10.0
_DRAIN_S = 2.0
_LOOK_S = 1.0
_LAST_WORDS_S = 10.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ProcessTarget:
    """Runs one server; see ``Target`` for the contract."""

    def __init__(self, redact: Redact = str, owner: str = "") -> None:
        self._redact = redact
        self._owner = owner
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None
        self._log: ServerLog | None = None
        self._segments: set[Path] = set()
        self._workers: Workers | None = None
        self._lost: str | None = None
        self._looked_s = 0.0
        self._stopped = False

    async def start(
        self, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
    ) -> Endpoint:
        _refuse_occupied(launch)
        process = await self._begin(launch, log, on_phase)
        self._workers = Workers(process.pid, launch.worker_title)
        await self._wait_ready(launch, timeout_s)
        self._workers.look()
        pids = _pids(process.pid, _family(process.pid))
        self._segments |= mapped_segments(pids)
        return Endpoint(launch.base_url, launch.served_model, key_headers(launch))

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the place where it runs, once it is up."""
        return {"shared_memory": sorted(map(str, self._segments))} if self._segments else {}

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def exit_status(self) -> str | None:
        code = self._process.returncode if self._process else None
        if code is None and self._workers and not self._lost:
            self._lost = self._workers.lost()
        if self._lost or code is None:
            return self._lost
        return word_exit(code)

    async def exited(self, within_s: float) -> str | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._process and not self.exit_status():  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        return self.exit_status()

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        return self._log.tail(lines) if self._log else ()

    async def stop(self) -> None:
        if self._process is None or self._stopped:
            return
        self._workers = None  # from now on they are meant to end
        family = _family(self._process.pid)
        self._segments |= mapped_segments(_pids(self._process.pid, family))
        _signal_group(self._process.pid, signal.SIGTERM)
        await self._wait_ended(_STOP_S)
        # Also after a clean exit: a worker that outlives its server would keep its memory.
        _signal_group(self._process.pid, signal.SIGKILL)
        for process in family:
            if process.is_running():
                process.kill()
        await self._wait_ended(_STOP_S)
        await _wait_gone(family)
        unlink_unused(self._segments, set(_pids(self._process.pid, family)))
        await self._drain_log()
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
        if self._pump:
            await asyncio.wait({self._pump})
        self._stopped = True

    async def _begin(
        self, launch: Launch, log: Path, on_phase: OnPhase
    ) -> asyncio.subprocess.Process:
        self._process = await _spawn(launch, self._owner)
        self._log = ServerLog(launch, log, self._redact, on_phase)
        self._pump = asyncio.create_task(self._copy_log(self._log))
        return self._process

    async def _copy_log(self, log: ServerLog) -> None:
        assert self._process  # noqa: S101
        assert self._process.stdout  # noqa: S101
        with closing(log):
            async for line in _read_lines(self._process.stdout):
                log.take(line)
                self._heed(line)

    def _heed(self, line: bytes) -> None:
        """For those who read more than a log from what it prints."""

    async def _wait_ready(self, launch: Launch, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as session:
                while not await is_healthy(session, launch):
                    await self._look_after()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise self._start_error(f"not ready within {timeout_s:g} s", "timeout") from None

    async def _look_after(self) -> None:
        """``StartError`` once the server, or one of its workers, has ended."""
        if self._workers and monotonic() > self._looked_s + _LOOK_S:
            self._looked_s = monotonic()
            self._workers.look()
        if status := self.exit_status():
            await self._wait_ended(_LAST_WORDS_S)  # of a server that notices
            await self._drain_log()
            raise self._start_error(f"the server ended: {status}", "exited")

    async def _wait_ended(self, within_s: float) -> None:
        # Not Process.wait: it also waits for whoever else holds the pipe of the log.
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._process and self._process.returncode is None:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)

    async def _drain_log(self) -> None:
        """The last words of a dead server are still in the pipe."""
        if self._pump:
            await asyncio.wait({self._pump}, timeout=_DRAIN_S)

    def _start_error(self, what: str, cause: str) -> StartError:
        # A cause can stand far above the last line: several processes print their traces.
        log = self.log_tail(TAIL_LINES)
        return StartError(what, cause=cause, log_tail=log, exit_status=self.exit_status())


def free_port() -> int:
    """A port that was free on 127.0.0.1 a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _refuse_occupied(launch: Launch) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((launch.host, launch.port))
        except OSError as error:
            raise StartError(
                f"port {launch.port} of {launch.host} cannot be used: {error.strerror}",
                cause="port_in_use",
                log_tail=(
                    f"bind {launch.host}:{launch.port}: {error.strerror}",
                    *word_holder(launch.port),
                ),
            ) from None


async def _spawn(launch: Launch, owner: str) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *launch.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **launch.env, OWNER: owner},
            start_new_session=True,
            preexec_fn=partial(_die_with_parent, os.getpid()),
        )
    except OSError as error:
        raise DeployError(
            f"cannot be started: {error.strerror}",
            where=launch.argv[0],
            cure="install the engine, or correct the path",
        ) from error


def _die_with_parent(parent: int) -> None:
    """Have the kernel end the server when Leadline itself is killed, be it at this moment."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


async def _read_lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines with their ends, as they come; each redrawing of a progress bar is one."""
    rest = b""
    while chunk := await stream.read(LINE_BYTES):
        *lines, rest = re.split(rb"(?<=[\r\n])", rest + chunk)
        for line in lines:
            yield line
        if len(rest) >= LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _family(pid: int) -> list[psutil.Process]:
    """The server's children, and whoever else is of its session: orphans of a killed one."""
    found = []
    with suppress(psutil.Error):
        found = psutil.Process(pid).children(recursive=True)
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == pid and process.pid != pid and process not in found:
                found.append(process)
    return found


def _pids(pid: int, family: list[psutil.Process]) -> list[int]:
    return [pid, *(process.pid for process in family)]


async def _wait_gone(processes: list[psutil.Process]) -> None:
    """Killed is not yet gone: until then they hold memory that the next server may need."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOP_S):
            while any(is_alive(process) for process in processes):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
