"""Deployments in containers: as rendered where a plan sizes them, else as small as can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from leadline.catalog.reading import read_table
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.engines.llamacpp import model_file
from leadline.errors import SpecError
from leadline.launch import Container, Devices
from leadline.plan.campaign_plans import Refusal
from leadline.render.select import describe_variant
from leadline.render.service import (
    ANYWHERE,
    PORT,
    Service,
    cluster_target,
    container_target,
    give_devices,
    label,
    own_volumes,
)
from leadline.spec import Campaign, Cell, ContainerTarget, Deployment, DockerTarget


@dataclass(frozen=True)
class Contained:
    """What starts one deployment in a container, and where."""

    service: Service
    target: ContainerTarget
    refusal: Refusal | None = None
    """Why the plan says that it cannot work."""


def contain(campaign: Campaign, key: str, cells: Sequence[Cell]) -> Contained:
    """The container of one deployment variant.

    Raises ``SpecError`` or ``PlanError`` for what cannot be meant or planned.
    """
    deployment = cells[0].settings
    target = container_target(deployment)
    if campaign.hardware and deployment.engine_name in read_table("containers"):
        service, refusal = describe_variant(campaign, key, cells)
        return Contained(service, target, refusal)
    return Contained(_bare(campaign.name, key, deployment, target), target)


def _bare(campaign: str, key: str, deployment: Deployment, target: ContainerTarget) -> Service:
    """Without hardware there is no plan: the image, the program, what is mounted."""
    engine = load_engine(deployment.engine_name or "")
    if engine.launch is None or target.image is None:
        raise SpecError(
            f"deployment {key}: {_lacking(deployment)}",
            where="deployments",
            cure="give target.image (and target.executable), or hardware (8xH200) for a plan",
        )
    model = _model(deployment, target)
    launch = engine.launch(
        LaunchRequest(
            model=model,
            port=PORT,
            host=ANYWHERE,
            settings=deployment.settings,
            env=deployment.env,
            executable=target.executable or _program(engine.name),
        )
    )
    return Service(
        name=label(f"{campaign}-{key}"),
        engine=engine.name,
        model=deployment.model or "",
        served_model=launch.served_model,
        image=target.image,
        program=launch.argv[:1],
        arguments=launch.argv[1:],
        settings=deployment.settings,
        env=launch.env,
        own_env=deployment.env,
        secrets=("HF_TOKEN",),
        devices=give_devices(Devices(), target),
        shm_bytes=target.shm_size or Container.shm_bytes,
        volumes=own_volumes(target, model_file(model)),
        phases=launch.phases,
        memory_bytes=target.memory,
        env_file=target.env_file,
        pull=target.pull,
        cluster=cluster_target(deployment),
    )


def _lacking(deployment: Deployment) -> str:
    if load_engine(deployment.engine_name or "").launch is None:
        return f"Leadline does not know how to start {deployment.engine_name}"
    return "without hardware no plan names its image"


def _model(deployment: Deployment, target: ContainerTarget) -> str:
    """In Docker a path of this machine as the container will see it: absolute."""
    path = Path(deployment.model or "").expanduser()
    here = isinstance(target, DockerTarget) and path.exists()
    return str(path.absolute()) if here else deployment.model or ""


def _program(engine: str) -> str | None:
    facts = read_table("containers").get(engine)
    return str(facts["program"][0]) if facts else None
