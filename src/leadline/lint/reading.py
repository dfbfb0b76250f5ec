"""A file, whatever it is, as the engine commands in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from leadline.catalog.engine_facts import load_facts
from leadline.errors import SpecError
from leadline.lint import campaigns
from leadline.lint.command import Command, Container, Given, Place, Word
from leadline.lint.docker import read_docker_run
from leadline.lint.documents import read_documents
from leadline.lint.images import parse_image
from leadline.lint.manifests import Found, read_compose, read_kubernetes, read_values
from leadline.lint.python import Program, read_program
from leadline.lint.shell import check_readable, read_script, split_command
from leadline.lint.words import Start, find_start, join_places, read_arguments

_VENV = re.compile(r"aws_neuronx_venv\w*_vllm_(\d+)_(\d+)")
_PACKAGE = re.compile(r"(vllm|sglang)(?:\[[\w,]+\])?==(\d[\w.]*)")
_NEURON_KEYS = ("override_neuron_config", "override-neuron-config", "neuron_config")


@dataclass(frozen=True)
class Reading:
    commands: tuple[Command, ...]
    programs: tuple[tuple[Word, ...], ...] = ()
    """Every command line of the file, engine or not."""
    objects: tuple[Mapping[str, Any], ...] = ()
    """Kubernetes objects as plain values, with the line of each under ``__line__``."""
    waits: tuple[tuple[str, float, Place], ...] = ()
    """How long clients in the file wait: name, seconds, place."""


def read_file(name: str, text: str) -> Reading:
    """Raises ``SpecError`` for a text that is not what its name says."""
    if name.endswith((".yaml", ".yml")):
        return _read_yaml(name, text)
    if name.endswith(".py") or text.startswith("#!/usr/bin/env python"):
        return _read_python(name, read_program(text, name))
    script = read_script(text, source=name)
    check_readable(script, name)
    commands = _from_lines(name, script.commands, script.environment)
    version = _installed(script.commands)
    return Reading(
        tuple(_with_installed(command, version) for command in commands),
        tuple(script.commands),
        waits=tuple(_waits(script.commands)),
    )


def _waits(lines: Iterable[Sequence[Word]]) -> Iterator[tuple[str, float, Place]]:
    """``curl --max-time 60``"""
    for words in lines:
        texts = [word.text or "" for word in words]
        if "curl" in texts:
            for text, following in pairwise(words):
                seconds = following.text or ""
                if text.text in ("--max-time", "-m") and seconds.replace(".", "", 1).isdigit():
                    yield f"curl {text.text}", float(seconds), following.place


# --- command lines --------------------------------------------------------------------------


def _from_lines(
    file: str, lines: Iterable[Sequence[Word]], environment: Mapping[str, Given]
) -> Iterator[Command]:
    for words in lines:
        run = read_docker_run(words)
        if run is not None:
            option = run.container.options.get("entrypoint")
            inner = list(run.words)
            if option:
                value = str(option[0].value)
                inner.insert(0, Word(value, option[0].place))
            yield from _in_container(
                file, run.container, (tuple(inner),), run.environment, replaced=bool(option)
            )
            continue
        start = find_start(words)
        if start is not None:
            given = dict(environment) | dict(_prefixes(words))
            yield _command(file, start, given, None)
        elif script := _shell_text(words):
            lines = split_command(script.raw, script.place.line)
            yield from _from_lines(file, lines, environment)


def _shell_text(words: Sequence[Word]) -> Word | None:
    """The script of ``bash -c "…"``."""
    texts = [word.text for word in words]
    if texts and texts[0] in ("bash", "sh") and "-c" in texts[1:3] and len(words) > 2:
        return words[texts.index("-c") + 1]
    return None


def _prefixes(words: Sequence[Word]) -> Iterator[tuple[str, Given]]:
    for word in words:
        name, equals, value = (word.text or "").partition("=")
        if not equals or not name.replace("_", "").isalnum() or not name[0].isalpha():
            if name not in ("env", "sudo", "exec", "nohup"):
                return
            continue
        place = word.place
        yield name, Given(name, name, value, place, place, place, word.is_secret_safe)


def _in_container(
    file: str,
    container: Container,
    lines: Sequence[Sequence[Word]],
    environment: Mapping[str, Given],
    *,
    replaced: bool,
) -> Iterator[Command]:
    """The engine that a container runs: by its command, or because its image starts one."""
    image = parse_image(str(container.image.value)) if container.image else parse_image("")
    for words in lines:
        start = find_start(words)
        if start is None and not replaced and image.starts_engine:
            entry = container.image.place if container.image else container.place
            start = Start("vllm", "image", tuple(words), entry)
        if start is None and (inner := _shell_text(words)):
            yield from _in_container(
                file, container, split_command(inner.raw, inner.place.line), environment,
                replaced=True,
            )  # fmt: skip
        elif start is not None:
            twice = start.form != "image" and not replaced and image.starts_engine
            start = replace(start, form="image twice") if twice else start
            yield _command(file, start, environment, container)


def _command(
    file: str, start: Start, environment: Mapping[str, Given], container: Container | None
) -> Command:
    facts = load_facts(start.engine)
    written, loose = read_arguments(start.rest, facts.arity)
    arguments = tuple(_canonical(each, start.engine) for each in written)
    named = {each.name: each.value for each in arguments}
    model = named.get("model", named.get("model_path"))
    if not isinstance(model, str) and loose and start.form in ("serve", "image twice"):
        model = loose[0].text
    place = join_places([Word("", start.entry), *start.rest]) if start.rest else start.entry
    command = Command(
        engine=start.engine,
        style="cli",
        file=file,
        place=start.entry if start.entry.span is None else place,
        arguments=arguments,
        environment=environment,
        container=container,
        model=model if isinstance(model, str) else None,
        entry=start.entry,
        form=start.form,
    )
    return _identify(command)


def _canonical(given: Given, engine: str) -> Given:
    """Under the name that the engine's newest release stores it by; ``--no-x`` is x, False."""
    facts = load_facts(engine)
    flag = given.text if not given.text.startswith("--") else given.text.replace("_", "-")
    found = facts.destination(flag) or facts.destination(facts.complete(flag) or "")
    if found:
        return replace(given, name=found)
    positive = "--" + flag.removeprefix("--no-")
    if flag.startswith("--no-") and (found := facts.destination(positive)):
        return replace(given, name=found, value=False)
    base, dot, _ = flag.partition(".")
    found = facts.destination(base) if dot else None
    return replace(given, name=f"{found}.{given.name.partition('.')[2]}") if found else given


def _identify(command: Command) -> Command:
    """Version and platform, where the image or the settings tell them."""
    image = command.container.image if command.container else None
    found = parse_image(str(image.value)) if image else parse_image("")
    additional = command.value("additional_config")
    keys = additional if isinstance(additional, dict) else {}
    neuron = (
        found.is_neuron
        or command.value("device") == "neuron"
        or any(key in keys for key in _NEURON_KEYS)
        or "override_neuron_config" in command.given
        or "VLLM_NEURON_FRAMEWORK" in command.environment
    )
    command = replace(command, neuron=command.neuron or (neuron and command.engine == "vllm"))
    if found.version and not command.versions:
        return command.with_versions((found.version,), "the image's tag")
    return command


def _installed(lines: Iterable[Sequence[Word]]) -> dict[str, tuple[str, bool]]:
    """Engines and versions that the script itself installs or activates."""
    found: dict[str, tuple[str, bool]] = {}
    for words in lines:
        texts = [word.text or word.raw for word in words]
        for text in texts:
            if "install" in texts and (match := _PACKAGE.fullmatch(text)):
                found[match[1]] = (match[2], False)
            if match := _VENV.search(text):
                found["vllm"] = (f"{match[1]}.{match[2]}.0", True)
    return found


def _with_installed(command: Command, installed: Mapping[str, tuple[str, bool]]) -> Command:
    if command.versions or command.container or command.engine not in installed:
        return command
    version, neuron = installed[command.engine]
    command = replace(command, neuron=command.neuron or neuron)
    return command.with_versions((version,), "what the script installs")


# --- Python ---------------------------------------------------------------------------------


def _read_python(file: str, program: Program) -> Reading:
    commands = [
        _identify(
            Command(
                engine=call.engine,
                style="python",
                file=file,
                place=call.place,
                arguments=call.arguments,
                environment=program.environment,
                model=call.model,
                entry=call.place,
                form=call.name,
            )
        )
        for call in program.calls
    ]
    lines = [
        tuple(Word(text, place, text is None, text or "") for text, place in line)
        for line in program.command_lines
    ]
    found = (*commands, *_from_lines(file, lines, program.environment))
    return Reading(found, tuple(lines), waits=program.waits)


# --- YAML -----------------------------------------------------------------------------------


def _read_yaml(file: str, text: str) -> Reading:
    documents = [d for d in read_documents(text, file) if d.plain(d.root) is not None]
    keys = {key for document in documents for key, _ in document.items(document.root)}
    if "deployments" in keys:
        return Reading(tuple(map(_identify, campaigns.read_commands(text, documents[0], file))))
    if "services" in keys:
        found: list[Found] = [each for d in documents for each in read_compose(d)]
    elif "servingEngineSpec" in keys:
        found = [each for d in documents for each in read_values(d)]
    elif "kind" in keys:
        found = list(read_kubernetes(documents))
    else:
        raise SpecError(
            "neither a compose file, nor Kubernetes objects, nor Helm values, nor a campaign",
            where=file,
            cure="give a file with services:, with kind: and apiVersion:, with servingEngineSpec:, "
            "or with deployments:",
        )
    commands = [
        command
        for each in found
        for command in _in_container(
            file, each.container, each.commands, each.environment, replaced=each.replaces_entrypoint
        )
    ]
    objects = [
        {**d.plain(d.root), "__line__": d.place(d.root).line} for d in documents if "kind" in keys
    ]
    return Reading(tuple(commands), (), tuple(objects))
