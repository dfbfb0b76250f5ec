"""An image registry of the tests' own, on 127.0.0.1: Debian's docker-registry."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.absent import leave_out

_PATIENCE_S = 20


@contextmanager
def open_registry(folder: Path, port: int) -> Iterator[str]:
    """Its name as the first part of an image's; without TLS, which Docker allows on localhost."""
    program = shutil.which("docker-registry") or leave_out("docker-registry: make docker")
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "log": {"level": "error"},
    }
    file = folder / "registry.yml"
    file.write_text(json.dumps(config))
    with subprocess.Popen(
        [program, "serve", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as serving:
        try:
            _wait_for(port)
            yield f"localhost:{port}"
        finally:
            serving.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
