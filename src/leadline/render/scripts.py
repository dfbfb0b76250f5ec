"""Shell and Python scripts from templates; every value is quoted by a library."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
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

_OFFLINE = ("vllm", "neuron")
_LADDER_STEPS = 4
_ONE_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


def write_docker(service: Service, file: str, header: str, env_file: str) -> str:
    groups = run_arguments(service.launch(service.host_port), env_file)
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
        secret=secret_name(service.name),
        several=service.devices.nodes > 1,
        deadline=service.start_limit_s + service.place_limit_s,
        selector=f"app.kubernetes.io/instance={service.name}",
        **names,
    )


def write_offline(service: Service, header: str) -> str:
    """An ``LLM(...)`` script. ``SpecError`` for an engine that has no such class."""
    longest, release = service.input_tokens, vllm_release(service.engine, service.version)
    place = f"Runs where `pip install vllm=={release}` was run."
    if service.engine == "neuron":
        venv = "aws_neuronx_venv_pytorch_inference_vllm_" + "_".join(release.split(".")[:2])
        place = f"Runs in /opt/{venv} of the Neuron image."
    return write_load(
        service.engine,
        service.model,
        service.settings,
        service.own_env,
        header=f"{header}\n\n{place}",
        release=release,
        ladder=sorted({max(1, longest >> step) for step in range(_LADDER_STEPS)}),
        batch=service.settings.get("max_num_seqs", 1) if service.engine == "neuron" else 1,
        output_tokens=service.output_tokens,
    )


def write_load(
    engine: str,
    model: str,
    settings: Mapping[str, Any],
    env: Mapping[str, str],
    *,
    header: str,
    release: str,
    ladder: Sequence[int],
    batch: int,
    output_tokens: int,
) -> str:
    """The same script for a deployment of which no plan is needed.

    ``release`` is vLLM's, empty where it is not known.
    """
    if engine not in _OFFLINE:
        raise SpecError(
            f"{engine} has no offline script",
            where="--as python",
            cure=f"it is written for {' and '.join(_OFFLINE)}",
        )
    return (
        _templates()
        .get_template("offline.py.j2")
        .render(
            header=comment(header),
            model=model,
            env={**_launch(engine, model, settings, env).env, **_ONE_PROCESS},
            arguments=_show_arguments(_exact(engine, settings, release)),
            ladder=list(ladder),
            batch=batch,
            output_tokens=output_tokens,
        )
    )


def write_client(service: Service, file: str, header: str) -> str:
    return _render("client.py", service, header, file=file, timeout=ceil(service.request_s))


def _exact(engine: str, settings: Mapping[str, Any], release: str) -> dict[str, Any]:
    """What ``LLM(...)`` takes: no option of the server alone, the window as a number."""
    window = load_engine(engine).window_setting
    return {
        name: parse_tokens(value) if name == window and isinstance(value, str) else value
        for name, value in settings.items()
        if not _is_of_the_server(release, name)
    }


def _is_of_the_server(release: str, name: str) -> bool:
    """Where the release is known: an option of ``vllm serve`` that no engine argument is."""
    facts = load_facts("vllm")
    if release not in facts.versions:
        return False
    return name not in facts.names("python", release) and name in facts.names("cli", release)


def vllm_release(engine: str, version: str) -> str:
    """VLLM's, also where the engine's version is that of the Neuron plugin; empty if not known."""
    return find_neuron_release(version).vllm if engine == "neuron" and version else version


def _show_arguments(settings: Mapping[str, Any]) -> str:
    lines = [f"    {name!r}: {value!r},\n" for name, value in settings.items()]
    return "{\n" + "".join(lines) + "}"


def _local_launch(service: Service) -> Any:
    return _launch(
        service.engine, service.model, service.settings, service.own_env, service.host_port
    )


def _launch(
    engine: str, model: str, settings: Mapping[str, Any], env: Mapping[str, str], port: int = PORT
) -> Any:
    launch = load_engine(engine).launch
    if launch is None:
        raise SpecError(
            f"Leadline does not know how to start {engine}",
            where="deployments",
            cure="render it for docker",
        )
    return launch(LaunchRequest(model, port, settings, env))


def _quote_env(word: str, env_file: str) -> str:
    return '"$env_file"' if word == env_file else shlex.quote(word)


def _render(template: str, service: Service, header: str, **names: Any) -> str:
    assert service.start  # noqa: S101  (only what a plan has sized is rendered)
    start = f"{show_seconds(service.start.low)} to {show_seconds(service.start.high)}"
    return (
        _templates()
        .get_template(f"{template}.j2")
        .render(service=service, header=comment(header), start=start, **names)
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
