"""Docker: does it answer, can it give devices, what of ours is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from leadline.deploy.containers import connect, find_ours
from leadline.deploy.target import StartError
from leadline.preflight.check import Check, Needs, lacking
from leadline.units import GIB, show_bytes

_IMAGE_BYTES = 40 * GIB
"""An engine's image for GPUs, its layers and itself."""


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
        images = {name: _image_bytes(client, name) for name in needs.images}
        missing = sum(size is None for size in images.values())
        owed = missing * _IMAGE_BYTES + (sum(needs.weights.values()) if needed else 0)
        yield _image_disk(info, owed, f"{missing} images and the weights")
        yield from (_image(name, size) for name, size in images.items())
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


def _image_disk(info: dict[str, Any], owed_bytes: int, what: str) -> Check:
    """Images, and the volumes that keep weights."""
    root = Path(info["DockerRootDir"])
    if not os.access(root.parent, os.R_OK):
        found = f"{root} is not on this machine, or not readable"
        return Check("disk of Docker", "absent", found)
    free = shutil.disk_usage(root if root.exists() else root.parent).free
    found = f"{show_bytes(free)} free at {root}"
    if free < owed_bytes:
        found += f"; {what} take up to {show_bytes(owed_bytes)} where none is there yet"
        cure = "docker system df shows what goes; or a data-root on a larger disk"
        return Check("disk of Docker", "warn", found, cure)
    return Check("disk of Docker", "ok", found)


def _image_bytes(client: Any, name: str) -> int | None:
    from docker.errors import ImageNotFound

    try:
        return int(client.images.get(name).attrs["Size"])
    except ImageNotFound:
        return None


def _image(name: str, size: int | None) -> Check:
    if size is None:
        cure = f"docker pull {name}"
        return Check(f"image {name}", "warn", "not here yet: it will be pulled", cure)
    return Check(f"image {name}", "ok", show_bytes(size))
