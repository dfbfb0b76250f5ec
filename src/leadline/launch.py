"""What starts an engine and how to reach it, as pure data: engines fill it in, targets run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Pull = Literal["missing", "always", "never"]
"""When an image is fetched."""
DeviceKind = Literal["nvidia", "neuron", "none"]


@dataclass(frozen=True)
class Devices:
    kind: DeviceKind = "none"
    per_node: int = 0
    """GPUs, or Neuron chips."""
    nodes: int = 1


@dataclass(frozen=True)
class Volume:
    source: str
    """A folder of the machine (an absolute path), or the name of a volume that is kept."""
    path: str
    read_only: bool = False


@dataclass(frozen=True)
class Container:
    """What a launch needs beside its command where it runs in a container."""

    name: str
    image: str
    entrypoint: tuple[str, ...]
    """The first words of the command, in place of whatever the image would start."""
    port: int
    """Inside; the launch's own port is where it is published, on 127.0.0.1 alone."""
    devices: Devices = Devices()
    shm_bytes: int = 64 * 2**20
    memory_bytes: int | None = None
    """A limit of the container; the machine's own memory where there is none."""
    volumes: tuple[Volume, ...] = ()
    secrets: tuple[str, ...] = ()
    """Variables whose values come from our environment or an env-file, and stand nowhere else."""
    env_file: str | None = None
    """``NAME=VALUE`` lines that only its owner may read."""
    pull: Pull = "missing"
    stop_s: int = 10
    """How long it may take to end after it is told to."""


@dataclass(frozen=True)
class Launch:
    """Everything a target needs to start one server."""

    argv: tuple[str, ...]
    port: int
    served_model: str
    env: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    health_path: str = "/health"
    phases: tuple[tuple[str, str], ...] = ()
    """(text of a log line, what the engine is then doing), in order of start-up."""
    worker_title: str = ""
    """How the titles of the processes begin that the server cannot do without; empty: unknown."""
    container: Container | None = None
    api_key_env: str | None = None
    """A variable: if it has a value, the server wants it as the key of every request."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command after the container's entrypoint."""
        return self.argv[len(self.container.entrypoint) :] if self.container else self.argv

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True)
class Endpoint:
    """A server that answers."""

    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with each request; may hold credentials, so it is never journaled."""
