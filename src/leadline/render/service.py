"""One deployment as a service that any container platform can run: pure data, sized by the plan.

What is rendered for a platform and what Leadline starts there are both made from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from leadline.catalog.reading import read_table
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.errors import PlanError, SpecError
from leadline.launch import Container, Devices, Launch, Volume
from leadline.plan.hardware import Hardware
from leadline.plan.schema import Plan, Seconds
from leadline.plan.startup import PROBE_FACTOR, estimate_start
from leadline.spec import Deployment
from leadline.units import GIB, show_bytes, show_seconds, show_tokens

PORT = 8000
"""Inside the container, where every address may ask; outside it is published on 127.0.0.1."""
ANYWHERE = "0.0.0.0"  # noqa: S104  (of the container, which publishes what it wants)
DRAIN_S = 15
"""Between leaving the load balancer and the signal to end."""
_LEAST_START_S = 1200
"""Disks over a network were seen to take ten minutes; twice that is allowed to anybody."""
_LEAST_GRACE_S = 60
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
    name: str
    """A DNS label: of the container, of the Kubernetes objects."""
    engine: str
    version: str
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
    host_bytes: int
    caches: tuple[Cache, ...]
    start: Seconds
    input_tokens: int
    output_tokens: int
    request_s: float
    """How long the longest request may take, by its slowest estimate and half more."""
    notes: tuple[str, ...] = field(default=())
    """What the plan says of it, for people."""

    def launch(self, port: int) -> Launch:
        """As a container of this machine, published on ``port``."""
        container = Container(
            name=self.name,
            image=self.image,
            entrypoint=self.program,
            port=PORT,
            devices=self.devices,
            shm_bytes=self.shm_bytes,
            volumes=tuple(Volume(self.volume(cache), cache.path) for cache in self.caches),
            secrets=self.secrets,
            stop_s=self.grace_s,
        )
        return Launch(
            argv=(*self.program, *self.arguments),
            port=port,
            served_model=self.served_model,
            env=self.env,
            container=container,
        )

    def volume(self, cache: Cache) -> str:
        """Weights are shared by all services of this machine; compiled code is of one."""
        return "leadline-weights" if cache.name == "weights" else f"{self.name}-{cache.name}"

    @property
    def start_limit_s(self) -> int:
        """A start that takes longer has failed."""
        return max(_LEAST_START_S, ceil(PROBE_FACTOR * self.start.high / 10) * 10)

    @property
    def grace_s(self) -> int:
        """What a request under way may still need when the service is told to end."""
        return DRAIN_S + max(_LEAST_GRACE_S, ceil(self.request_s))


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
    launch = _launch(engine, deployment, facts)
    devices = _count_devices(plan, hardware)
    host_bytes, shm_bytes = _size_host(plan, devices)
    return Service(
        name=label(f"{campaign}-{key}"),
        engine=engine,
        version=version,
        model=deployment.model or "",
        served_model=launch.served_model,
        image=image or _image(engine, version, facts),
        program=tuple(facts["program"]),
        arguments=launch.argv[len(facts["program"]) :],
        settings=deployment.settings,
        env={**_container_env(facts, deployment), **launch.env},
        own_env=deployment.env,
        secrets=("HF_TOKEN", "VLLM_API_KEY") if engine != "sglang" else ("HF_TOKEN",),
        devices=devices,
        shm_bytes=shm_bytes,
        host_bytes=host_bytes,
        caches=_caches(plan, facts),
        start=estimate_start(plan),
        input_tokens=plan.limits.input_tokens,
        output_tokens=output_tokens,
        request_s=plan.time.timeout_s if plan.time else 600.0,
        notes=tuple(_tell(plan)),
    )


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


def _launch(engine: str, deployment: Deployment, facts: Mapping[str, Any]) -> Any:
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
            executable=facts["program"][0],
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
