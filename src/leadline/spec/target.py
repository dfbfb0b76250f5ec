"""Where a deployment's server runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from leadline.spec.frozen import Frozen
from leadline.units import parse_bytes


def _http_url(url: str) -> str:
    if not re.match(r"https?://[^/\s]+", url):
        raise ValueError(f"{url!r} is not a server address; write http://HOST:PORT")
    return url.rstrip("/")


def _size(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _mount(text: str) -> str:
    """``SRC:DST`` or ``SRC:DST:ro``; a folder of the machine, or the name of a kept volume."""
    source, _, rest = text.partition(":")
    path, _, mode = rest.partition(":")
    if not source or not path.startswith("/") or mode not in ("", "ro", "rw"):
        raise ValueError(f"{text!r} is not a mount; write /folder:/path/inside or …:ro")
    return text


Port = Annotated[int, Field(ge=1, le=65535)]
Bytes = Annotated[int, Field(gt=0), BeforeValidator(_size)]
Mount = Annotated[str, AfterValidator(_mount)]


class ProcessTarget(Frozen):
    """Leadline starts the engine as a process of this machine, bound to 127.0.0.1."""

    kind: Literal["process"] = "process"
    port: Port | None = None
    """Default: a free port, chosen at each start."""
    executable: str | None = None
    """The engine's program, for example /opt/vllm/bin/vllm. Default: that of the environment
    that ``leadline engines install`` made for the deployment's engine, else the one on PATH."""


class OfflineTarget(Frozen):
    """No server: a script loads the model with ``LLM(...)`` and generates once for each trial."""

    kind: Literal["offline"] = "offline"
    executable: str | None = None
    """The Python that has the engine. Default: that of the environment that ``leadline engines
    install`` made, else the one beside the engine's program on PATH."""
    batch: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Prompts at once. Default: the deployment's ``max_num_seqs``, else 1."""


class ContainerTarget(Frozen):
    """What any platform of containers is told.

    With ``hardware`` the size comes from the plan, exactly as ``leadline render`` writes it; what
    is given here takes precedence. Without, ``image`` is needed.
    """

    kind: str
    image: str | None = None
    """Default: the official image of the engine at the deployment's version."""
    pull: Literal["missing", "always", "never"] = "missing"
    port: Port | None = None
    """On 127.0.0.1. Default: a free port in a campaign, 8000 for ``leadline up``."""
    executable: str | None = None
    """The engine's program inside the image, in place of the one known for the engine."""
    volumes: tuple[Mount, ...] = ()
    devices: Annotated[int, Field(ge=0)] | None = None
    """GPUs, or Neuron chips. Default: as the plan says; none without a plan."""
    shm_size: Bytes | None = None
    memory: Bytes | None = None
    """The container's memory limit."""
    env_file: str | None = None
    """NAME=VALUE lines with secrets (HF_TOKEN, …); no one else may read it (mode 0600)."""


class DockerTarget(ContainerTarget):
    """Leadline starts the engine in a container of this machine, published on 127.0.0.1.

    With ``hardware`` its size comes from the plan, exactly as ``leadline render`` writes it; what
    is given here takes precedence. Without, ``image`` is needed.
    """

    kind: Literal["docker"] = "docker"
    volumes: tuple[Mount, ...] = ()
    """``/folder:/path/inside[:ro]``, or the name of a volume that is kept. A model that is a file
    or folder of this machine is mounted by itself, read-only."""
    memory: Bytes | None = None
    """The container's memory limit. Default: none."""


class Toleration(Frozen):
    """A taint of nodes that the pod does not mind, as Kubernetes writes it."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Default: whatever the taint does."""


class KubernetesTarget(ContainerTarget):
    """Leadline starts the engine in a pod of a cluster, reached through a port of 127.0.0.1.

    With ``hardware`` its size comes from the plan, exactly as ``leadline render`` writes it; what
    is given here takes precedence. Without, ``image`` is needed.
    """

    kind: Literal["kubernetes"] = "kubernetes"
    context: str | None = None
    """A context of the kubeconfig (KUBECONFIG, or ~/.kube/config). Default: its current one."""
    namespace: str | None = None
    """Made if it is not there. Default: the context's."""
    port: Port | None = None
    """Of 127.0.0.1, from which requests are carried to the pod. Default: a free one."""
    volumes: tuple[Mount, ...] = ()
    """``/folder:/path/inside[:ro]`` of the node, or the name of a claim that is there. Nothing of
    this machine is mounted: the model is a hub id, lies in the image or in one of these."""
    memory: Bytes | None = None
    """The container's memory limit. Default: as the plan says; none without a plan."""
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


TARGET_KINDS = ("process", "offline", "docker", "kubernetes", "endpoint")


def _target_kind(value: Any) -> str:
    return str(value.get("kind", "") if isinstance(value, Mapping) else value.kind)


Target = Annotated[
    Annotated[ProcessTarget, Tag("process")]
    | Annotated[OfflineTarget, Tag("offline")]
    | Annotated[DockerTarget, Tag("docker")]
    | Annotated[KubernetesTarget, Tag("kubernetes")]
    | Annotated[EndpointTarget, Tag("endpoint")],
    Discriminator(_target_kind),
    BeforeValidator(_target),
]
