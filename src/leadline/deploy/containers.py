"""Containers of ours in a Docker engine: made, found, explained, taken away."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from leadline.deploy.env_file import read_secrets
from leadline.deploy.refusals import explain_refusal, refuse
from leadline.launch import Launch
from leadline.render.docker import (
    LABEL,
    LOG_OPTIONS,
    ULIMITS,
    device_paths,
    require_container,
)

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

OWNER, _STOP_S = f"{LABEL}.owner", f"{LABEL}.stop-s"
"""Who started it: the id of a run, or ``up``."""
_CONFLICT = 409


def connect() -> DockerClient:
    """The engine that ``docker`` itself would use. ``StartError`` where none answers."""
    import docker
    from docker.errors import DockerException

    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        _knock(where)
        return docker.from_env()
    except (DockerException, OSError) as error:  # the SDK asks the engine for its version
        if isinstance(error, PermissionError) or "Permission denied" in str(error):
            raise refuse(
                "this user may not talk to Docker",
                str(error),
                where=where,
                cure="add the user to the group docker and log in again, or use rootless Docker",
            ) from error
        raise refuse(
            "no Docker engine answers",
            f"no engine answers: {error}",
            where=where,
            cure="start it (systemctl start docker), or set DOCKER_HOST to where it listens",
        ) from error


def _knock(where: str) -> None:
    """The SDK would leave its socket open where nobody answers."""
    if where.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(where.removeprefix("unix://"))


def container_options(
    launch: Launch, owner: str = "", labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The same container as ``run_arguments`` describes, for the SDK; it does not restart."""
    from docker.types import DeviceRequest, LogConfig, Ulimit

    container = require_container(launch)
    gpus = container.devices.per_node if container.devices.kind == "nvidia" else 0
    return {
        "image": container.image,
        "entrypoint": list(container.entrypoint),
        "command": list(launch.arguments),
        "name": container.name,
        "labels": {
            **(labels or {}),
            LABEL: container.name,
            OWNER: owner,
            _STOP_S: str(container.stop_s),
        },
        "environment": {**read_secrets(container), **launch.env},
        "ports": {f"{container.port}/tcp": ("127.0.0.1", launch.port)},
        "init": True,
        "shm_size": container.shm_bytes,
        "mem_limit": container.memory_bytes,
        "ulimits": [Ulimit(name=name, soft=size, hard=size) for name, size in ULIMITS.items()],
        "log_config": LogConfig(type="json-file", config=LOG_OPTIONS),
        "volumes": [
            f"{volume.source}:{volume.path}:{'ro' if volume.read_only else 'rw'}"
            for volume in container.volumes
        ],
        "devices": [f"{path}:{path}:rwm" for path in device_paths(container.devices)],
        "device_requests": [DeviceRequest(count=gpus, capabilities=[["gpu"]])] if gpus else [],
    }


def create(client: DockerClient, launch: Launch, options: dict[str, Any]) -> Container:
    """A container that is not started yet. One of the same name and owner makes way for it.

    Raises ``StartError`` for what the engine does not want.
    """
    from docker.errors import APIError

    name, owner = options["name"], options["labels"][OWNER]
    try:
        return client.containers.create(**options)
    except APIError as error:
        if error.status_code != _CONFLICT:
            raise explain_refusal(error, launch) from error
        ours = {found.name: found.labels.get(OWNER, "") for found in find_ours(client)}
        if name not in ours:
            raise explain_refusal(error, launch) from error
        if ours[name] != owner:
            raise refuse(
                f"a container of that name is there, started by {ours[name] or 'a script'}",
                str(error.explanation),
                where=name,
                cure=f"leadline down {name}",
            ) from error
    remove_ours(client, name)
    return create(client, launch, options)


def find_ours(client: DockerClient, owner: str | None = None) -> list[Container]:
    """Containers that Leadline started, whether they run or not; those of one owner if named."""
    label = LABEL if owner is None else f"{OWNER}={owner}"
    found: list[Container] = client.containers.list(
        all=True, filters={"label": [LABEL, label]}, ignore_removed=True
    )
    return found


def label_volumes(client: DockerClient, launch: Launch) -> None:
    """Volumes that are made for us are marked as ours; one that is there stays as it is."""
    for volume in require_container(launch).volumes:
        if not volume.source.startswith("/"):
            client.volumes.create(volume.source, labels={LABEL: volume.source})


def remove_volumes(client: DockerClient, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """(removed, left): left is what is not ours, or what another container uses."""
    from docker.errors import APIError

    removed: list[str] = []
    left: list[str] = []
    for name in names:
        try:
            volume = client.volumes.get(name)
            ours = LABEL in (volume.attrs.get("Labels") or {})
            if ours:
                volume.remove()
        except APIError:
            ours = False
        (removed if ours else left).append(name)
    return removed, left


def remove_owned(owner: str) -> list[str]:
    """What a killed Leadline left of this owner is taken away; the names of what was there."""
    with closing(connect()) as client:
        left = find_ours(client, owner)
        for container in left:
            remove(container)
        return [str(container.name) for container in left]


def remove_ours(client: DockerClient, name: str) -> bool:
    """Whether a container of that name was ours and is gone now."""
    ours = [container for container in find_ours(client) if container.name == name]
    for container in ours:
        remove(container)
    return bool(ours)


def remove(container: Container) -> None:
    """Ended gently, then taken away; what is going already is waited for."""
    from docker.errors import APIError, NotFound

    end(container)
    with suppress(NotFound):
        try:
            container.remove(force=True)
        except APIError as error:
            if error.status_code != _CONFLICT:
                raise
            container.wait(condition="removed")


def end(container: Container) -> None:
    """As gently as its own stop time-out allows."""
    from docker.errors import APIError

    with suppress(APIError):  # one that never ran cannot be stopped
        container.stop(timeout=int(container.labels.get(_STOP_S, 10)))
