"""Docker and Kubernetes: do they answer, can they give devices, what of ours is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from leadline.deploy.containers import connect, find_ours
from leadline.deploy.target import StartError
from leadline.preflight.check import Check, Needs, State, lacking
from leadline.units import GIB, show_bytes

_IMAGE_BYTES = 40 * GIB
"""An engine's image for GPUs, its layers and itself."""
_QUESTION_S = 20


def check_docker(needs: Needs) -> Iterator[Check]:
    needed = "docker" in needs.targets
    try:
        client = connect()
    except StartError as error:
        yield Check(
            "Docker", lacking(needed), f"{error.where}: {error.what}", error.cure if needed else ""
        )
        return
    with closing(client):
        info = client.info()
        yield Check("Docker", "ok", f"{info['ServerVersion']} at {client.api.base_url}")
        yield _gpu_runtime(info, needs.gpus if needed else 0)
        yield _image_disk(info, needed=needed)
        yield from (_image(client, name) for name in needs.images)
        left = sorted(str(container.name) for container in find_ours(client))
        if left:
            yield Check("services up", "ok", ", ".join(left))


def _gpu_runtime(info: dict[str, Any], gpus: int) -> Check:
    there = "nvidia" in info.get("Runtimes", {}) or bool(info.get("CDISpecDirs"))
    if there:
        return Check("GPUs in Docker", "ok", "the nvidia runtime, or CDI, is configured")
    cure = "install the NVIDIA container toolkit; nvidia-ctk runtime configure; restart Docker"
    if not gpus:
        return Check("GPUs in Docker", "absent", "no nvidia runtime is configured")
    # No failure: a hook in the engine's PATH would do too, and is not shown.
    return Check("GPUs in Docker", "warn", "no nvidia runtime is configured", cure)


def _image_disk(info: dict[str, Any], *, needed: bool) -> Check:
    root = Path(info["DockerRootDir"])
    if not os.access(root.parent, os.R_OK) or not root.parent.exists():
        return Check("disk for images", "absent", f"{root} is not on this machine, or not readable")
    free = shutil.disk_usage(root if root.exists() else root.parent).free
    found = f"{show_bytes(free)} free at {root}"
    if needed and free < _IMAGE_BYTES:
        return Check("disk for images", "warn", found, "docker system df; a larger data-root")
    return Check("disk for images", "ok", found)


def _image(client: Any, name: str) -> Check:
    from docker.errors import ImageNotFound

    try:
        size = client.images.get(name).attrs["Size"]
    except ImageNotFound:
        return Check(
            f"image {name}", "warn", "not here yet: it will be pulled", f"docker pull {name}"
        )
    return Check(f"image {name}", "ok", show_bytes(size))


def check_cluster(needs: Needs) -> Iterator[Check]:
    needed = "kubernetes" in needs.targets
    program = shutil.which("kubectl")
    if program is None:
        cure = "install kubectl" if needed else ""
        yield Check("kubectl", lacking(needed), "not on PATH", cure)
        return
    answered, said = _ask(program, "get", "nodes", "--output", "json")
    if not answered:
        cure = "kubectl config get-contexts; kubectl cluster-info" if needed else ""
        yield Check("cluster", lacking(needed), said[:200] or "no answer", cure)
        return
    yield judge_nodes(json.loads(said), needs)
    for kind in ("deployments", "services", "secrets", "persistentvolumeclaims"):
        allowed, _ = _ask(program, "auth", "can-i", "create", kind)
        if not allowed:
            state: State = "fail" if needed else "warn"
            cure = f"ask for a role that may create {kind}"
            yield Check(f"permission to create {kind}", state, "refused", cure)


def judge_nodes(nodes: dict[str, Any], needs: Needs) -> Check:
    """The answer of ``kubectl get nodes``: has any node as many devices as a pod asks for?"""
    offered = [node["status"].get("allocatable", {}) for node in nodes["items"]]
    found = f"{len(offered)} nodes"
    for resource, count in (
        ("nvidia.com/gpu", _most(needs, "nvidia")),
        ("aws.amazon.com/neuron", _most(needs, "neuron")),
    ):
        best = max((int(node.get(resource, 0)) for node in offered), default=0)
        if best:
            found += f", up to {best} {resource} on one"
        if count > best and "kubernetes" in needs.targets:
            cure = "install the device plugin, or add such nodes"
            return Check("cluster", "fail", f"{found}; a pod asks for {count} {resource}", cure)
    return Check("cluster", "ok", found)


def _most(needs: Needs, kind: str) -> int:
    counts = [s.devices.per_node for s in needs.services if s.devices.kind == kind]
    return max(counts, default=0)


def _ask(program: str, *words: str) -> tuple[bool, str]:
    command = [program, f"--request-timeout={_QUESTION_S // 2}s", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_QUESTION_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    ok = done.returncode == 0
    return ok, done.stdout if ok else (done.stderr.strip().splitlines() or [""])[-1]
