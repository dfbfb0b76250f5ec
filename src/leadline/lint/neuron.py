"""A Neuron command of the first plugin generation, as the plugin will read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from leadline.errors import PlanError
from leadline.lint.command import Command, Given
from leadline.plan.neuron_buckets import Buckets
from leadline.plan.neuron_rules import NeuronRelease, find_rule, list_releases
from leadline.plan.neuron_settings import is_on, read_buckets

CORE_SIZE = 2
"""Physical cores of a logical one, trn2's own (LNC)."""


@cache
def neuron_facts() -> Mapping[str, Any]:
    text = (resources.files("leadline.catalog") / "facts" / "neuron.json").read_text("utf-8")
    loaded: Mapping[str, Any] = json.loads(text)
    return loaded


def find_release(version: str, plugin: str) -> NeuronRelease | None:
    """The tuple of packages around a plugin, or around the vLLM release that it extends."""
    found = [r for r in list_releases() if plugin in r.plugins] if plugin else []
    return next(iter(found or [r for r in list_releases() if r.vllm == version]), None)


@dataclass(frozen=True)
class NeuronCommand:
    command: Command
    release: NeuronRelease | None
    additional: Mapping[str, Any]
    override: Mapping[str, Any]

    @property
    def anchor(self) -> Given | None:
        """The argument that holds the overrides."""
        return self.command.given.get("additional_config")

    @property
    def is_plugin(self) -> bool:
        """First generation: vllm-neuron 0.1 to 0.5 with NxDI."""
        return self.release is None or self.release.generation == 1

    @property
    def caches(self) -> bool:
        return self.command.is_on("enable_prefix_caching") is not False

    @property
    def window(self) -> int | None:
        return self.command.window

    @property
    def sequences(self) -> int:
        return self.command.number("max_num_seqs") or 1

    @property
    def block_tokens(self) -> int | None:
        return self.command.number("block_size")

    @property
    def kernels(self) -> list[str]:
        return [flag for flag in find_rule("kernel")["flags"] if is_on(self.override.get(flag))]

    @property
    def buckets(self) -> Buckets | None:
        """None where the lengths are not written in the file, or make no sense."""
        asked = self.override.get("max_context_length")
        prompt = asked if isinstance(asked, int) else self.window
        if not self.window or not prompt:
            return None
        try:
            return read_buckets(self.override, prompt, self.window, caching=self.caches)
        except PlanError:
            return None


def read_neuron(command: Command, version: str) -> NeuronCommand | None:
    """``None`` for a command that does not run on Neuron."""
    if not command.neuron:
        return None
    additional = _mapping(command.value("additional_config"))
    override = _mapping(additional.get("override_neuron_config"))
    return NeuronCommand(command, find_release(version, command.plugin), additional, override)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
