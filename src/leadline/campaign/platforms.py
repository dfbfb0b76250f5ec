"""The platforms that run services in containers, by the kind of a deployment's target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module

from leadline.campaign.containers import Contained
from leadline.deploy.log import Redact
from leadline.deploy.standing import Services
from leadline.errors import SpecError
from leadline.spec import ContainerTarget, DockerTarget, KubernetesTarget

# Lazy: a platform's client is imported only where it is used.
_PLATFORMS = {
    "docker": "leadline.deploy.docker_services:DockerServices",
    "kubernetes": "leadline.deploy.kubernetes_services:KubernetesServices",
}


def open_services(target: ContainerTarget, redact: Redact = str) -> Services:
    module, _, name = _PLATFORMS[target.kind].partition(":")
    make: Callable[[Redact, ContainerTarget], Services] = getattr(import_module(module), name)
    return make(redact, target)


def name_platform(
    kind: str, context: str | None = None, namespace: str | None = None
) -> ContainerTarget:
    """A target of that kind with nothing else asked. ``SpecError`` where nothing stays up."""
    if kind == "kubernetes":
        return KubernetesTarget(context=context, namespace=namespace)
    if kind not in _PLATFORMS:
        raise SpecError(
            f"nothing stays up on target {kind}",
            where="--target",
            cure=f"use one of {', '.join(_PLATFORMS)}, or process for the foreground",
        )
    if context or namespace:
        raise SpecError(
            f"{kind} has no contexts and no namespaces",
            where="--context, --namespace",
            cure="give them with --target kubernetes",
        )
    return DockerTarget()


def distinct_platforms(containers: Iterable[Contained]) -> list[ContainerTarget]:
    """One target for each Docker engine, and for each namespace of a cluster."""
    found = {
        (each.kind, getattr(each, "context", None), getattr(each, "namespace", None)): each
        for each in (contained.target for contained in containers)
    }
    return list(found.values())
