"""Compose files, Kubernetes manifests, Helm values: what in them starts an engine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml.nodes import Node, ScalarNode

from leadline.lint.command import Container, Given, Probe, Word
from leadline.lint.documents import Document, read_number
from leadline.lint.shell import split_command

_DEVICE_KEYS = (
    "nvidia.com/gpu",
    "amd.com/gpu",
    "aws.amazon.com/neuron",
    "aws.amazon.com/neuroncore",
)
_CHART_MOUNTS = {"/data": "claim"}
_SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash")


@dataclass(frozen=True)
class Found:
    """One container, with all that its image is told to run, one entry a command."""

    container: Container
    commands: tuple[tuple[Word, ...], ...]
    environment: Mapping[str, Given]
    replaces_entrypoint: bool


def read_compose(document: Document) -> Iterator[Found]:
    services = document.get(document.root, "services")
    for name, service in document.items(services):
        entry = document.get(service, "entrypoint")
        words = [*_command(document, entry), *_command(document, document.get(service, "command"))]
        container = Container(
            kind="compose",
            place=document.place(service),
            image=_image(document, service),
            options=dict(_compose_options(document, service)),
            probes=tuple(_healthcheck(document, service)),
            mounts=dict(_compose_mounts(document, service)),
            pod={"service": name, **_plain(document, service)},
        )
        yield Found(
            container, _unwrap(words), dict(_compose_env(document, service)), entry is not None
        )


def read_values(document: Document) -> Iterator[Found]:
    """Values of the vLLM production stack's chart: a served model each.

    With ``pvcStorage`` the chart mounts a claim at /data and points HF_HOME there.
    """
    for spec in document.each(document.get(document.root, "servingEngineSpec", "modelSpec")):
        extra = document.get(spec, "vllmConfig", "extraArgs")
        container = Container(
            kind="values",
            place=document.place(spec),
            image=_image_of_values(document, spec),
            mounts=_CHART_MOUNTS if document.get(spec, "pvcStorage") else {},
            devices=_devices({_DEVICE_KEYS[0]: document.plain(document.get(spec, "requestGPU"))}),
        )
        yield Found(
            container, (tuple(_command(document, extra)),), dict(_pod_env(document, spec)), False
        )


def _image_of_values(document: Document, spec: Node) -> Given | None:
    repository, tag = document.get(spec, "repository"), document.get(spec, "tag")
    if repository is None or tag is None:
        return None
    place = document.place(tag)
    image = f"{document.plain(repository)}:{document.plain(tag)}"
    return Given("image", "image", image, place, place, place)


def read_kubernetes(documents: list[Document]) -> Iterator[Found]:
    kinds = {str(document.plain(document.get(document.root, "kind"))) for document in documents}
    for document in documents:
        for workload, pod in _pods(document, document.root):
            for node in document.each(document.get(pod, "containers")):
                yield _container(document, workload, pod, node, kinds)


def _pods(document: Document, node: Node | None) -> Iterator[tuple[Node, Node]]:
    """(the object with the pod's template or the pod itself, the pod's specification)"""
    kind = document.plain(document.get(node, "kind"))
    if kind == "List":
        for each in document.each(document.get(node, "items")):
            if document.plain(document.get(each, "kind")) != "List":
                yield from _pods(document, each)
    elif kind == "Pod" and (spec := document.get(node, "spec")):
        yield node, spec  # type: ignore[misc]
    elif kind == "LeaderWorkerSet":
        template = document.get(node, "spec", "leaderWorkerTemplate")
        for role in ("leaderTemplate", "workerTemplate"):
            if spec := document.get(template, role, "spec"):
                yield node, spec  # type: ignore[misc]
    elif spec := document.get(node, "spec", "template", "spec"):
        yield node, spec  # type: ignore[misc]


def _container(document: Document, workload: Node, pod: Node, node: Node, kinds: set[str]) -> Found:
    command = document.get(node, "command")
    words = [*_command(document, command), *_command(document, document.get(node, "args"))]
    spec = _plain(document, pod)
    pod_facts = {
        "spec": spec,
        "workload": _plain(document, workload),
        "kinds": kinds,
        "security": document.plain(document.get(node, "securityContext")) or {},
        "lifecycle": document.plain(document.get(node, "lifecycle")) or {},
    }
    mounts, memory = _volumes(document, pod, node)
    limits = document.plain(document.get(node, "resources", "limits")) or {}
    container = Container(
        kind="kubernetes",
        place=document.place(node),
        image=_image(document, node),
        probes=tuple(_probes(document, node)),
        mounts=mounts,
        memory_volumes=memory,
        memory_limit_bytes=_bytes(limits.get("memory")),
        devices=_devices(limits),
        pod=pod_facts,
    )
    return Found(container, _unwrap(words), dict(_pod_env(document, node)), command is not None)


def _plain(document: Document, node: Node) -> dict[str, Any]:
    read = document.plain(node)
    return read if isinstance(read, dict) else {}


def _image(document: Document, node: Node) -> Given | None:
    image = document.get(node, "image")
    return document.given("image", image) if image is not None else None


def _command(document: Document, node: Node | None) -> list[Word]:
    if isinstance(node, ScalarNode):
        line = node.start_mark.line + (2 if node.style in ("|", ">") else 1)
        first, *more = split_command(str(node.value), line) or ((),)
        return [*first, *(word for words in more for word in words)]
    return [document.word(each) for each in document.each(node)]


def _unwrap(words: list[Word]) -> tuple[tuple[Word, ...], ...]:
    """``sh -c "…"`` as the commands of its script."""
    for at, word in enumerate(words[:-1]):
        if (word.text or "").startswith("-") and "c" in (word.text or "") and at:
            if words[at - 1].text in _SHELLS or words[0].text in _SHELLS:
                script = words[at + 1]
                return split_command(script.raw, script.place.line + ("\n" in script.raw))
    return (tuple(words),) if words else ((),)


# --- compose --------------------------------------------------------------------------------

_COMPOSE = {
    "shm_size": "shm-size", "ipc": "ipc", "init": "init", "restart": "restart",
    "container_name": "name", "logging": "log-opt", "ulimits": "ulimit", "runtime": "runtime",
    "gpus": "gpus", "devices": "device", "network_mode": "network", "entrypoint": "entrypoint",
    "privileged": "privileged", "labels": "label", "env_file": "env-file", "user": "user",
}  # fmt: skip


def _compose_options(document: Document, service: Node) -> Iterator[tuple[str, tuple[Given, ...]]]:
    for key, node in document.items(service):
        if key in _COMPOSE:
            yield _COMPOSE[key], (document.given(key, node),)
    if ports := document.get(service, "ports"):
        yield "publish", tuple(document.given("ports", each) for each in document.each(ports))
    reserved = document.get(service, "deploy", "resources", "reservations", "devices")
    if reserved is not None:
        yield "gpus", (document.given("devices", reserved),)


def _compose_mounts(document: Document, service: Node) -> Iterator[tuple[str, str]]:
    for each in document.each(document.get(service, "volumes")):
        read = document.plain(each)
        if isinstance(read, dict):
            yield str(read.get("target", "")), str(read.get("source", read.get("type", "")))
        else:
            parts = str(read).split(":")
            yield (parts[1] if len(parts) > 1 else parts[0]), parts[0]


def _compose_env(document: Document, service: Node) -> Iterator[tuple[str, Given]]:
    node = document.get(service, "environment")
    for name, entry in document.items(node):
        yield name, _variable(document, name, entry)
    for each in document.each(node):
        name, equals, value = str(each.value).partition("=")
        place = document.place(each)
        safe = not equals or value.startswith("$")
        text = value if equals and not value.startswith("$") else None
        yield name, Given(name, name, text, place, place, place, safe)


def _variable(document: Document, name: str, node: Node) -> Given:
    value = document.plain(node)
    safe = value is None or str(value).startswith("$")
    place = document.place(node)
    return Given(name, name, None if safe else str(value), place, place, place, safe)


def _healthcheck(document: Document, service: Node) -> Iterator[Probe]:
    node = document.get(service, "healthcheck")
    read = document.plain(node)
    if node is None or not isinstance(read, dict):
        return
    test = read.get("test", "")
    yield Probe(
        kind="health",
        place=document.place(node),
        path=" ".join(map(str, test)) if isinstance(test, list) else str(test),
        initial_s=_seconds(read.get("start_period", 0)),
        period_s=_seconds(read.get("interval", 30)),
        timeout_s=_seconds(read.get("timeout", 30)),
        failures=int(read_number(read.get("retries"), 3)),
    )


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _seconds(value: Any) -> float:
    """``1m30s`` and plain numbers."""
    if isinstance(value, int | float):
        return float(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", str(value))
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


# --- kubernetes -----------------------------------------------------------------------------


def _probes(document: Document, node: Node) -> Iterator[Probe]:
    for kind in ("startup", "readiness", "liveness"):
        probe = document.get(node, f"{kind}Probe")
        read = document.plain(probe)
        if probe is None or not isinstance(read, dict):
            continue
        http = read.get("httpGet") or {}
        command = (read.get("exec") or {}).get("command")
        yield Probe(
            kind=kind,
            place=document.place(probe),
            path=http.get("path") or (" ".join(map(str, command)) if command else None),
            initial_s=read_number(read.get("initialDelaySeconds"), 0),
            period_s=read_number(read.get("periodSeconds"), 10),
            timeout_s=read_number(read.get("timeoutSeconds"), 1),
            failures=int(read_number(read.get("failureThreshold"), 3)),
        )


def _volumes(
    document: Document, pod: Node, node: Node
) -> tuple[dict[str, str], dict[str, int | None]]:
    kinds: dict[str, Any] = {}
    for volume in document.mappings(document.get(pod, "volumes")):
        kinds[str(volume.get("name"))] = volume
    mounts, memory = {}, {}
    for mount in document.mappings(document.get(node, "volumeMounts")):
        volume = kinds.get(str(mount.get("name")), {})
        path = str(mount.get("mountPath"))
        mounts[path] = next((key for key in volume if key != "name"), "claim template")
        empty = volume.get("emptyDir")
        if isinstance(empty, dict) and empty.get("medium") == "Memory":
            memory[path] = _bytes(empty.get("sizeLimit"))
    return mounts, memory


def _pod_env(document: Document, node: Node) -> Iterator[tuple[str, Given]]:
    for each in document.each(document.get(node, "env")):
        name = str(document.plain(document.get(each, "name")))
        value = document.get(each, "value")
        place = document.place(value if value is not None else each)
        text = None if value is None else str(document.plain(value))
        yield name, Given(name, name, text, place, place, place, value is None)


def _devices(limits: Mapping[str, Any]) -> int | None:
    found = [limits[key] for key in _DEVICE_KEYS if key in limits]
    return int(found[0]) if found and str(found[0]).isdigit() else None


_SIZES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9}
_SIZES |= {"T": 10**12, "": 1}


def _bytes(value: Any) -> int | None:
    """A Kubernetes quantity."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]i|[kMGT]?)", str(value))
    return int(float(found[1]) * _SIZES[found[2]]) if found else None
