"""All files of one service, by name: what ``leadline render`` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

from leadline.errors import SpecError
from leadline.render import scripts
from leadline.render.docker import compose_file, write_usage
from leadline.render.kubernetes import list_objects
from leadline.render.service import Service
from leadline.render.yaml import dump_yaml

Kind = Literal["docker", "compose", "kubernetes", "shell", "python", "client", "helm"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Files = dict[str, str]
"""File name to text."""


def render_service(
    service: Service, kinds: Iterable[Kind], *, made_from: str, namespace: str
) -> Files:
    """The files of the kinds asked for. ``SpecError`` where a kind does not suit the service."""
    header = write_header(service, made_from)
    files: Files = {}
    for kind in dict.fromkeys(kinds):
        for name, text in _WRITERS[kind](service, header, namespace):
            files[name] = text
    return files


def suitable_kinds(service: Service) -> tuple[Kind, ...]:
    """One machine cannot hold several nodes; not every engine loads offline."""
    several = service.devices.nodes > 1
    unfit: set[str] = {"docker", "compose", "shell", "python"} if several else set()
    if service.engine == "sglang":
        unfit.add("python")
    if service.engine != "vllm":
        unfit.add("helm")
    return tuple(kind for kind in KINDS if kind not in unfit)


def write_header(service: Service, made_from: str) -> str:
    lines = [
        f"{service.served_model} on {service.engine} {service.version}",
        f"Made by `leadline render {made_from}`: change the campaign, not this file.",
        "",
        *service.notes,
    ]
    return "\n".join(lines)


Named = Iterator[tuple[str, str]]


def _docker(service: Service, header: str, _: str) -> Named:
    file = f"run-{service.name}.sh"
    yield file, scripts.write_docker(service, file, header, _env_file(service))


def _compose(service: Service, header: str, _: str) -> Named:
    file, env_file = f"{service.name}.compose.yaml", _env_file(service)
    usage = write_usage(service, file, env_file)
    yield file, dump_yaml([compose_file(service, env_file)], f"{header}\n\n{usage}")


def _kubernetes(service: Service, header: str, namespace: str) -> Named:
    manifest, script = f"{service.name}.yaml", f"deploy-{service.name}.sh"
    yield manifest, dump_yaml(list_objects(service, namespace), header)
    yield (
        script,
        scripts.write_deploy(
            service,
            script,
            header,
            namespace=namespace,
            env_file=_env_file(service),
            manifest=manifest,
        ),
    )


def _shell(service: Service, header: str, _: str) -> Named:
    file = f"serve-{service.name}.sh"
    yield file, scripts.write_serve(service, file, header)


def _python(service: Service, header: str, _: str) -> Named:
    file = f"load_{_module(service)}.py"
    yield file, scripts.write_offline(service, header)


def _client(service: Service, header: str, _: str) -> Named:
    file = f"client_{_module(service)}.py"
    yield file, scripts.write_client(service, file, header)


def _helm(service: Service, header: str, _: str) -> Named:
    """Values of the vLLM production stack's chart; it writes probes and claims itself."""
    if service.engine != "vllm":
        raise SpecError(
            f"the vLLM production stack does not serve {service.engine}",
            where="--as helm",
            cure="render it for kubernetes",
        )
    repository, _colon, tag = service.image.rpartition(":")
    assert service.host_bytes  # noqa: S101  (only what a plan has sized is rendered)
    model = {
        "name": service.name,
        "repository": repository,
        "tag": tag,
        "modelURL": service.model,
        "replicaCount": 1,
        "requestCPU": 2 + 2 * service.devices.per_node,
        "requestMemory": f"{service.host_bytes >> 30}Gi",
        "requestGPU": service.devices.per_node,
        "pvcStorage": f"{sum(cache.size_bytes for cache in service.caches) >> 30}Gi",
        "shmSize": f"{service.shm_bytes >> 30}Gi",
        "vllmConfig": {"extraArgs": list(service.arguments[2:])},
        "env": [{"name": name, "value": value} for name, value in _values_env(service)],
    }
    values = {"servingEngineSpec": {"modelSpec": [model]}}
    yield f"{service.name}.values.yaml", dump_yaml([(values, {})], header)


# Where the chart mounts the claim, and points HF_HOME to; ours would win, outside of it.
_CLAIM = "/data"
_CLAIMED = {"VLLM_CACHE_ROOT": f"{_CLAIM}/vllm", "TRITON_CACHE_DIR": f"{_CLAIM}/vllm/triton"}


def _values_env(service: Service) -> Iterator[tuple[str, str]]:
    for name, value in service.env.items():
        if name != "HF_HOME":
            yield name, _CLAIMED.get(name, value)


_WRITERS: dict[Kind, Callable[[Service, str, str], Named]] = {
    "docker": _docker,
    "compose": _compose,
    "kubernetes": _kubernetes,
    "shell": _shell,
    "python": _python,
    "client": _client,
    "helm": _helm,
}


def _env_file(service: Service) -> str:
    own = service.env_file
    return str(Path(own).expanduser().absolute()) if own else f"{service.name}.env"


def _module(service: Service) -> str:
    return service.name.replace("-", "_")
