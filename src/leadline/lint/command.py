"""What the readers find in a file and the rules look at: engine commands and containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal

from leadline.units import parse_tokens

Span = tuple[int, int]
"""First byte and the one after the last, in the file as UTF-8."""

Style = Literal["cli", "python", "campaign"]


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
"""A value that stands in a variable or is computed: no rule may judge it."""


@dataclass(frozen=True)
class Place:
    line: int
    span: Span | None = None
    """None where the text is not one piece of the file; such a finding has no fix."""


@dataclass(frozen=True)
class Word:
    """One word of a command line; ``text`` is None where it is not known before it runs."""

    text: str | None
    place: Place
    is_secret_safe: bool = False
    """Comes from a variable, so the text does not stand in the file."""
    raw: str = ""
    """As it stands in the file, variables and all, without its quotes."""


@dataclass(frozen=True)
class Given:
    """One argument as it was written."""

    name: str
    """Underscores, no dashes: ``max_model_len``."""
    text: str
    """As written: ``--max-model-len``."""
    value: Any
    place: Place
    """The whole argument, its value included."""
    name_place: Place
    value_place: Place | None = None
    from_variable: bool = False
    """The value comes from a variable, so it does not stand in the file."""


@dataclass(frozen=True)
class Probe:
    kind: str
    """startup, readiness, liveness or health"""
    place: Place
    path: str | None = None
    """Of the HTTP request, or the whole command of an exec probe."""
    initial_s: float = 0
    period_s: float = 10
    timeout_s: float = 1
    failures: int = 3

    @property
    def patience_s(self) -> float:
        """How long it fails before it acts."""
        return self.initial_s + self.period_s * self.failures


@dataclass(frozen=True)
class Container:
    kind: Literal["docker", "compose", "kubernetes", "values"]
    place: Place
    image: Given | None = None
    options: Mapping[str, tuple[Given, ...]] = field(default_factory=dict)
    """``docker run`` options by long name; compose keys under the names of those."""
    probes: tuple[Probe, ...] = ()
    mounts: Mapping[str, str] = field(default_factory=dict)
    """Path in the container to what is mounted: a source, or the kind of a volume."""
    memory_volumes: Mapping[str, int | None] = field(default_factory=dict)
    """Mount path of each memory-backed emptyDir to its size limit in bytes."""
    memory_limit_bytes: int | None = None
    devices: int | None = None
    pod: Mapping[str, Any] = field(default_factory=dict)
    """Plain values of the pod's specification; ``workload`` is the object around it."""


@dataclass(frozen=True)
class Command:
    """One start of an engine, wherever it stands."""

    engine: str
    """vllm or sglang"""
    style: Style
    file: str
    place: Place
    arguments: tuple[Given, ...] = ()
    environment: Mapping[str, Given] = field(default_factory=dict)
    container: Container | None = None
    neuron: bool = False
    model: str | None = None
    hardware: str | None = None
    versions: tuple[str, ...] = ()
    version_from: str = ""
    plugin: str = ""
    """Version of the Neuron plugin, where it is known."""
    entry: Place | None = None
    """Where the words that start the engine stand."""
    form: str = ""
    """``serve``, ``module``, ``LLM``, ``EngineArgs``, ``AsyncEngineArgs``, ``image``, …"""

    @cached_property
    def given(self) -> Mapping[str, Given]:
        """The last one wins, as for the engine."""
        return {each.name: each for each in self.arguments}

    def value(self, *names: str, default: Any = None) -> Any:
        for name in names:
            if name in self.given:
                return self.given[name].value
        return default

    def number(self, *names: str) -> int | None:
        """A count or a length that is written in the file; ``None`` for anything else."""
        value = self.value(*names)
        if isinstance(value, bool) or not isinstance(value, int | str):
            return None
        try:
            return parse_tokens(value)
        except ValueError:
            return None

    @property
    def window(self) -> int | None:
        return self.number("max_model_len", "context_length")

    @property
    def tensor(self) -> int:
        return self.number("tensor_parallel_size", "tp_size", "tp") or 1

    def is_on(self, name: str) -> bool | None:
        """A switch: True, False, or ``None`` where it is not given or not known."""
        value = self.value(name)
        if isinstance(value, bool):
            return value
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        return known.get(str(value).lower())

    def with_versions(self, versions: tuple[str, ...], origin: str) -> Command:
        return replace(self, versions=versions, version_from=origin)
