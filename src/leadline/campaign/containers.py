"""Deployments in containers: as rendered where a plan sizes them, else as small as can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from leadline.catalog.reading import read_table
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.engines.llamacpp import model_file
from leadline.errors import SpecError
from leadline.launch import Container, Devices, Launch
from leadline.render.select import Refusal, describe_variant
from leadline.render.service import (
    ANYWHERE,
    PORT,
    Service,
    docker_target,
    give_devices,
    label,
    own_volumes,
)
from leadline.spec import Campaign, Cell, Deployment

_START_S = 600
_STOP_S = 30
"""Nobody but the campaign has requests there: it need not wait for the longest."""


@dataclass(frozen=True)
class Contained:
    """What starts one deployment in a container; its port is chosen at each start."""

    launch: Launch
    start_limit_s: float = _START_S
    service: Service | None = None
    """Where a plan sized it; ``None``: nothing is known but the image."""
    refusal: Refusal | None = None
    """Why the plan says that it cannot work."""

    @property
    def name(self) -> str:
        assert self.launch.container  # noqa: S101
        return self.launch.container.name

    def of_run(self, run_id: str, port: int) -> Launch:
        """Named so that no other run, and no service that is up, has the same container."""
        container = self.launch.container
        assert container  # noqa: S101
        name = f"{container.name[: 62 - len(run_id)]}-{label(run_id)}"
        stop_s = min(container.stop_s, _STOP_S)
        return replace(
            self.launch, port=port, container=replace(container, name=name, stop_s=stop_s)
        )


def contain(campaign: Campaign, key: str, cells: Sequence[Cell]) -> Contained:
    """The container of one deployment variant, whatever target it names.

    Raises ``SpecError`` or ``PlanError`` for what cannot be meant or planned.
    """
    deployment = cells[0].settings
    if campaign.hardware and deployment.engine_name in read_table("containers"):
        service, refusal = describe_variant(campaign, key, cells)
        return Contained(service.launch(PORT), service.start_limit_s, service, refusal)
    return Contained(_bare(campaign.name, key, deployment))


def _bare(campaign: str, key: str, deployment: Deployment) -> Launch:
    """Without hardware there is no plan: the image, the program, what is mounted."""
    target = docker_target(deployment)
    engine = load_engine(deployment.engine_name or "")
    if engine.launch is None or target.image is None:
        raise SpecError(
            f"deployment {key}: {_lacking(deployment)}",
            where="deployments",
            cure="give target.image (and target.executable), or hardware (8xH200) for a plan",
        )
    launch = engine.launch(
        LaunchRequest(
            model=_model(deployment),
            port=PORT,
            host=ANYWHERE,
            settings=deployment.settings,
            env=deployment.env,
            executable=target.executable or _program(engine.name),
        )
    )
    container = Container(
        name=label(f"{campaign}-{key}"),
        image=target.image,
        entrypoint=launch.argv[:1],
        port=PORT,
        devices=give_devices(Devices(), target),
        shm_bytes=target.shm_size or Container.shm_bytes,
        memory_bytes=target.memory,
        volumes=own_volumes(target, model_file(_model(deployment))),
        secrets=("HF_TOKEN",),
        env_file=target.env_file,
        pull=target.pull,
    )
    return replace(launch, host="127.0.0.1", container=container)


def _lacking(deployment: Deployment) -> str:
    if load_engine(deployment.engine_name or "").launch is None:
        return f"Leadline does not know how to start {deployment.engine_name}"
    return "without hardware no plan names its image"


def _model(deployment: Deployment) -> str:
    """A path of this machine as the container will see it: absolute."""
    path = Path(deployment.model or "").expanduser()
    return str(path.absolute()) if path.exists() else deployment.model or ""


def _program(engine: str) -> str | None:
    facts = read_table("containers").get(engine)
    return str(facts["program"][0]) if facts else None
