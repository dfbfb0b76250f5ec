"""Kubernetes: does a cluster answer, may we do there what we must, can a node take our pods."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

from leadline.preflight.check import Check, Needs, State, lacking
from leadline.render.service import Service
from leadline.units import show_bytes

_QUESTION_S = 20
_DEVICES = {"nvidia": "nvidia.com/gpu", "neuron": "aws.amazon.com/neuron"}
_RIGHTS = (
    *(("create", kind) for kind in ("deployments", "services", "secrets", "configmaps")),
    ("create", "persistentvolumeclaims"),
    *(("get", kind) for kind in ("pods", "pods/log", "events")),
    ("create", "pods/portforward"),
    ("delete", "deployments"),
)
"""What up, status, logs and down do, as ``kubectl auth can-i`` names it."""
_GROUPS = "create", "leaderworkersets.leaderworkerset.x-k8s.io"
"""Of an engine over several nodes."""
_UNITS = {"": 1, "m": 1e-3, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class Place(NamedTuple):
    """A context of the kubeconfig and a namespace; empty: as kubectl itself would choose."""

    context: str = ""
    namespace: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        named = (("context", self.context), ("namespace", self.namespace))
        return tuple(f"--{name}={value}" for name, value in named if value)

    @property
    def words(self) -> str:
        return " ".join(part for part in self if part)


def check_cluster(needs: Needs) -> Iterator[Check]:
    needed = "kubernetes" in needs.targets
    program = shutil.which("kubectl")
    if program is None:
        yield Check("kubectl", lacking(needed), "not on PATH", "install kubectl" if needed else "")
        return
    for context, namespace in needs.clusters or (("", ""),):
        yield from _check_place(program, Place(context, namespace), needs)


def _check_place(program: str, place: Place, needs: Needs) -> Iterator[Check]:
    needed = "kubernetes" in needs.targets
    name = f"cluster {place.words}".strip()
    answered, said = _ask(program, place, "version", "--output", "json")
    if not answered:
        cure = "kubectl config get-contexts; kubectl cluster-info" if needed else ""
        yield Check(name, lacking(needed), said[:200] or "no answer", cure)
        return
    yield Check(name, "ok", f"Kubernetes {_server_version(said)}")
    answered, said = _ask(program, place, "get", "nodes", "--output", "json")
    if answered:
        yield judge_nodes(json.loads(said), needs)
    else:
        yield Check("nodes", "absent", f"their capacity may not be asked for: {said[:200]}")
    yield from _check_rights(program, place, needs)


def _server_version(said: str) -> str:
    return str(json.loads(said).get("serverVersion", {}).get("gitVersion", "of unknown version"))


def _check_rights(program: str, place: Place, needs: Needs) -> Iterator[Check]:
    wide = any(service.devices.nodes > 1 for service in needs.services)
    rights = (*_RIGHTS, _GROUPS) if wide else _RIGHTS
    refused = [
        f"{verb} {kind}"
        for verb, kind in rights
        if not _ask(program, place, "auth", "can-i", verb, kind)[0]
    ]
    if refused:
        state: State = "fail" if "kubernetes" in needs.targets else "warn"
        cure = "ask for a role of the namespace that may"
        yield Check("cluster permissions", state, f"refused: {', '.join(refused)}", cure)
    else:
        yield Check("cluster permissions", "ok", f"all {len(rights)} that are needed")


def judge_nodes(nodes: dict[str, Any], needs: Needs) -> Check:
    """The answer of ``kubectl get nodes``: could one take each of our pods, were it empty?"""
    ready = [node for node in nodes["items"] if _takes_pods(node)]
    offered = [node["status"].get("allocatable", {}) for node in ready]
    found = f"{len(ready)} of {len(nodes['items'])} take pods"
    for kind in _DEVICES.values():
        if best := max((_amount(node, kind) for node in offered), default=0):
            found += f", up to {best} {kind} on one"
    if "kubernetes" in needs.targets:
        for service in needs.services:
            if not any(_fits(service, node) for node in offered):
                cure = "install the device plugin, or add such nodes"
                return Check("nodes", "fail", f"{found}; no node has {_word(service)}", cure)
    return Check("nodes", "ok" if ready else "warn", found)


def _takes_pods(node: dict[str, Any]) -> bool:
    if node.get("spec", {}).get("unschedulable"):
        return False
    conditions = node["status"].get("conditions", ())
    return all(found["status"] == "True" for found in conditions if found["type"] == "Ready")


def _fits(service: Service, node: dict[str, Any]) -> bool:
    device = _DEVICES.get(service.devices.kind)
    enough = device is None or _amount(node, device) >= service.devices.per_node
    return enough and ("memory" not in node or _amount(node, "memory") >= (service.host_bytes or 0))


def _word(service: Service) -> str:
    device = _DEVICES.get(service.devices.kind)
    devices = f"{service.devices.per_node} {device} and " if device else ""
    return f"{devices}{show_bytes(service.host_bytes or 0)} of memory ({service.name})"


def _amount(node: dict[str, Any], resource: str) -> int:
    """A Kubernetes quantity."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|[kMGT]|[KMGT]i)?", str(node.get(resource, 0)))
    return int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0


def _ask(program: str, place: Place, *words: str) -> tuple[bool, str]:
    command = [program, f"--request-timeout={_QUESTION_S // 2}s", *place.options, *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_QUESTION_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    ok = done.returncode == 0
    return ok, done.stdout if ok else (done.stderr.strip().splitlines() or [""])[-1]
