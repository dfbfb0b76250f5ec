"""One deployment as a service that any container platform can run: pure data, sized by the plan.

What is rendered for a platform and what Leadline starts there are both made from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

from leadline.catalog.reading import read_table
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.errors import PlanError, SpecError
from leadline.launch import Container, Devices, Launch, Pull, Volume
from leadline.plan.hardware import Hardware
from leadline.plan.schema import Plan, Seconds
from leadline.plan.startup import PROBE_FACTOR, estimate_start
from leadline.spec import ContainerTarget, Deployment, DockerTarget, KubernetesTarget
from leadline.units import GIB, show_bytes, show_seconds, show_tokens

PORT = 8000
"""Inside the container, where every address may ask; outside it is published on 127.0.0.1."""
ANYWHERE = "0.0.0.0"  # noqa: S104  (of the container, which publishes what it wants)
DRAIN_S = 15
"""Between leaving the load balancer and the signal to end."""
_LEAST_START_S = 1200
"""Disks over a network were seen to take ten minutes; twice that is allowed to anybody."""
_UNPLANNED_START_S = 600
"""Where nothing is known of the model's size."""
_PLACE_S = 600
"""Engines' images hold 10 to 20 GB."""
_DOWNLOAD_BYTES_S = 50e6
"""Assumed: a slow way to the hub; what takes longer stands still."""
_LEAST_GRACE_S = 60
_STOP_LIMIT_S = 30
_PAGES = 1.1
"""The weights' folder holds a little more than tensors."""
_COMPILED_BYTES = 20 * GIB


@dataclass(frozen=True)
class Cache:
    """A folder worth keeping between starts."""

    name: str
    path: str
    size_bytes: int
    why: str


@dataclass(frozen=True)
class Service:
    """Sized by a plan, or as its deployment asks where there is none."""

    name: str
    """A DNS label: of the container, of the Kubernetes objects."""
    engine: str
    model: str
    served_model: str
    image: str
    program: tuple[str, ...]
    arguments: tuple[str, ...]
    settings: Mapping[str, Any]
    env: Mapping[str, str]
    own_env: Mapping[str, str]
    """The deployment's own variables, without those that only a container needs."""
    secrets: tuple[str, ...]
    """Variables that come from an env-file or a Secret; their values are written nowhere."""
    devices: Devices
    shm_bytes: int
    version: str = ""
    volumes: tuple[Volume, ...] = ()
    """Of one machine: what the deployment mounts, and a model that lies there."""
    host_bytes: int | None = None
    """The plan's, as are those that follow; without one nothing is known."""
    caches: tuple[Cache, ...] = ()
    start: Seconds | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    request_s: float = 0
    """How long the longest request may take, by its slowest estimate and half more."""
    phases: tuple[tuple[str, str], ...] = ()
    """As of ``Launch``."""
    memory_bytes: int | None = None
    """A limit that the deployment asks for."""
    env_file: str | None = None
    """Where the deployment keeps its secrets."""
    pull: Pull = "missing"
    host_port: int = PORT
    """Of this machine, where a container is published on 127.0.0.1."""
    cluster: KubernetesTarget = field(default_factory=KubernetesTarget)
    """Where a cluster puts it."""
    kept_as: str = ""
    """The name under which it keeps what outlives it, where that is not its own."""
    drain_s: int = DRAIN_S
    stop_limit_s: int | None = None
    """It is not waited for longer, whatever the plan says of requests."""
    notes: tuple[str, ...] = field(default=())
    """What the plan says of it, for people."""

    def of_run(self, owner: str) -> Service:
        """The same under a name that no other run, and no service that is up, has.

        Nobody but the run sends requests there: its end waits for none.
        """
        name = f"{self.name[: 62 - len(owner)]}-{label(owner)}"
        return replace(
            self, name=name, kept_as=self.kept_name, drain_s=0, stop_limit_s=_STOP_LIMIT_S
        )

    def launch(self, port: int) -> Launch:
        """As a container of this machine, published on ``port``."""
        container = Container(
            name=self.name,
            image=self.image,
            entrypoint=self.program,
            port=PORT,
            devices=self.devices,
            shm_bytes=self.shm_bytes,
            memory_bytes=self.memory_bytes,
            volumes=self.mounts(),
            secrets=self.secrets,
            env_file=self.env_file,
            pull=self.pull,
            stop_s=self.grace_s,
        )
        return Launch(
            argv=(*self.program, *self.arguments),
            port=port,
            served_model=self.served_model,
            env=self.env,
            phases=self.phases,
            container=container,
            api_key_env="VLLM_API_KEY" if "VLLM_API_KEY" in self.secrets else None,
        )

    def mounts(self) -> tuple[Volume, ...]:
        """Of two for one place the deployment's own counts."""
        caches = [Volume(self.volume(cache), cache.path) for cache in self.caches]
        return tuple({volume.path: volume for volume in (*caches, *self.volumes)}.values())

    def volume(self, cache: Cache) -> str:
        """Weights are shared by all services of this machine; compiled code is of one."""
        return "leadline-weights" if cache.name == "weights" else f"{self.kept_name}-{cache.name}"

    @property
    def kept_name(self) -> str:
        return self.kept_as or self.name

    @property
    def start_limit_s(self) -> int:
        """A start that takes longer has failed."""
        if self.start is None:
            return _UNPLANNED_START_S
        return max(_LEAST_START_S, ceil(PROBE_FACTOR * self.start.high / 10) * 10)

    @property
    def place_limit_s(self) -> int:
        """For a node, the image and the first download of the weights: before the server begins."""
        weights = sum(cache.size_bytes for cache in self.caches if cache.name == "weights")
        return _PLACE_S + ceil(weights / _DOWNLOAD_BYTES_S)

    @property
    def grace_s(self) -> int:
        """What a request under way may still need when the service is told to end."""
        needed_s = self.drain_s + max(_LEAST_GRACE_S, ceil(self.request_s))
        return min(needed_s, self.stop_limit_s or needed_s)


def describe_service(
    campaign: str,
    key: str,
    deployment: Deployment,
    plan: Plan,
    hardware: Hardware,
    *,
    output_tokens: int,
    image: str | None = None,
) -> Service:
    """The service of one deployment on planned hardware.

    Raises ``SpecError`` for settings that cannot be written and ``PlanError`` for an engine or a
    version of which no image is known.
    """
    engine, _, version = plan.engine.partition("==")
    facts = read_table("containers")[engine]
    own = container_target(deployment)
    program = (own.executable or facts["program"][0], *facts["program"][1:])
    launch = _launch(engine, deployment, program[0])
    devices = give_devices(_count_devices(plan, hardware), own)
    host_bytes, shm_bytes = _size_host(plan, devices)
    return Service(
        name=label(f"{campaign}-{key}"),
        engine=engine,
        version=version,
        model=deployment.model or "",
        served_model=launch.served_model,
        image=image or _image(engine, version, facts),
        program=program,
        arguments=launch.argv[len(program) :],
        settings=deployment.settings,
        env={**_container_env(facts, deployment), **launch.env},
        own_env=deployment.env,
        secrets=("HF_TOKEN", "VLLM_API_KEY") if engine != "sglang" else ("HF_TOKEN",),
        devices=devices,
        shm_bytes=own.shm_size or shm_bytes,
        memory_bytes=own.memory,
        env_file=own.env_file,
        pull=own.pull,
        host_port=own.port or PORT,
        phases=launch.phases,
        host_bytes=host_bytes,
        caches=_caches(plan, facts),
        volumes=own_volumes(own, deployment.model or ""),
        start=estimate_start(plan),
        input_tokens=plan.limits.input_tokens,
        output_tokens=output_tokens,
        request_s=plan.time.timeout_s if plan.time else 600.0,
        cluster=cluster_target(deployment),
        notes=tuple(_tell(plan)),
    )


def container_target(deployment: Deployment) -> ContainerTarget:
    """What the deployment asks of a platform; nothing where it is not meant for containers."""
    target = deployment.target
    return target if isinstance(target, ContainerTarget) else DockerTarget()


def give_devices(planned: Devices, target: ContainerTarget) -> Devices:
    if target.devices is None:
        return planned
    kind = planned.kind if planned.kind != "none" else "nvidia"
    return replace(planned, kind=kind if target.devices else "none", per_node=target.devices)


def own_volumes(target: ContainerTarget, model: str) -> tuple[Volume, ...]:
    """Those asked for; in Docker a model of this machine too, unless it lies in one of them."""
    asked = [_volume(text) for text in target.volumes]
    if not isinstance(target, DockerTarget):
        return tuple(asked)
    path = Path(model)
    within = any(path.is_relative_to(volume.path) for volume in asked)
    if path.is_absolute() and path.exists() and not within:
        asked.append(Volume(str(path), str(path), read_only=True))
    return tuple(asked)


def split_options(arguments: Sequence[str]) -> list[tuple[str, ...]]:
    """The words before the first option, then each option with its values."""
    groups: list[list[str]] = [[]]
    for word in arguments:
        if word.startswith("--"):
            groups.append([word])
        else:
            groups[-1].append(word)
    return [tuple(group) for group in groups]


def label(text: str) -> str:
    """A DNS label of at most 63 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].rstrip("-")


def _volume(text: str) -> Volume:
    source, path, *mode = text.split(":")
    return Volume(source, path, read_only=mode == ["ro"])


def cluster_target(deployment: Deployment) -> KubernetesTarget:
    target = deployment.target
    return target if isinstance(target, KubernetesTarget) else KubernetesTarget()


def _launch(engine: str, deployment: Deployment, program: str) -> Launch:
    launch = load_engine(engine).launch
    if launch is None:
        raise SpecError(
            f"Leadline does not know how to start {engine}",
            where="deployments",
            cure="render a deployment of vllm, sglang or neuron",
        )
    return launch(
        LaunchRequest(
            model=deployment.model or "",
            port=PORT,
            host=ANYWHERE,
            settings=deployment.settings,
            env=deployment.env,
            executable=program,
        )
    )


def _container_env(facts: Mapping[str, Any], deployment: Deployment) -> dict[str, str]:
    """``{settings}`` is a digest: what was compiled for other settings is never taken for ours."""
    text = json.dumps(dict(deployment.settings), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return {name: str(value).format(settings=digest) for name, value in facts["env"].items()}


def _image(engine: str, version: str, facts: Mapping[str, Any]) -> str:
    if "image" in facts:
        return str(facts["image"]).format(version=version)
    images = facts["images"]
    if version not in images:
        raise PlanError(
            f"no image of {engine} {version} is known",
            where="deployments",
            cure=f"give target.image; known versions: {', '.join(images)}",
        )
    return str(images[version])


def _count_devices(plan: Plan, hardware: Hardware) -> Devices:
    """Whole nodes where the deployment spans several, else as many devices as it takes."""
    nodes = ceil(plan.gpus / hardware.devices_per_node)
    used = plan.gpus if nodes == 1 else hardware.devices_per_node
    if hardware.device.vendor != "neuron":
        return Devices("nvidia", used, nodes)
    cores = read_table("containers")["neuron-device"]["cores_per_device"]
    return Devices("neuron", ceil(used / cores), nodes)


def _size_host(plan: Plan, devices: Devices) -> tuple[int, int]:
    """Bytes of host memory and of shared memory for one node."""
    facts = read_table("containers")["host"]
    ranks = ceil(plan.gpus / devices.nodes)
    shm = max(facts["shm_gib_least"], facts["shm_gib_per_rank"] * min(ranks, 16))
    planned = sum(term.gib for term in plan.memory.terms if term.place == "host")
    processes = facts["server_gib"] + facts["rank_gib"] * min(ranks, 16)
    return ceil(processes + planned / devices.nodes + shm) * GIB, shm * GIB


def _caches(plan: Plan, facts: Mapping[str, Any]) -> tuple[Cache, ...]:
    weights = plan.memory.weights_gib * plan.gpus * _PAGES
    return (
        Cache(
            "weights",
            facts["weights"],
            ceil(weights / 10) * 10 * GIB,
            f"the checkpoint, {plan.memory.weights_gib * plan.gpus:,.0f} GiB, is downloaded once",
        ),
        Cache("compiled", facts["compiled"], _COMPILED_BYTES, "a second start compiles nothing"),
    )


def _tell(plan: Plan) -> list[str]:
    limits, kv = plan.limits, plan.kv
    told = [
        (
            f"plan: {plan.verdict}; longest prompt {show_tokens(limits.max_input_tokens)} tokens "
            f"with {show_tokens(limits.output_tokens)} of output"
        ),
        (
            f"{show_bytes(plan.memory.weights_gib * GIB)} of weights and "
            f"{show_bytes(kv.available_gib * GIB)} of KV cache on each of {plan.gpus} devices: "
            f"{show_tokens(kv.capacity_tokens)} tokens, {kv.max_concurrency:.2f}x"
        ),
    ]
    if plan.time:
        told.append(
            f"a cold prompt of {show_tokens(limits.input_tokens)} tokens is predicted to take "
            f"{show_seconds(plan.time.prefill_s.expected)} "
            f"({show_seconds(plan.time.prefill_s.low)} to {show_seconds(plan.time.prefill_s.high)})"
        )
    return told + [f"plan warns: {warning}" for warning in plan.warnings]
