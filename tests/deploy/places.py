"""Where the contract's servers run: each place makes targets and launches of one kind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any
from uuid import uuid4

from tests.containers.daemon import IMAGE, is_installed, make_image, mounts, start_daemon

from leadline.deploy.docker import DockerTarget
from leadline.deploy.process import ProcessTarget, free_port
from leadline.launch import Container, Launch, Volume

SERVER = """
import http.server, os, signal, subprocess, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    status = 200
    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
    def log_message(self, *_): pass
def serve():
    print("loading model", flush=True)
    server = http.server.HTTPServer((sys.argv[2], int(sys.argv[1])), Handler)
    print("model loaded", flush=True)
    server.serve_forever()
def spawn(**options):
    child = subprocess.Popen(["sleep", "60"], **options)
    print("child", child.pid, flush=True)
"""
PHASES = (("loading model", "loading the weights"), ("model loaded", "starting to listen"))


class ProcessPlace:
    name = "process"

    def target(self, redact: Callable[[str], str] = str) -> ProcessTarget:
        return ProcessTarget(redact)

    def launch(self, script: str, **changes: Any) -> Launch:
        port = changes.pop("port", None) or free_port()
        argv = (sys.executable, "-I", "-S", "-c", SERVER + script, str(port), "127.0.0.1")
        return Launch(argv=argv, port=port, served_model="tiny", phases=PHASES, **changes)


class DockerPlace:
    """Containers of the tests' own engine, named so that no two tests meet."""

    name = "docker"

    def target(self, redact: Callable[[str], str] = str) -> DockerTarget:
        return DockerTarget(redact, owner="leadline-tests")

    def launch(self, script: str, **changes: Any) -> Launch:
        port = changes.pop("port", None) or free_port()
        program = os.path.realpath(sys.executable)
        argv = (program, "-I", "-S", "-c", SERVER + script, "8000", "0.0.0.0")  # noqa: S104
        container = Container(
            name=f"leadline-test-{uuid4().hex[:12]}",
            image=IMAGE,
            entrypoint=(program,),
            port=8000,
            volumes=tuple(Volume(*mount.split(":")[:2], read_only=True) for mount in mounts()),
            stop_s=5,
        )
        given = changes.pop("container", {})
        return Launch(
            argv=argv,
            port=port,
            served_model="tiny",
            phases=PHASES,
            container=replace(container, **given),
            **changes,
        )


def open_place(name: str) -> Any:
    """Raises ``LookupError`` where the machine does not have what the place needs."""
    if name == "process":
        return ProcessPlace()
    if not is_installed():
        raise LookupError("dockerd is not installed: make containers")
    os.environ["DOCKER_HOST"] = start_daemon()
    import docker

    with closing(docker.from_env()) as client:
        make_image(client)
    return DockerPlace()
