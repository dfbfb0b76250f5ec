"""A Docker engine of the tests' own, and an image that holds nothing but this machine's folders.

Needs Debian's docker.io and iptables, and root; ``make containers`` installs them. Where the
machine may not give a container what it asks for (no CAP_SYS_RESOURCE), ``runtime.py`` stands
between the engine and runc.
"""

from __future__ import annotations

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
from contextlib import suppress
from pathlib import Path

import docker

HERE = Path(__file__).parent
STATE = Path(os.environ.get("LEADLINE_TEST_DOCKER", "/var/lib/leadline-test-docker"))
SOCKET = f"unix://{STATE}/docker.sock"
IMAGE = "leadline-test:1"
LABEL = "io.leadline.test"
_START_S = 60


def start_daemon() -> str:
    """Where the engine listens; started unless it runs already. Raises ``RuntimeError``."""
    if not _answers():
        _spawn()
        deadline = time.monotonic() + _START_S
        while not _answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start: {(STATE / 'dockerd.log').read_text()}")
            time.sleep(0.2)
    return SOCKET


def stop_daemon() -> None:
    """End the engine that ``start_daemon`` started, by its own pid file."""
    pid = STATE / "dockerd.pid"
    if pid.is_file():
        with suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGTERM)


def is_installed() -> bool:
    return shutil.which("dockerd", path="/usr/sbin:/usr/bin") is not None and os.geteuid() == 0


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


def _spawn() -> None:
    """A hook that does nothing makes the engine accept ``--gpus``, as where there are some."""
    _forget_the_dead()
    programs = STATE / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    hook = programs / "nvidia-container-runtime-hook"
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    runtime = programs / "runtime"
    runtime.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "runtime.py"} "$@"\n')
    runtime.chmod(0o755)
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
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        )


def _forget_the_dead() -> None:
    """A daemon that was killed leaves its pid file, and with it none would start.

    One whose parent has not heard of its end yet is dead too.
    """
    pid = STATE / "dockerd.pid"
    if pid.is_file() and not _lives(int(pid.read_text())):
        pid.unlink()


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


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
    stop_daemon()
