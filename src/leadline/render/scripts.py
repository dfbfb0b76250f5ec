"""Shell and Python scripts from templates; every value is quoted by a library."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache
from math import ceil
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from leadline.catalog.engine_facts import load_facts
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.errors import SpecError
from leadline.plan.neuron_rules import find_neuron_release
from leadline.render.docker import run_arguments
from leadline.render.kubernetes import secret_name
from leadline.render.service import PORT, Service, split_options
from leadline.render.yaml import comment
from leadline.units import parse_tokens, show_seconds

HOST_PORT = 8000
_OFFLINE = ("vllm", "neuron")
_LADDER_STEPS = 4


def write_docker(service: Service, file: str, header: str, env_file: str) -> str:
    groups = run_arguments(service.launch(HOST_PORT), env_file)
    text = [" ".join(_quote_env(word, env_file) for word in group) for group in groups]
    return _render("docker.sh", service, header, file=file, env_file=env_file, groups=text)


def write_serve(service: Service, file: str, header: str) -> str:
    """The engine's own command, as it runs without a container on this machine."""
    local = _local_launch(service)
    return _render(
        "serve.sh",
        service,
        header,
        file=file,
        env=local.env,
        groups=[shlex.join(group) for group in split_options(local.argv[len(service.program) :])],
    )


def write_deploy(service: Service, file: str, header: str, **names: str) -> str:
    return _render(
        "deploy.sh",
        service,
        header,
        file=file,
        secret=secret_name(service),
        several=service.devices.nodes > 1,
        deadline=service.start_limit_s + 600,
        selector=f"app.kubernetes.io/instance={service.name}",
        **names,
    )


def write_offline(service: Service, file: str, header: str) -> str:
    """An ``LLM(...)`` script. ``SpecError`` for an engine that has no such class."""
    if service.engine not in _OFFLINE:
        raise SpecError(
            f"{service.engine} has no offline script",
            where="--as python",
            cure=f"it is written for {' and '.join(_OFFLINE)}",
        )
    header += f"\n\nRuns where `pip install vllm=={release_of(service)}` was run."
    if service.engine == "neuron":
        release = "_".join(release_of(service).split(".")[:2])
        venv = f"/opt/aws_neuronx_venv_pytorch_inference_vllm_{release}"
        header = f"{header.rpartition(chr(10))[0]}\nRuns in {venv} of the Neuron image."
    longest = service.input_tokens
    ladder = sorted({max(1, longest >> step) for step in range(_LADDER_STEPS)})
    return _render(
        "offline.py",
        service,
        header,
        file=file,
        env={**_local_launch(service).env, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        arguments=_show_arguments(_exact(service)),
        ladder=ladder,
        batch=service.settings.get("max_num_seqs", 1) if service.engine == "neuron" else 1,
    )


def write_client(service: Service, file: str, header: str) -> str:
    return _render("client.py", service, header, file=file, timeout=ceil(service.request_s))


def _exact(service: Service) -> dict[str, Any]:
    """What ``LLM(...)`` takes: no option of the server alone, the window as a number."""
    window = load_engine(service.engine).window_setting
    return {
        name: parse_tokens(value) if name == window and isinstance(value, str) else value
        for name, value in service.settings.items()
        if not _is_of_the_server(service, name)
    }


def _is_of_the_server(service: Service, name: str) -> bool:
    """Where the release is known: an option of ``vllm serve`` that no engine argument is."""
    facts = load_facts("vllm")
    release = release_of(service)
    if release not in facts.versions:
        return False
    return name not in facts.names("python", release) and name in facts.names("cli", release)


def release_of(service: Service) -> str:
    """VLLM's, also where the engine's version is that of the Neuron plugin."""
    if service.engine != "neuron":
        return service.version
    return find_neuron_release(service.version).vllm


def _show_arguments(settings: Mapping[str, Any]) -> str:
    lines = [f"    {name!r}: {value!r},\n" for name, value in settings.items()]
    return "{\n" + "".join(lines) + "}"


def _local_launch(service: Service) -> Any:
    launch = load_engine(service.engine).launch
    if launch is None:
        raise SpecError(
            f"Leadline does not know how to start {service.engine}",
            where="deployments",
            cure="render it for docker",
        )
    return launch(LaunchRequest(service.model, PORT, service.settings, service.own_env))


def _quote_env(word: str, env_file: str) -> str:
    return '"$env_file"' if word == env_file else shlex.quote(word)


def _render(template: str, service: Service, header: str, **names: Any) -> str:
    start = f"{show_seconds(service.start.low)} to {show_seconds(service.start.high)}"
    return (
        _templates()
        .get_template(f"{template}.j2")
        .render(service=service, header=comment(header), host_port=HOST_PORT, start=start, **names)
    )


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("leadline.render"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - scripts, not pages: quoted by the filters below
    )
    environment.filters |= {"sh": shlex.quote, "py": repr}
    return environment
