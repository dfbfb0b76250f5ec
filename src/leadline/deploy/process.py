"""The process target: an engine as a child of ours, on 127.0.0.1, gone when we are gone."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import psutil

from leadline.deploy.target import OnPhase, StartError
from leadline.errors import DeployError
from leadline.launch import Endpoint, Launch

_POLL_S = 0.1
_HEALTH_S = 30.0
_STOP_S = 10.0
_DRAIN_S = 2.0
_OK = 200
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Longest line kept; an engine that prints a whole prompt must not fill the disk.
_LINE_BYTES = 64 * 1024
# A bar of tqdm, as Python engines draw it: 5/50 [00:10<01:30, 2.00s/it].
_BAR = re.compile(r"\b(?P<done>\d+)/(?P<of>\d+) \[[\d:]+<(?P<left>[\d:]+|\?)")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux shows it
_SHARED_INODE = re.compile(r" (\d+) +/dev/shm/")

Redact = Callable[[str], str]


class ProcessTarget:
    """Runs one server; see ``Target`` for the contract."""

    def __init__(self, redact: Redact = str) -> None:
        self._redact = redact
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None
        self._tail: deque[str] = deque(maxlen=400)
        self._phase = ""
        self._segments: set[Path] = set()
        self._stopped = False

    async def start(
        self, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
    ) -> Endpoint:
        _refuse_occupied(launch)
        self._process = await _spawn(launch)
        self._pump = asyncio.create_task(self._copy_log(launch, log, on_phase))
        await self._wait_ready(launch, timeout_s)
        self._segments |= _shared_segments(
            [*_family(self._process.pid), *_itself(self._process.pid)]
        )
        return Endpoint(url=launch.base_url, model=launch.served_model)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def exit_status(self) -> str | None:
        code = self._process.returncode if self._process else None
        if code is None:
            return None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def exited(self, within_s: float) -> str | None:
        # Not Process.wait: it also waits for whoever else holds the pipe of the log.
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._process and self._process.returncode is None:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        return self.exit_status()

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        return tuple(self._tail)[-lines:]

    async def stop(self) -> None:
        if self._process is None or self._stopped:
            return
        family = _family(self._process.pid)
        self._segments |= _shared_segments(
            [*_family(self._process.pid), *_itself(self._process.pid)]
        )
        _signal_group(self._process.pid, signal.SIGTERM)
        await self.exited(_STOP_S)
        # Also after a clean exit: a worker that outlives its server would keep its memory.
        _signal_group(self._process.pid, signal.SIGKILL)
        for process in family:
            if process.is_running():
                process.kill()
        await self.exited(_STOP_S)
        await _wait_gone(family)
        _unlink_unused(self._segments)
        await self._drain_log()
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
        if self._pump:
            await asyncio.wait({self._pump})
        self._stopped = True

    async def _copy_log(self, launch: Launch, log: Path, on_phase: OnPhase) -> None:
        assert self._process  # noqa: S101
        assert self._process.stdout  # noqa: S101
        with log.open("a", encoding="utf-8") as file:
            async for line in _read_lines(self._process.stdout):
                text = self._redact(line.decode(errors="replace"))
                file.write(text)
                file.flush()
                if text.strip():
                    self._tail.append(text.rstrip("\r\n"))
                    self._note_phase(text, launch, on_phase)

    def _note_phase(self, line: str, launch: Launch, on_phase: OnPhase) -> None:
        doing = next((phase for text, phase in launch.phases if text in line), None)
        if doing is None:
            return
        shown = doing + _word_bar(line)
        if shown != self._phase:
            self._phase = shown
            on_phase(shown)

    async def _wait_ready(self, launch: Launch, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as session:
                while not await _healthy(session, launch):
                    if self._process and self._process.returncode is not None:
                        await self._drain_log()
                        raise self._start_error(f"the server ended: {self.exit_status()}", "exited")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise self._start_error(f"not ready within {timeout_s:g} s", "timeout") from None

    async def _drain_log(self) -> None:
        """The last words of a dead server are still in the pipe."""
        if self._pump:
            await asyncio.wait({self._pump}, timeout=_DRAIN_S)

    def _start_error(self, what: str, cause: str) -> StartError:
        return StartError(
            what, cause=cause, log_tail=self.log_tail(), exit_status=self.exit_status()
        )


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
                log_tail=(f"bind {launch.host}:{launch.port}: {error.strerror}", *_holder(launch)),
            ) from None


def _holder(launch: Launch) -> tuple[str, ...]:
    """Which process listens on the port, where we may know."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            port = getattr(connection.laddr, "port", None)
            listens = connection.status == psutil.CONN_LISTEN and port == launch.port
            if listens and connection.pid:
                return (f"held by pid {connection.pid} ({psutil.Process(connection.pid).name()})",)
    return ()


async def _spawn(launch: Launch) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *launch.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **launch.env},
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    except OSError as error:
        raise DeployError(
            f"cannot be started: {error.strerror}",
            where=launch.argv[0],
            cure="install the engine, or correct the path",
        ) from error


def _die_with_parent() -> None:
    """Have the kernel end the server when Leadline itself is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _read_lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines with their ends, as they come; each redrawing of a progress bar is one."""
    rest = b""
    while chunk := await stream.read(_LINE_BYTES):
        *lines, rest = re.split(rb"(?<=[\r\n])", rest + chunk)
        for line in lines:
            yield line
        if len(rest) >= _LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


async def _healthy(session: aiohttp.ClientSession, launch: Launch) -> bool:
    try:
        async with (
            # Before it listens it refuses at once; an engine whose health check generates a token
            # may need long on a busy machine.
            asyncio.timeout(_HEALTH_S),
            session.get(launch.base_url + launch.health_path) as response,
        ):
            return response.status == _OK
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _word_bar(line: str) -> str:
    """``: 5 of 50, 01:30 left``, by the engine's own estimate."""
    bars = list(_BAR.finditer(line))
    if not bars:
        return ""
    done, of, left = bars[-1].group("done", "of", "left")
    return f": {done} of {of}" + (f", {left} left" if left not in ("?", "00:00") else "")


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


def _itself(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [psutil.Process(pid)]
    return []


def _shared_segments(processes: list[psutil.Process]) -> set[Path]:
    """Files of shared memory that these processes have mapped.

    By inode: the C library maps a semaphore under a name that it removes, and links it to another.
    """
    inodes: set[int] = set()
    for process in processes:
        with suppress(OSError):
            maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace")
            inodes |= {int(number) for number in _SHARED_INODE.findall(maps)}
    return {path for number, path in _named_segments() if number in inodes}


def _named_segments() -> list[tuple[int, Path]]:
    found = []
    for path in _SHARED_MEMORY.iterdir() if _SHARED_MEMORY.is_dir() else ():
        with suppress(OSError):  # gone meanwhile
            found.append((path.stat().st_ino, path))
    return found


def _unlink_unused(segments: set[Path]) -> None:
    """A killed engine leaves its shared memory behind; what somebody else maps too is not ours."""
    left = {path for path in segments if path.exists()}
    for path in left - _shared_segments(list(psutil.process_iter())) if left else ():
        with suppress(OSError):
            path.unlink()


async def _wait_gone(processes: list[psutil.Process]) -> None:
    """Killed is not yet gone: until then they hold memory that the next server may need."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOP_S):
            while any(_lives(process) for process in processes):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
