"""A service in a Docker engine: the arguments of ``docker run``, and the same for compose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leadline.render.service import Cache, Devices, Service, split_options
from leadline.render.yaml import Comments, Path

LABEL = "io.leadline.service"
"""What carries it was started by Leadline, and only that is ever stopped or removed."""
_LOG_BYTES, _LOG_FILES = "100m", "5"


def run_arguments(service: Service, env_file: str, host_port: int) -> tuple[tuple[str, ...], ...]:
    """Arguments of ``docker run`` in groups that belong on one line."""
    options = split_options(service.arguments)
    return (
        ("--detach",),
        ("--name", service.name),
        ("--label", f"{LABEL}={service.name}"),
        ("--init",),
        ("--restart", "unless-stopped"),
        ("--publish", f"127.0.0.1:{host_port}:8000"),
        *_device_arguments(service.devices),
        ("--shm-size", str(service.shm_bytes)),
        ("--ulimit", "memlock=-1"),
        ("--ulimit", "stack=67108864"),
        ("--stop-timeout", str(service.grace_s)),
        ("--log-opt", f"max-size={_LOG_BYTES}", "--log-opt", f"max-file={_LOG_FILES}"),
        *(("--volume", f"{volume(service, cache)}:{cache.path}") for cache in service.caches),
        ("--env-file", env_file),
        *(("--env", f"{name}={value}") for name, value in service.env.items()),
        ("--entrypoint", service.program[0]),
        (service.image,),
        (*service.program[1:], *options[0]),
        *options[1:],
    )


def compose_file(service: Service, env_file: str, host_port: int) -> tuple[Any, Comments]:
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
        "ports": [f"127.0.0.1:{host_port}:8000"],
        "shm_size": service.shm_bytes,
        "ulimits": {"memlock": -1, "stack": 67108864},
        "volumes": [f"{volume(service, cache)}:{cache.path}" for cache in service.caches],
        "logging": {
            "driver": "json-file",
            "options": {"max-size": _LOG_BYTES, "max-file": _LOG_FILES},
        },
        "healthcheck": {
            "test": ["CMD", "python3", "-c", HEALTH_PROGRAM],
            "interval": "30s",
            "timeout": "30s",
            "retries": 10,
            "start_period": f"{service.start_limit_s}s",
        },
        "stop_grace_period": f"{service.grace_s}s",
        **_compose_devices(service.devices),
    }
    volumes = [volume(service, cache) for cache in service.caches]
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


def volume(service: Service, cache: Cache) -> str:
    """Weights are shared by all services of this machine; compiled code is of one."""
    return "leadline-weights" if cache.name == "weights" else f"{service.name}-{cache.name}"


def _device_arguments(devices: Devices) -> Iterator[tuple[str, ...]]:
    if devices.kind == "nvidia":
        count = "all" if devices.per_node == 0 else str(devices.per_node)
        yield ("--gpus", count)
    if devices.kind == "neuron":
        for number in range(devices.per_node):
            yield ("--device", f"/dev/neuron{number}")


def _compose_devices(devices: Devices) -> dict[str, Any]:
    if devices.kind == "nvidia":
        reservation = {
            "driver": "nvidia",
            "count": devices.per_node,
            "capabilities": ["gpu"],
        }
        return {"deploy": {"resources": {"reservations": {"devices": [reservation]}}}}
    if devices.kind == "neuron":
        return {"devices": [f"/dev/neuron{n}:/dev/neuron{n}" for n in range(devices.per_node)]}
    return {}


def _comments(service: Service) -> Comments:
    at: Path = ("services", "server")
    return {
        (*at, "image"): "Pin it by digest once it is pulled: docker image inspect shows it.",
        (*at, "env_file"): f"Mode 0600; holds {' and '.join(service.secrets)} where needed.",
        (*at, "ports"): "Reachable from this machine only.",
        (*at, "shm_size"): "Bytes. Shared memory of the ranks' messages; Docker gives 64 MiB.",
        (*at, "healthcheck"): "/health generates nothing, so a long prefill does not fail it.",
        (*at, "stop_grace_period"): "As long as the longest request may take.",
    }
