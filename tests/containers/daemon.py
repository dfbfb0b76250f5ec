"""A Docker engine of the tests' own, and an image that holds nothing but this machine's folders.

Needs Debian's docker.io and iptables, and root; ``make containers`` installs them. Where the
machine may not give a container what it asks for (no CAP_SYS_RESOURCE), ``runtime.py`` stands
between the engine and runc.
"""

from __future__ import annotations

import atexit
import fcntl
import io
import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

import docker
from tests.containers.network import keep_settings, restore_settings

HERE = Path(__file__).parent
STATE = Path(os.environ.get("LEADLINE_TEST_DOCKER", "/var/lib/leadline-test-docker"))
SOCKET = f"unix://{STATE}/docker.sock"
IMAGE = "leadline-test:1"
LABEL = "io.leadline.test"
_PATIENCE_S = 60
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def start_daemon() -> str:
    """Where the engine listens as long as this process lives; started unless it runs already.

    Raises ``RuntimeError``.
    """
    STATE.mkdir(parents=True, exist_ok=True)
    with _locked("lock", fcntl.LOCK_EX):  # several suites may want it at once
        if not _uses:
            _uses.append(_lock("users", fcntl.LOCK_SH))
            atexit.register(leave_daemon)
        if not _answers():
            _wait_gone()
            keep_settings(STATE / "network.json")
            _spawn()
    return SOCKET


def leave_daemon() -> None:
    """The last that uses the engine ends it; what it keeps on disk stays for the next time."""
    while _uses:
        _uses.pop().close()
    alone = fcntl.LOCK_EX | fcntl.LOCK_NB
    with suppress(BlockingIOError), _locked("lock", fcntl.LOCK_EX), _locked("users", alone):
        _stop()


def _stop() -> None:
    if pid := _running():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _wait_gone()
    restore_settings(STATE / "network.json")


_uses: list[IO[str]] = []
"""The lock that this process holds while it uses the engine."""


@contextmanager
def _locked(name: str, how: int) -> Iterator[None]:
    with closing(_lock(name, how)):
        yield


def _lock(name: str, how: int) -> IO[str]:
    file = (STATE / name).open("w")
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        file.close()
        raise
    return file


def is_installed() -> bool:
    return shutil.which("dockerd", path=_PATH) is not None and os.geteuid() == 0


def make_image(client: docker.DockerClient) -> str:
    """Folders and links only: what runs in it is mounted from this machine, see ``mounts``."""
    if IMAGE not in {tag for image in client.images.list() for tag in image.tags}:
        repository, _, tag = IMAGE.partition(":")
        client.api.import_image_from_data(_root_tar(), repository=repository, tag=tag)
    return IMAGE


def mounts() -> list[str]:
    """The machine's programs and the Python of the tests with its packages, all read-only."""
    folders = {"/usr", sys.base_prefix, sys.prefix, *site.getsitepackages()}
    folders.add(str(HERE.parents[1]))
    whole = [f for f in folders if not any(f != o and f.startswith(f"{o}/") for o in folders)]
    return sorted(f"{folder}:{folder}:ro" for folder in whole)


def _answers() -> bool:
    """Asked without the SDK, which leaves its socket open when nobody answers."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(5)
        try:
            asking.connect(f"{STATE}/docker.sock")
            asking.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in asking.recv(100)
        except OSError:
            return False


def _running() -> int | None:
    """The pid of our engine, by its pid file: the number may be another program's by now.

    One that has ended and waits for its parent has no command line left.
    """
    with suppress(OSError, ValueError):
        pid = int((STATE / "dockerd.pid").read_text())
        if f"--pidfile={STATE}/dockerd.pid" in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    return None


def _wait_gone() -> None:
    """An engine that is ending no longer answers, and holds its folder until it has ended."""
    _wait(lambda: _running() is None, "end")
    (STATE / "dockerd.pid").unlink(missing_ok=True)


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"dockerd did not {what}: {(STATE / 'dockerd.log').read_text()}")
        time.sleep(0.1)


def _spawn() -> None:
    """The programs are copies: the engine outlives the checkout that started it."""
    programs = STATE / "bin"
    programs.mkdir(exist_ok=True)
    # A hook that does nothing makes the engine accept ``--gpus``, as where there are some.
    _write_program(programs / "nvidia-container-runtime-hook", "exit 0")
    softener = shutil.copy(HERE / "runtime.py", programs)
    python = os.path.realpath(sys.executable)
    runtime = _write_program(
        programs / "runtime",
        'case " $* " in *" create "*|*" run "*|*" exec "*)\n'
        f'  exec {python} -I -S {softener} "$@";;\nesac\n'
        'exec runc "$@"',
    )
    command = [
        "/usr/sbin/dockerd",
        f"--data-root={STATE}/data",
        f"--exec-root={STATE}/exec",
        f"--pidfile={STATE}/dockerd.pid",
        f"--host={SOCKET}",
        f"--add-runtime=wrapped={runtime}",
        "--default-runtime=wrapped",
    ]
    with (STATE / "dockerd.log").open("w") as log:
        # Nobody's child: a test ends all of its own.
        subprocess.run(
            ["/usr/bin/setsid", "--fork", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": f"{programs}:{_PATH}"},
            check=True,
        )
    _wait(_answers, "start")


def _write_program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def _root_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("tmp", "etc", "root", "proc", "sys", "dev", "var", "usr", "sbin"):
            tar.addfile(_entry(name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755))
        for name in ("bin", "lib", "lib64"):
            link = _entry(name, tarfile.SYMTYPE)
            link.linkname = f"usr/{name}"
            tar.addfile(link)
        for name, text in _FILES.items():
            entry = _entry(name, tarfile.REGTYPE)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def _entry(name: str, kind: bytes, mode: int = 0o755) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = mode
    return entry


if __name__ == "__main__":
    STATE.mkdir(parents=True, exist_ok=True)
    leave_daemon()
