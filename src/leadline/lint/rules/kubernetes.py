"""Kubernetes objects around an engine: probes, memory, scheduling, shutting down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from leadline.lint.command import Command, Container, Probe
from leadline.lint.finding import Hit
from leadline.lint.rule import rule
from leadline.lint.rules.containers import uses_devices
from leadline.units import show_bytes

_POINTS = "Kubernetes documentation and operators' practice"
_START_S = 1200
"""Twice the ten minutes of a large model's load, compile and capture."""
_SHM = "/dev/shm"  # noqa: S108 - a mount path in a manifest
_GENERATING = ("/v1/completions", "/v1/chat", "/generate", "health_generate", "/invocations")


def _pod(command: Command) -> Container | None:
    found = command.container
    return found if found and found.kind == "kubernetes" else None


def _probe(container: Container, kind: str) -> Probe | None:
    return next((probe for probe in container.probes if probe.kind == kind), None)


def _spec(container: Container) -> Mapping[str, Any]:
    found: Mapping[str, Any] = container.pod.get("spec", {})
    return found


def _workload(container: Container) -> Mapping[str, Any]:
    found: Mapping[str, Any] = container.pod.get("workload", {})
    return found


@rule("KUB001", "error", "kserve issue 5062 and pull request 5063; vllm issues 19824, 20264")
def start_cut_short(command: Command, version: str) -> Iterator[Hit]:
    """Health probe that gives up before the model is loaded.

    Load, compilation and graph capture of a large model take ten minutes and more; a pod that is
    killed before that starts for ever.
    """
    container = _pod(command)
    if container is None:
        return
    startup, liveness = _probe(container, "startup"), _probe(container, "liveness")
    if startup and startup.patience_s < _START_S:
        yield Hit(
            f"startupProbe gives up after {startup.patience_s:.0f} s",
            startup.place,
            f"failureThreshold x periodSeconds of {_START_S} s and more",
            severity="warning",
        )
    if startup is None and liveness and liveness.patience_s < _START_S:
        yield Hit(
            f"livenessProbe kills the pod {liveness.patience_s:.0f} s after its start, and there "
            "is no startupProbe",
            liveness.place,
            "add a startupProbe on /health, failureThreshold 120, periodSeconds 10",
        )
    if startup is None and liveness is None:
        cure = "add startupProbe, readinessProbe and livenessProbe"
        yield Hit("no probe watches the start", container.place, cure, severity="warning")


@rule("KUB002", "error", "sglang issue 22511")
def liveness_by_generation(command: Command, version: str) -> Iterator[Hit]:
    """Liveness probe that generates.

    During a prefill of minutes it waits behind the prompt, fails, and kills a healthy server.
    """
    probe = _probe(command.container, "liveness") if command.container else None
    if probe and any(part in (probe.path or "") for part in _GENERATING):
        yield Hit(f"livenessProbe generates: {probe.path}", probe.place, "ask /health")


@rule("KUB003", "warning", "sglang issue 22511; vllm issue 24910 (tokenising blocks /health)")
def hasty_liveness(command: Command, version: str) -> Iterator[Hit]:
    """Liveness probe without patience.

    /health can be silent while a long prompt is tokenised or, with SGLang, prefilled.
    """
    container = command.container
    if container is None:
        return
    for probe in container.probes:
        if probe.kind in ("liveness", "health") and probe.timeout_s < 10:
            yield Hit(
                f"the {probe.kind} probe waits {probe.timeout_s:g} s for an answer",
                probe.place,
                "30 s and more; SGLang: SGLANG_HEALTH_CHECK_TIMEOUT too",
            )


@rule("KUB004", "warning", "gateway-api-inference-extension issue 550; llm-d issues 329, 330")
def not_model_aware(command: Command, version: str) -> Iterator[Hit]:
    """Traffic may arrive before the model answers."""
    container = _pod(command)
    if container is None:
        return
    readiness = _probe(container, "readiness")
    if readiness is None:
        cure = "add a readinessProbe on /health that also asks /v1/models for the model's name"
        yield Hit("no readinessProbe", container.place, cure)
    elif "/v1/models" not in (readiness.path or ""):
        yield Hit(
            f"readinessProbe asks {readiness.path or 'a port'} only",
            readiness.place,
            "ask /v1/models for the model's name as well",
            severity="note",
        )


@rule("KUB005", "error", "production-stack issues 44, 276; sglang issue 4259; vllm issue 6574")
def no_shared_memory(command: Command, version: str) -> Iterator[Hit]:
    """Several ranks with a container runtime's 64 MB of /dev/shm."""
    container = _pod(command)
    if container and uses_devices(command) > 1 and not command.neuron:
        shared = _SHM in container.mounts or _spec(container).get("hostIPC") is True
        if not shared:
            yield Hit(
                f"{uses_devices(command)} ranks and nothing mounted at {_SHM}",
                container.place,
                "mount an emptyDir of medium Memory with a sizeLimit there",
            )
        elif _SHM in container.mounts and _SHM not in container.memory_volumes:
            yield Hit(f"{_SHM} is not in memory", container.place, "medium: Memory")


@rule("KUB006", "warning", "Kubernetes: memory-backed volumes count against the memory limit")
def uncounted_memory(command: Command, version: str) -> Iterator[Hit]:
    """Memory-backed volume that the memory limit does not count."""
    container = _pod(command)
    for path, size in container.memory_volumes.items() if container else ():
        limit = container.memory_limit_bytes if container else None
        place = container.place if container else command.place
        if size is None:
            yield Hit(f"the memory volume at {path} has no sizeLimit", place, "set sizeLimit")
        if limit is None:
            yield Hit(f"no memory limit counts {path}", place, "set resources.limits.memory")
        elif size and size >= limit:
            yield Hit(
                f"{path} may take {show_bytes(size)}, the limit is {show_bytes(limit)}",
                place,
                "raise resources.limits.memory by the sizeLimit",
                severity="error",
            )


@rule("KUB007", "error", _POINTS)
def wrong_devices(command: Command, version: str) -> Iterator[Hit]:
    """The pod does not get the devices that the settings use."""
    container = _pod(command)
    if container is None or "cpu" in str(container.image.value if container.image else ""):
        return
    wanted = uses_devices(command)
    if container.devices is None:
        name = "aws.amazon.com/neuron" if command.neuron else "nvidia.com/gpu"
        yield Hit("no accelerator in resources.limits", container.place, f"add {name}")
    elif not command.neuron and _workload(container).get("kind") != "LeaderWorkerSet":
        nodes = command.number("nnodes") or 1
        if wanted > container.devices * nodes:
            yield Hit(
                f"{wanted} ranks on {container.devices} devices",
                container.place,
                "make resources.limits and the parallel sizes agree",
            )


@rule("KUB008", "warning", _POINTS + ": GPUs cannot surge")
def surging(command: Command, version: str) -> Iterator[Hit]:
    """A rolling update waits for devices that the old pod holds."""
    container = _pod(command)
    if container and _workload(container).get("kind") == "Deployment":
        strategy = _workload(container).get("spec", {}).get("strategy", {})
        rolling = strategy.get("rollingUpdate", {})
        if strategy.get("type") != "Recreate" and rolling.get("maxSurge") not in (0, "0", "0%"):
            yield Hit("the update surges", container.place, "strategy: {type: Recreate}")


@rule("KUB009", "warning", _POINTS)
def cut_off_requests(command: Command, version: str) -> Iterator[Hit]:
    """Shutting down cuts off long requests."""
    container = _pod(command)
    if container is None:
        return
    grace = _spec(container).get("terminationGracePeriodSeconds", 30)
    if isinstance(grace, int) and grace <= 60:
        yield Hit(
            f"terminationGracePeriodSeconds is {grace}",
            container.place,
            "longer than the longest request, see the timeout of `leadline plan`",
        )
    if "preStop" not in container.pod.get("lifecycle", {}):
        cure = "add lifecycle.preStop, so that traffic stops first"
        yield Hit("no preStop", container.place, cure, severity="note")


@rule("KUB010", "note", _POINTS)
def unprotected(command: Command, version: str) -> Iterator[Hit]:
    """Nothing keeps the pod from being evicted, or says where it may run."""
    container = _pod(command)
    if container is None:
        return
    spec = _spec(container)
    if "PodDisruptionBudget" not in container.pod.get("kinds", ()):
        yield Hit("no PodDisruptionBudget in this file", container.place, "add one")
    if not any(key in spec for key in ("nodeSelector", "affinity", "tolerations")):
        cure = "add tolerations and a nodeSelector for the accelerator's nodes"
        yield Hit("neither tolerations nor a node selection", container.place, cure)


@rule("KUB011", "note", _POINTS)
def unconfined(command: Command, version: str) -> Iterator[Hit]:
    """The container may run as root and write everywhere."""
    container = _pod(command)
    if container is None:
        return
    own, pod = container.pod.get("security", {}), _spec(container).get("securityContext", {})
    if not (own.get("runAsNonRoot") or pod.get("runAsNonRoot")):
        yield Hit("runAsNonRoot is not set", container.place, "securityContext: runAsNonRoot: true")
    if not own.get("readOnlyRootFilesystem"):
        yield Hit(
            "the root file system is writable", container.place, "readOnlyRootFilesystem: true"
        )


@rule("KUB012", "warning", _POINTS)
def multi_node(command: Command, version: str) -> Iterator[Hit]:
    """Several nodes without what ties them together."""
    container = _pod(command)
    nodes = command.number("nnodes") or 1
    if container and nodes > 1:
        kind = _workload(container).get("kind")
        if kind not in ("LeaderWorkerSet", "StatefulSet"):
            yield Hit(f"{nodes} nodes in a {kind}", container.place, "use a LeaderWorkerSet")
        if command.engine == "vllm" and "VLLM_HOST_IP" not in command.environment:
            yield Hit("VLLM_HOST_IP is not set", container.place, "take it from status.podIP")


@rule("KUB014", "note", _POINTS)
def unwatched(command: Command, version: str) -> Iterator[Hit]:
    """Nothing in the file limits who may reach the server, or collects its metrics."""
    container = _pod(command)
    kinds = container.pod.get("kinds", ()) if container else ()
    if container and "NetworkPolicy" not in kinds:
        yield Hit("no NetworkPolicy in this file", container.place, "add one for the port")
    if container and not {"ServiceMonitor", "PodMonitor"} & set(kinds):
        yield Hit("no ServiceMonitor in this file", container.place, "scrape /metrics")


@rule("KUB015", "note", "vllm issue 15862; llm-d issues 2216, 2528")
def downloaded_while_probed(command: Command, version: str) -> Iterator[Hit]:
    """The weights are downloaded by the engine, within the time that its probes allow."""
    container, model = _pod(command), command.model or ""
    if container is None or model.count("/") != 1 or model.startswith((".", "/")):
        return
    if not _spec(container).get("initContainers"):
        cure = "download them in an initContainer, or by a Job before, into a volume that is kept"
        yield Hit(f"nothing downloads {model} before the engine starts", container.place, cure)


@rule("KUB016", "note", "NCCL documentation; AWS EFA documentation; operators' practice")
def untuned_network(command: Command, version: str) -> Iterator[Hit]:
    """Several nodes whose ranks may talk over the pod network's TCP."""
    container = _pod(command)
    if container is None or (command.number("nnodes") or 1) < 2:
        return
    told = any(name.startswith(("NCCL_", "FI_", "GLOO_")) for name in command.environment)
    resources = container.pod.get("resources", {})
    devices = str(resources if isinstance(resources, Mapping) else {})
    if not told and "rdma" not in devices and "efa" not in devices:
        cure = "request the fabric's device (rdma/…, vpc.amazonaws.com/efa), set NCCL_SOCKET_IFNAME"
        yield Hit("no fabric for the ranks is asked for", container.place, cure)


@rule("KUB017", "note", _POINTS)
def unreachable(command: Command, version: str) -> Iterator[Hit]:
    """No Service leads to the pod."""
    container = _pod(command)
    if container and "Service" not in container.pod.get("kinds", ()):
        yield Hit("no Service in this file", container.place, "add one for the port")


RULES = (
    start_cut_short, liveness_by_generation, hasty_liveness, not_model_aware, no_shared_memory,
    uncounted_memory, wrong_devices, surging, cut_off_requests, unprotected, unconfined, multi_node,
    unwatched, downloaded_while_probed, untuned_network, unreachable,
)  # fmt: skip
