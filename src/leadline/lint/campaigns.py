"""Campaign files: each deployment as the command that it will become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ruamel.yaml.nodes import Node

from leadline.catalog.engine_facts import ENGINES
from leadline.lint.command import Command, Given, Place
from leadline.lint.documents import Document
from leadline.spec import Campaign, parse_campaign


def read_commands(text: str, document: Document, file: str) -> Iterator[Command]:
    """Raises ``SpecError`` for a campaign that `leadline run` would refuse."""
    campaign = parse_campaign(text, source=file)
    for name in campaign.deployments:
        command = _command(campaign, document, name, file)
        if command is not None:
            yield command


def _command(campaign: Campaign, document: Document, name: str, file: str) -> Command | None:
    deployment = campaign.deployment(name)
    engine, _, version = (deployment.engine or "").partition("==")
    neuron = engine == "neuron"
    engine = "vllm" if neuron else engine
    if engine not in ENGINES:
        return None
    node = document.get(document.root, "deployments", name)
    place = document.place(node) if node is not None else Place(1)
    command = Command(
        engine=engine,
        style="campaign",
        file=file,
        place=place,
        arguments=tuple(_settings(campaign, document, name)),
        environment={given.name: given for given in _collect(campaign, document, name, "env")},
        neuron=neuron,
        model=deployment.model,
        hardware=campaign.hardware,
        entry=place,
        form=deployment.target.kind,
    )
    if neuron and version:
        return replace(command, plugin=version)
    return command.with_versions((version,), "the campaign") if version else command


def _settings(campaign: Campaign, document: Document, name: str) -> Iterator[Given]:
    for given in _collect(campaign, document, name, "settings"):
        yield replace(given, name=given.name.lstrip("-").replace("-", "_"))


def _collect(campaign: Campaign, document: Document, name: str, field: str) -> Iterator[Given]:
    """The parent's first, so that the own ones win."""
    deployment = campaign.deployments[name]
    if deployment.extends:
        yield from _collect(campaign, document, deployment.extends, field)
    node: Node | None = document.get(document.root, "deployments", name, field)
    for key, value in document.items(node):
        yield document.given(key, value)
