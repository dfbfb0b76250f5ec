"""Where a deployment's server runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from leadline.spec.frozen import Frozen


def _http_url(url: str) -> str:
    if not re.match(r"https?://[^/\s]+", url):
        raise ValueError(f"{url!r} is not a server address; write http://HOST:PORT")
    return url.rstrip("/")


class ProcessTarget(Frozen):
    """Leadline starts the engine as a process of this machine, bound to 127.0.0.1."""

    kind: Literal["process"] = "process"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Default: a free port, chosen at each start."""
    executable: str | None = None
    """The engine's program, for example /opt/vllm/bin/vllm. Default: that of the environment
    that ``leadline engines install`` made for the deployment's engine, else the one on PATH."""


class DockerTarget(Frozen):
    """The engine in a container of a Docker engine. Planned, not yet started by Leadline."""

    kind: Literal["docker"] = "docker"
    image: str | None = None


class KubernetesTarget(Frozen):
    """The engine in a cluster. Planned, not yet started by Leadline."""

    kind: Literal["kubernetes"] = "kubernetes"
    image: str | None = None
    namespace: str | None = None


class EndpointTarget(Frozen):
    """A server that somebody else runs; Leadline only talks to it."""

    kind: Literal["endpoint"] = "endpoint"
    url: Annotated[str, AfterValidator(_http_url)]
    api_key_env: str | None = None
    """Name of the environment variable that holds the API key."""
    tokenizer: str | None = None
    """tokenizer.json, or a folder that holds one; default: ask the server."""


def _target(value: object) -> object:
    if not isinstance(value, str):
        return value
    return {"kind": "endpoint", "url": value} if "://" in value else {"kind": value}


TARGET_KINDS = ("process", "docker", "kubernetes", "endpoint")


def _target_kind(value: Any) -> str:
    return str(value.get("kind", "") if isinstance(value, Mapping) else value.kind)


Target = Annotated[
    Annotated[ProcessTarget, Tag("process")]
    | Annotated[DockerTarget, Tag("docker")]
    | Annotated[KubernetesTarget, Tag("kubernetes")]
    | Annotated[EndpointTarget, Tag("endpoint")],
    Discriminator(_target_kind),
    BeforeValidator(_target),
]
