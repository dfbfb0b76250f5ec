"""Where the contract's servers run: each place makes targets and launches of one kind."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from tests.cluster import cluster as test_cluster
from tests.containers.daemon import IMAGE, is_installed, make_image, mounts, start_daemon

from leadline.deploy import docker as docker_target
from leadline.deploy import kubernetes
from leadline.deploy.docker import DockerTarget
from leadline.deploy.kubernetes import KubernetesTarget
from leadline.deploy.process import ProcessTarget, free_port
from leadline.launch import Container, Launch, Volume
from leadline.plan.schema import Seconds
from leadline.render.docker import require_container
from leadline.render.kubernetes import Object, list_objects
from leadline.render.service import Cache, Service

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
    return child
"""
PHASES = (("loading model", "loading the weights"), ("model loaded", "starting to listen"))


class ProcessPlace:
    name = "process"

    def close(self) -> None:
        """Nothing of it is left: a test ends its children."""

    def target(self, redact: Callable[[str], str] = str) -> ProcessTarget:
        return ProcessTarget(redact)

    def kill(self, target: ProcessTarget, _: Launch) -> None:
        """As somebody from outside would, or the kernel."""
        assert target.pid
        os.kill(target.pid, signal.SIGKILL)

    def launch(self, script: str, **changes: Any) -> Launch:
        port = changes.pop("port", None) or free_port()
        argv = (sys.executable, "-I", "-S", "-c", SERVER + script, str(port), "127.0.0.1")
        return Launch(argv=argv, port=port, served_model="tiny", phases=PHASES, **changes)


class DockerPlace:
    """Containers of the tests' own engine, named so that no two tests meet."""

    name = "docker"

    def close(self) -> None:
        """Each test removes its own container."""

    def kill(self, _: object, launch: Launch) -> None:
        kill_container({"name": f"^/{require_container(launch).name}$"})

    def target(self, redact: Callable[[str], str] = str) -> DockerTarget:
        return DockerTarget(redact, owner="leadline-tests")

    def hold_log_back(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        """As a busy machine does: what a server says comes later than what it answers."""
        copy_log = docker_target._copy_log

        def copy_late(*what: Any) -> None:
            time.sleep(seconds)
            copy_log(*what)

        monkeypatch.setattr(docker_target, "_copy_log", copy_late)

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


class KubernetesPlace(DockerPlace):
    """Pods of the tests' own cluster, in a namespace of their own."""

    name = "kubernetes"

    def __init__(self) -> None:
        self.namespace = f"leadline-test-{uuid4().hex[:12]}"

    def close(self) -> None:
        test_cluster.delete(f"/api/v1/namespaces/{self.namespace}")

    def kill(self, _: object, launch: Launch) -> None:
        """Of the pod the server alone."""
        namespace = f"io.kubernetes.pod.namespace={self.namespace}"
        kill_container({"label": [namespace, "io.kubernetes.container.name=server"]})

    def hold_log_back(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        copy_log = kubernetes._copy_log

        async def copy_late(*what: Any) -> None:
            await asyncio.sleep(seconds)
            await copy_log(*what)

        monkeypatch.setattr(kubernetes, "_copy_log", copy_late)

    def target(self, redact: Callable[[str], str] = str, **changes: Any) -> KubernetesTarget:
        given = {"manifest": make_pod, "namespace": self.namespace, **changes}
        return KubernetesTarget(redact=redact, **given)


def kill_container(filters: dict[str, Any]) -> None:
    import docker

    with closing(docker.from_env()) as client:
        (found,) = client.containers.list(filters=filters)
        found.kill()


def make_pod(launch: Launch, namespace: str) -> list[Object]:
    """What ``render`` writes, as far as this old cluster and the tests' image can take it."""
    objects = [item for item, _ in list_objects(describe(launch), namespace)]
    workload = next(item for item in objects if item["kind"] == "Deployment")
    pod = workload["spec"]["template"]["spec"]
    # Docker's --init: what is not the first process of its container ends at SIGTERM.
    pod["shareProcessNamespace"] = True
    # There is no hub to download from.
    del pod["initContainers"]
    server = pod["containers"][0]
    for part in server["resources"].values():
        part.pop("cpu", None)
        part["memory"] = "64Mi"
    server["resources"]["limits"]["memory"] = f"{_memory(launch)}Mi"
    # No requests come after the tests' own, and the tests' server lists no models.
    del server["lifecycle"]
    if "llamacpp_server" not in " ".join(launch.argv):
        del server["readinessProbe"], server["startupProbe"]
    for volume in require_container(launch).volumes:
        name = f"v{len(pod['volumes'])}"
        pod["volumes"].append({"name": name, "hostPath": {"path": volume.source}})
        server["volumeMounts"].append({"name": name, "mountPath": volume.path, "readOnly": True})
    return objects


def _memory(launch: Launch) -> int:
    return (require_container(launch).memory_bytes or 2**29) >> 20


def describe(launch: Launch) -> Service:
    container = require_container(launch)
    return Service(
        name=container.name,
        engine="vllm",
        version="0.12.0",
        model="tiny",
        served_model=launch.served_model,
        image=container.image,
        program=container.entrypoint,
        arguments=launch.arguments,
        settings={},
        env={"HF_HOME": "/tmp", **launch.env},
        own_env={},
        secrets=container.secrets,
        devices=container.devices,
        shm_bytes=container.shm_bytes,
        host_bytes=2**30,
        caches=(Cache("weights", "/weights", 2**30, "it is kept"),),
        start=Seconds(low=1, expected=5, high=30, floor=1, kind="prior", source="the tests"),
        input_tokens=1000,
        output_tokens=10,
        request_s=container.stop_s,
        stop_limit_s=container.stop_s,
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
    if name == "docker":
        return DockerPlace()
    if not test_cluster.is_built():
        raise LookupError("the test cluster is not built: make test-cluster")
    if not test_cluster.is_up():
        atexit.register(test_cluster.down)
    os.environ["KUBECONFIG"] = str(test_cluster.up())
    return KubernetesPlace()
