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


class Toleration(Frozen):
    """A taint of nodes that the pod does not mind, as Kubernetes writes it."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Default: whatever the taint does."""


class KubernetesTarget(Frozen):
    """The engine in a pod of a cluster, reached through a port of 127.0.0.1.

    Rendered; campaigns do not start it yet.
    """

    kind: Literal["kubernetes"] = "kubernetes"
    image: str | None = None
    """Default: the engine's own image of the planned version."""
    context: str | None = None
    """A context of the kubeconfig (KUBECONFIG, or ~/.kube/config). Default: its current one."""
    namespace: str | None = None
    """Made if it is not there. Default: the context's."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Of 127.0.0.1, from which requests are carried to the pod. Default: a free one."""
    storage_class: str | None = None
    """Of the claims that keep weights and compiled code. Default: the cluster's default class."""
    node_selector: Mapping[str, str] = {}
    """Labels that the node must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Besides the taint named like the device, which is tolerated anyway."""
    service_account: str | None = None
    """Whose pull secrets fetch the image. Its token is not mounted. Default: ``default``."""


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
