"""Containers that start an engine: image, shared memory, devices, caches, tidiness."""

from __future__ import annotations

import re
from collections.abc import Iterator

from leadline.catalog.engine_facts import parse_release
from leadline.lint.command import Command, Container, Given
from leadline.lint.finding import Edit, Hit
from leadline.lint.images import parse_image
from leadline.lint.rule import rule

_POINTS = "Docker documentation and operators' practice"
_LEAST_SHM = 2**30
_WEIGHTS = ("huggingface", "/models", "/model", "/data", "hf", "weights", "/hub", "/mnt", "/cache")
_COMPILED = (".cache/vllm", "/root/.cache", ".triton", "neuron-compile", "torchinductor", "/cache")
_SERVE_ENTRYPOINT = "0.10.2"


def _local(command: Command) -> Container | None:
    """Docker and compose; Kubernetes has rules of its own."""
    found = command.container
    return found if found and found.kind in ("docker", "compose") else None


def _option(container: Container, *names: str) -> Given | None:
    return next((container.options[name][-1] for name in names if name in container.options), None)


def uses_devices(command: Command) -> int:
    """Devices that the settings ask for, in one instance."""
    pipeline = command.number("pipeline_parallel_size", "pp_size") or 1
    data = command.number("data_parallel_size", "dp_size") or 1
    return command.tensor * pipeline * (data if command.engine == "vllm" else 1)


@rule("CTR001", "warning", _POINTS)
def unpinned_image(command: Command, version: str) -> Iterator[Hit]:
    """Image that may be another one tomorrow.

    ``latest`` changes under a running deployment; a tag can be pushed again; a digest cannot.
    """
    image = command.container.image if command.container else None
    if image is None or not isinstance(image.value, str) or "$" in image.value:
        return
    found = parse_image(image.value)
    if found.digest:
        return
    if found.tag in ("", "latest", "nightly", "dev", "main", "stable"):
        yield Hit(
            f"image {image.value} is not pinned",
            image.place,
            "write a release and its digest: image:v0.12.0@sha256:…",
            severity="error",
        )
    else:
        yield Hit(
            f"image {image.value} is pinned by tag only",
            image.place,
            "add the digest: @sha256:…, as `docker buildx imagetools inspect` prints it",
            severity="note",
        )


@rule("CTR002", "error", "vllm issues 1710, 789, 6574; nccl issue 525")
def small_shared_memory(command: Command, version: str) -> Iterator[Hit]:
    """Several ranks with Docker's 64 MB of /dev/shm.

    NCCL and the workers' message queue end in a bus error or ncclShmOpen.
    """
    container = _local(command)
    if container is None or command.neuron:
        return
    ipc, size = _option(container, "ipc"), _option(container, "shm-size")
    if uses_devices(command) > 1 and ipc is None and size is None:
        yield Hit(
            f"{uses_devices(command)} ranks and neither --ipc=host nor --shm-size",
            container.place,
            "add --ipc=host, or --shm-size 8g",
        )
    if size is not None and (count := _count_bytes(str(size.value))) and count < _LEAST_SHM:
        yield Hit(f"shm-size {size.value} is small", size.place, "write 8g", severity="warning")
    if ipc is not None and size is not None and str(ipc.value) == "host":
        yield Hit(
            "shm-size has no effect beside ipc=host",
            size.place,
            "keep one of them",
            severity="note",
        )


def _count_bytes(text: str) -> int | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)b?", text.lower())
    return (
        int(float(found[1]) * 1024 ** " kmgt".index(found[2].replace("b", "") or " "))
        if found
        else None
    )


@rule("CTR003", "error", _POINTS)
def no_devices(command: Command, version: str) -> Iterator[Hit]:
    """Container without an accelerator."""
    container = _local(command)
    if container is None or "cpu" in str(container.image.value if container.image else ""):
        return
    wanted = ("device",) if command.neuron else ("gpus", "device", "runtime")
    if _option(container, *wanted, "privileged") is None:
        cure = "--device /dev/neuron0 …" if command.neuron else "--gpus all"
        yield Hit("the container gets no accelerator", container.place, f"add {cure}")


@rule("CTR004", "note", _POINTS)
def default_limits(command: Command, version: str) -> Iterator[Hit]:
    """Limits of locked memory and stack are left as they are.

    RDMA and pinned buffers need ``memlock=-1``.
    """
    container = _local(command)
    if container and uses_devices(command) > 1 and _option(container, "ulimit") is None:
        cure = "add --ulimit memlock=-1 --ulimit stack=67108864"
        yield Hit("no ulimit for memlock and stack", container.place, cure)


@rule("CTR005", "note", _POINTS)
def no_init(command: Command, version: str) -> Iterator[Hit]:
    """No init process: dead workers stay as zombies, signals may not arrive."""
    container = _local(command)
    if container and _option(container, "init") is None:
        yield Hit("no init process in the container", container.place, "add --init")


@rule("CTR006", "note", _POINTS)
def endless_logs(command: Command, version: str) -> Iterator[Hit]:
    """The log of the container grows without end."""
    container = _local(command)
    if container and _option(container, "log-opt", "log-driver") is None:
        cure = "add --log-opt max-size=100m --log-opt max-file=3"
        yield Hit("no log rotation", container.place, cure)


@rule("CTR007", "note", _POINTS)
def nameless(command: Command, version: str) -> Iterator[Hit]:
    """A container that cannot be found again to be stopped."""
    container = _local(command)
    if container and container.kind == "docker" and _option(container, "name", "label") is None:
        yield Hit("neither a name nor a label", container.place, "add --name and --label")


@rule("CTR008", "warning", "vllm issue 15862; llm-d issues 2216, 2528")
def weights_not_kept(command: Command, version: str) -> Iterator[Hit]:
    """The weights are downloaded again by every new container."""
    container = command.container
    if container is None or (command.model or "").startswith("/"):
        return
    kept = _is_mounted(container, command.environment.get("HF_HOME"))
    if kept is None:
        kept = any(part in path.lower() for path in container.mounts for part in _WEIGHTS)
    lost = container.kind == "kubernetes" and _is_empty(container)
    if not kept or lost:
        yield Hit(
            "no volume holds the Hugging Face cache",
            container.place,
            "mount one at ~/.cache/huggingface, or at HF_HOME",
        )


def _is_mounted(container: Container, folder: Given | None) -> bool | None:
    """Whether a volume holds the folder that a variable names; None where none names it."""
    if folder is None or not folder.value:
        return None
    return any(str(folder.value).startswith(path) for path in container.mounts)


def _is_empty(container: Container) -> bool:
    found = [kind for path, kind in container.mounts.items() if path != "/dev/shm"]  # noqa: S108
    return bool(found) and set(found) == {"emptyDir"}


@rule("CTR009", "note", "vllm issues 19824, 20264")
def compilation_not_kept(command: Command, version: str) -> Iterator[Hit]:
    """Compiled graphs are made anew by every new container: minutes of each start."""
    container = command.container
    if container is None or _is_mounted(container, command.environment.get("VLLM_CACHE_ROOT")):
        return
    if not any(p in path for path in container.mounts for p in _COMPILED):
        where = "the Neuron compile cache" if command.neuron else "~/.cache/vllm"
        if command.engine == "sglang":
            where = "~/.cache/sglang, ~/.triton and ~/.cache/torch"
        yield Hit("no volume holds the compile cache", container.place, f"mount one at {where}")


@rule("CTR010", "error", "vllm docker/Dockerfile: ENTRYPOINT of the server image")
def started_twice(command: Command, version: str) -> Iterator[Hit]:
    """The command starts the server that the image's entry point starts already.

    The words ``vllm serve`` or ``python3 -m …`` then become arguments of the server.
    """
    container = command.container
    if container and command.form == "image twice" and command.entry:
        span = command.entry.span
        yield Hit(
            "the image's entry point already starts the server",
            command.entry,
            "take these words out, or override the entry point",
            edits=(Edit(span, ""),) if span and container.kind == "docker" else (),
        )


@rule("CTR011", "note", _POINTS)
def no_restart(command: Command, version: str) -> Iterator[Hit]:
    """A server that stays down when it dies."""
    container = _local(command)
    if container and container.kind == "docker":
        if _option(container, "restart", "rm") is None and _option(container, "detach"):
            yield Hit("no restart policy", container.place, "add --restart unless-stopped")
    elif container and _option(container, "restart") is None:
        yield Hit("no restart policy", container.place, "add restart: unless-stopped")


@rule("CTR012", "warning", "vllm docker/Dockerfile")
def old_entry_point(command: Command, version: str) -> Iterator[Hit]:
    """The server is started by its module instead of ``vllm serve``.

    The module has moved more than once; ``vllm serve`` is the supported way.
    """
    if command.engine == "vllm" and command.form == "module" and command.entry:
        if parse_release(version) > parse_release(_SERVE_ENTRYPOINT):
            yield Hit(
                "python -m vllm.entrypoints… is not the supported way to start the server",
                command.entry,
                "write vllm serve MODEL",
                severity="note",
            )


RULES = (
    unpinned_image, small_shared_memory, no_devices, default_limits, no_init, endless_logs,
    nameless, weights_not_kept, compilation_not_kept, started_twice, no_restart, old_entry_point,
)  # fmt: skip
