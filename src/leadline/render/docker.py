"""A service in a Docker engine: the arguments of ``docker run``, and the same for compose."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import Any

from leadline.launch import Container, Devices, Launch, Volume
from leadline.render.service import PORT, Service, split_options
from leadline.render.yaml import Comments, Path

LABEL = "io.leadline.service"
"""What carries it was started by Leadline, and only that is ever stopped or removed."""
ULIMITS = {"memlock": -1, "stack": 64 * 2**20}
"""Memory pinned for transfers, and the stacks of many threads."""
LOG_OPTIONS = {"max-size": "100m", "max-file": "5"}


def run_arguments(launch: Launch, env_file: str) -> tuple[tuple[str, ...], ...]:
    """Arguments of ``docker run`` in groups that belong on one line.

    ``ValueError`` for a launch that is not for a container.
    """
    container = require_container(launch)
    options = split_options(launch.arguments)
    memory = [("--memory", str(container.memory_bytes))] if container.memory_bytes else []
    return (
        ("--detach",),
        ("--name", container.name),
        ("--label", f"{LABEL}={container.name}"),
        ("--init",),
        ("--restart", "unless-stopped"),
        *([("--pull", container.pull)] if container.pull != "missing" else []),
        ("--publish", f"127.0.0.1:{launch.port}:{container.port}"),
        *_device_arguments(container.devices),
        ("--shm-size", str(container.shm_bytes)),
        *memory,
        *(("--ulimit", f"{name}={value}") for name, value in ULIMITS.items()),
        ("--stop-timeout", str(container.stop_s)),
        tuple(
            word for name, value in LOG_OPTIONS.items() for word in ("--log-opt", f"{name}={value}")
        ),
        *(("--volume", _mount(volume)) for volume in container.volumes),
        ("--env-file", env_file),
        *(("--env", f"{name}={value}") for name, value in launch.env.items()),
        ("--entrypoint", container.entrypoint[0]),
        (container.image,),
        (*container.entrypoint[1:], *options[0]),
        *options[1:],
    )


def require_container(launch: Launch) -> Container:
    if launch.container is None:
        raise ValueError("the launch is not for a container")
    return launch.container


def write_usage(service: Service, file: str, env_file: str) -> str:
    """How a compose file is used; with its secrets in a file that only their owner may read."""
    names = " ".join(f"{name}=" for name in service.secrets)
    lines = [
        f"(umask 077; [ -e {quote(env_file)} ] || printf '%s\\n' {names} >{quote(env_file)})",
        f"docker compose -f {file} up --detach --wait",
        f"docker compose -f {file} logs --follow",
        f"docker compose -f {file} down      # volumes are kept",
    ]
    return "\n".join(["Usage, with Compose 2:", *(f"  {line}" for line in lines)])


def compose_file(service: Service, env_file: str) -> tuple[Any, Comments]:
    """A compose project of one service, with what each choice is for."""
    body: dict[str, Any] = {
        "image": service.image,
        "container_name": service.name,
        "labels": {LABEL: service.name},
        "init": True,
        "restart": "unless-stopped",
        "entrypoint": list(service.program),
        "command": [_literal(word) for word in service.arguments],
        "env_file": [env_file],
        "environment": {name: _literal(value) for name, value in service.env.items()},
        "ports": [f"127.0.0.1:{service.host_port}:{PORT}"],
        "shm_size": service.shm_bytes,
        "ulimits": ULIMITS,
        "volumes": [_mount(volume) for volume in service.mounts()],
        "logging": {
            "driver": "json-file",
            "options": LOG_OPTIONS,
        },
        "healthcheck": {
            "test": ["CMD", "python3", "-c", HEALTH_PROGRAM],
            "interval": "10s",
            "timeout": "30s",
            "retries": 30,
            "start_period": f"{service.start_limit_s}s",
        },
        "stop_grace_period": f"{service.grace_s}s",
        **({"pull_policy": service.pull} if service.pull != "missing" else {}),
        **({"mem_limit": service.memory_bytes} if service.memory_bytes else {}),
        **_compose_devices(service.devices),
    }
    volumes = [volume.source for volume in service.mounts() if not volume.source.startswith("/")]
    document = {
        "name": service.name,
        "services": {"server": body},
        "volumes": {name: {"name": name} for name in volumes},
    }
    return document, _comments(service)


HEALTH_PROGRAM = (
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=25).close()"
)


def _literal(text: str) -> str:
    """Compose would put a variable in the place of ``$NAME``."""
    return text.replace("$", "$$")


def _mount(volume: Volume) -> str:
    return f"{volume.source}:{volume.path}{':ro' if volume.read_only else ''}"


def _device_arguments(devices: Devices) -> Iterator[tuple[str, ...]]:
    if devices.kind == "nvidia":
        yield ("--gpus", str(devices.per_node))
    for path in device_paths(devices):
        yield ("--device", path)


def device_paths(devices: Devices) -> list[str]:
    if devices.kind != "neuron":
        return []
    return [f"/dev/neuron{number}" for number in range(devices.per_node)]


def _compose_devices(devices: Devices) -> dict[str, Any]:
    if devices.kind == "nvidia":
        reservation = {
            "driver": "nvidia",
            "count": devices.per_node,
            "capabilities": ["gpu"],
        }
        return {"deploy": {"resources": {"reservations": {"devices": [reservation]}}}}
    paths = device_paths(devices)
    return {"devices": [f"{path}:{path}" for path in paths]} if paths else {}


def _comments(service: Service) -> Comments:
    at: Path = ("services", "server")
    return {
        (*at, "image"): "Pin it by digest once it is pulled: docker image inspect shows it.",
        (*at, "env_file"): f"Mode 0600; holds {' and '.join(service.secrets)} where needed.",
        (*at, "ports"): "Reachable from this machine only.",
        (*at, "shm_size"): "Bytes. Shared memory of the ranks' messages; Docker gives 64 MiB.",
        (*at, "healthcheck"): "/health generates nothing, so a long prefill does not fail it.",
        (*at, "stop_grace_period"): "As long as the longest request may take.",
        ("volumes",): "Weights are shared by all services of this machine: think before --volumes.",
    }
