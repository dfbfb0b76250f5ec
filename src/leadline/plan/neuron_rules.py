"""The Neuron rules as data, each with how it is known, and the package tuples they hold for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.plan.ledger import Kind
from leadline.plan.schema import Finding

MARKS: Mapping[Kind, str] = {
    "derived": "first principles",
    "calibrated": "calibrated",
    "recorded": "recorded",
    "prior": "assumed",
}
"""How a rule is known, in the words that people read."""


class Rule(BaseModel):
    """A rule of ``catalog/neuron.toml``; its numbers are extra fields, read with ``[...]``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    kind: Kind
    source: str
    uncertainty: str

    def __getitem__(self, key: str) -> Any:
        return (self.model_extra or {})[key]

    @property
    def mark(self) -> str:
        return MARKS[self.kind]

    def note(self, text: str) -> str:
        """A sentence for the plan's warnings, with how it is known and how surely."""
        return f"{text} ({self.mark}: {self.source}; not sure: {self.uncertainty})"

    def find(self, code: str, reason: str, flag: str, direction: str, amount: str) -> Finding:
        """A finding that rests on this rule."""
        return Finding.model_validate(
            {
                "code": code,
                "reason": reason,
                "flag": flag,
                "direction": direction,
                "amount": amount,
                "kind": self.kind,
            }
        )


class NeuronRelease(BaseModel):
    """One tuple of packages that were released together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sdk: str
    neuronx_cc: str
    nxdi: str
    plugins: tuple[str, ...]
    vllm: str
    generation: int
    tiled_kernel: bool = False
    context_kernel_tokens: int = 0
    kv_quant_key: str = ""

    def __str__(self) -> str:
        plugin = f"vllm-neuron {self.plugins[0]}, " if self.plugins else ""
        nxdi = f"NxDI {self.nxdi}, " if self.nxdi else ""
        return f"{plugin}vLLM {self.vllm}, {nxdi}neuronx-cc {self.neuronx_cc}, SDK {self.sdk}"


@cache
def find_rule(name: str) -> Rule:
    return Rule.model_validate(read_table("neuron")["rule"][name] | {"name": name})


@cache
def list_rules() -> tuple[Rule, ...]:
    return tuple(find_rule(name) for name in read_table("neuron")["rule"])


@cache
def list_releases() -> tuple[NeuronRelease, ...]:
    return tuple(NeuronRelease.model_validate(row) for row in read_table("neuron")["release"])


def find_neuron_release(version: str) -> NeuronRelease:
    """The tuple of a plugin version or of the vLLM version that it extends.

    Their numbers do not overlap: plugins are 0.1 to 0.5 and, natively, the vLLM version itself
    with three more parts.
    """
    for release in list_releases():
        if version in (*release.plugins, release.vllm):
            return _check_generation(release)
    known = ", ".join(
        f"{release.plugins[0]} (vLLM {release.vllm})"
        for release in list_releases()
        if release.plugins
    )
    raise PlanError(
        f"no vLLM-Neuron release {version!r} is known",
        where="engine",
        cure=f"write neuron==PLUGIN or neuron==VLLM; known: {known}",
    )


def _check_generation(release: NeuronRelease) -> NeuronRelease:
    if release.generation == 0:
        raise PlanError(
            f"vLLM {release.vllm} on Neuron is the fork of SDK {release.sdk}, before the plugin",
            where="engine",
            cure="plan neuron==0.4.1 (vLLM 0.13.0, SDK 2.28) or newer",
        )
    return release
