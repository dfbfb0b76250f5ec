"""One thing that was looked at, and what a campaign needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.render.select import describe_variant
from leadline.render.service import Service
from leadline.spec import Campaign, DockerTarget, KubernetesTarget

State = Literal["ok", "warn", "fail", "absent"]
"""``fail``: the campaign cannot work so; ``absent``: it is not there, and nothing here needs it."""


def lacking(needed: object) -> State:
    """Of what is not there."""
    return "fail" if needed else "absent"


@dataclass(frozen=True)
class Check:
    name: str
    state: State
    found: str
    cure: str = ""


@dataclass(frozen=True)
class Needs:
    """What the deployments of a campaign ask of one machine; nothing without a campaign."""

    targets: frozenset[str] = frozenset()
    services: tuple[Service, ...] = ()
    """Those that a plan sizes."""
    images: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    clusters: tuple[tuple[str, str], ...] = ()
    """(context, namespace) of each cluster; empty: the kubeconfig's own."""
    models: tuple[str, ...] = ()
    unplanned: tuple[str, ...] = ()
    """Deployments of which no plan can be made, with the reason."""

    @property
    def here(self) -> tuple[Service, ...]:
        """Those that run on this machine."""
        return self.services if self.targets & {"process", "docker"} else ()

    @property
    def gpus(self) -> int:
        return max((s.devices.per_node for s in self.here if s.devices.kind == "nvidia"), default=0)

    @property
    def neuron_devices(self) -> int:
        return max((s.devices.per_node for s in self.here if s.devices.kind == "neuron"), default=0)

    @property
    def host_bytes(self) -> int:
        return max((service.host_bytes or 0 for service in self.here), default=0)

    @property
    def shm_bytes(self) -> int:
        return max((service.shm_bytes for service in self.here), default=0)

    @property
    def weights(self) -> dict[str, int]:
        """Bytes of each model that is run here, from a hub."""
        return {
            service.model: cache.size_bytes
            for service in self.here
            for cache in service.caches
            if cache.name == "weights"
        }


def read_needs(campaign: Campaign) -> Needs:
    services: list[Service] = []
    unplanned: list[str] = []
    groups = campaign.starts()
    deployments = [cells[0].settings for cells in groups.values()]
    engines = read_table("containers")
    for key, cells in groups.items():
        if not campaign.hardware or cells[0].settings.engine_name not in engines:
            continue
        try:
            services.append(describe_variant(campaign, key, cells)[0])
        except PlanError as missing:
            unplanned.append(f"{key}: {missing.what}")
    ports = {getattr(deployment.target, "port", None) for deployment in deployments}
    return Needs(
        targets=frozenset(deployment.target.kind for deployment in deployments),
        services=tuple(services),
        images=_images([d.target for d in deployments], services),
        ports=tuple(sorted(port for port in ports if port)),
        clusters=_clusters([d.target for d in deployments]),
        models=tuple(dict.fromkeys(d.model for d in deployments if d.model)),
        unplanned=tuple(unplanned),
    )


def _clusters(targets: Sequence[object]) -> tuple[tuple[str, str], ...]:
    places = [
        (target.context or "", target.namespace or "")
        for target in targets
        if isinstance(target, KubernetesTarget)
    ]
    return tuple(dict.fromkeys(places))


def _images(targets: Sequence[object], services: Sequence[Service]) -> tuple[str, ...]:
    docker = [target for target in targets if isinstance(target, DockerTarget)]
    if not docker:
        return ()
    named = [target.image for target in docker if target.image]
    return tuple(dict.fromkeys((*named, *(service.image for service in services))))
