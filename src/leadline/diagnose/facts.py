"""What a log tells of the server that wrote it: engine, version, settings, figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from leadline.diagnose.log import Log
from leadline.engines.engine import load_engine
from leadline.engines.statements import Words, read_words
from leadline.plan.schema import Plan

_ENGINES = {
    "sglang": re.compile(r"server_args=ServerArgs|\bsglang[./ ]", re.IGNORECASE),
    "vllm": re.compile(r"\bvllm[./ :]|V1 LLM engine|EngineCore", re.IGNORECASE),
    "llamacpp": re.compile(r"llama_model_loader|llama_init|gguf_init|llama_server|slot launch"),
    "neuron": re.compile(r"\bNRT:|TDRV:|neuronx|NxD"),
}
_VERSIONS = (
    re.compile(r"(?:vLLM API server|\bversion)[ (v]*(?P<v>\d+\.\d+\.\d+[\w.]*)"),
    re.compile(r"LLM engine \(v(?P<v>\d+\.\d+\.\d+[\w.]*)\)"),
    re.compile(r"sglang(?:==| version[: ]+| v)(?P<v>\d+\.\d+\.\d+[\w.]*)", re.IGNORECASE),
)
_SETTING = re.compile(r"(?<![\w.'])(\w+)=('[^']*'|-?[\w.:+-]+)")
_OUT_OF_MEMORY = re.compile(
    r"Tried to allocate (?P<tried>[\d.]+) (?P<unit>[KMG]iB)"
    r"(?:.*?total capacity of (?P<total>[\d.]+) GiB"
    r" of which (?P<free>[\d.]+) (?P<free_unit>[KMG]iB) is free)?"
)
_GIB = {"KiB": 1 / 1024**2, "MiB": 1 / 1024, "GiB": 1.0}


@dataclass(frozen=True)
class Allocation:
    """One that failed, in GiB of one device."""

    tried_gib: float
    total_gib: float | None
    free_gib: float | None

    @property
    def short_gib(self) -> float:
        return max(self.tried_gib - (self.free_gib or 0), 0)


@dataclass(frozen=True)
class LogFacts:
    log: Log
    plan: Plan | None = None
    """Of the deployment that is said, or read off the log, to have written it."""
    engine_hint: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Settings known from elsewhere: a campaign, options."""

    @cached_property
    def engine(self) -> str:
        if self.engine_hint:
            return self.engine_hint
        for line in self.log.lines:
            for name, pattern in _ENGINES.items():
                if pattern.search(line.raw):
                    return name
        return ""

    @cached_property
    def version(self) -> str:
        found = (pattern.search(line.raw) for line in self.log.lines for pattern in _VERSIONS)
        return next((match["v"] for match in found if match), "")

    @cached_property
    def words(self) -> Words:
        """Figures and settings, by the engine's own table."""
        if self.engine not in ("vllm", "sglang", "llamacpp"):
            return Words()
        facts = load_engine(self.engine)
        lines = (line.raw for line in self.log.lines)
        return read_words(lines, facts.statements, facts.resolved)

    @cached_property
    def settings(self) -> dict[str, str]:
        return {**dict(self._command_settings()), **self.words.settings, **self.extra}

    @cached_property
    def out_of_memory(self) -> Allocation | None:
        for line in self.log.lines:
            if line.level != "DEBUG" and (match := _OUT_OF_MEMORY.search(line.text)):
                return _read_allocation(match)
        return None

    @property
    def shows_arguments(self) -> bool:
        """VLLM lists what was given: what is not in it has its default."""
        return any("non-default args" in line.text for line in self.log.lines)

    @property
    def pool_stood(self) -> bool:
        """The KV cache had been taken: it says its size, or the server served."""
        served = any("EngineDeadError" in line.text for line in self.log.lines)
        return served or self.log.ready_line is not None or self.figure("kv_tokens") is not None

    def number(self, name: str) -> float | None:
        """A setting as a number, where the log or the caller says it."""
        try:
            return float(self.settings[name])
        except (KeyError, ValueError):
            return None

    def figure(self, name: str) -> float | None:
        value: Any = self.words.figures.get(name)
        return float(value) if isinstance(value, int | float) else None

    def _command_settings(self) -> Iterator[tuple[str, str]]:
        for line in self.log.lines:
            if "ServerArgs(" in line.raw:
                for name, value in _SETTING.findall(line.raw):
                    yield name, value.strip("'")


def _read_allocation(match: re.Match[str]) -> Allocation:
    free = match["free"]
    return Allocation(
        tried_gib=float(match["tried"]) * _GIB[match["unit"]],
        total_gib=float(match["total"]) if match["total"] else None,
        free_gib=float(free) * _GIB[match["free_unit"]] if free else None,
    )
