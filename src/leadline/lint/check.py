"""All rules over a file, for every version that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from leadline.catalog.engine_facts import load_facts
from leadline.errors import SpecError
from leadline.lint.command import Command
from leadline.lint.finding import SEVERITIES, Finding
from leadline.lint.neuron import find_release
from leadline.lint.reading import read_file
from leadline.lint.rule import FileRule, Rule
from leadline.lint.rules import arguments, containers, kubernetes, neuron, plans, settings
from leadline.lint.rules.files import FILE_RULES

RULES: tuple[Rule, ...] = (
    *arguments.RULES,
    *settings.RULES,
    *containers.RULES,
    *kubernetes.RULES,
    *neuron.RULES,
    *plans.RULES,
)


def list_rules() -> Sequence[Rule | FileRule]:
    return sorted((*RULES, *FILE_RULES), key=lambda each: each.code)


def lint_text(
    name: str,
    text: str,
    engines: Sequence[str] = (),
    *,
    model: str | None = None,
    hardware: str | None = None,
) -> list[Finding]:
    """Findings by line. ``engines`` (``vllm==0.12.0``) go before what the file says itself.

    Raises ``SpecError`` for a file that cannot be read, or holds no engine command.
    """
    reading = read_file(name, text)
    commands = tuple(
        replace(each, model=each.model or model, hardware=each.hardware or hardware)
        for command in reading.commands
        for each in [_with_version(command, engines)]
    )
    reading = replace(reading, commands=commands)
    found = [*_apply(commands), *(f for r in FILE_RULES for f in r.apply(reading, name))]
    return sorted(_merge(found), key=lambda each: (each.line, SEVERITIES.index(each.severity)))


def count_commands(name: str, text: str) -> int:
    return len(read_file(name, text).commands)


def _apply(commands: Iterable[Command]) -> Iterator[Finding]:
    for command in commands:
        for version in command.versions:
            for rule in RULES:
                yield from rule.apply(command, version)


def _with_version(command: Command, engines: Sequence[str]) -> Command:
    """The versions asked for; else what the file says; else the newest that is known."""
    asked = [_parse(engine) for engine in engines]
    own = [version for name, version in asked if name == command.engine]
    plugins = [version for name, version in asked if name == "neuron" and command.engine == "vllm"]
    if plugins:
        command = replace(command, neuron=True, plugin=plugins[-1])
    if command.plugin and (release := find_release("", command.plugin)):
        return command.with_versions((release.vllm,), "the plugin's")
    if own:
        return command.with_versions(tuple(own), "--engine")
    if command.versions:
        return command
    return command.with_versions((load_facts(command.engine).newest,), "newest")


def _parse(engine: str) -> tuple[str, str]:
    name, _, version = engine.partition("==")
    if name not in ("vllm", "sglang", "neuron") or not version:
        raise SpecError(
            f"{engine!r} is not an engine with its version",
            where="--engine",
            cure="write vllm==0.12.0, sglang==0.5.6.post2 or neuron==0.4.1",
        )
    if name == "neuron":
        if find_release("", version) is None:
            raise SpecError(
                f"no vllm-neuron plugin {version} is known", where="--engine", cure="neuron==0.4.1"
            )
    else:
        load_facts(name).position(version)
    return name, version


def _merge(found: Iterable[Finding]) -> Iterator[Finding]:
    """One finding for all versions that it holds for."""
    merged: dict[tuple[str, str, int, str], Finding] = {}
    for each in found:
        key = (each.code, each.file, each.line, each.what)
        if key in merged:
            versions = dict.fromkeys((*merged[key].versions, *each.versions))
            each = replace(merged[key], versions=tuple(versions))  # noqa: PLW2901
        merged[key] = each
    yield from merged.values()
