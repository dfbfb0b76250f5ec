"""What each release of an engine takes: arguments, environment variables, metric names.

The tables in ``catalog/facts`` are read from the engines' own distributions by the ``facts``
folder of the repository; each release there names its file and its SHA-256.
"""

from __future__ import annotations

import difflib
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal, NamedTuple

from packaging.version import InvalidVersion, Version

from leadline.errors import PlanError

Surface = Literal["cli", "python", "environment", "metrics", "logs"]
"""``cli``: options of the server; ``python``: keywords of ``LLM()`` and ``Engine()``; ``logs``:
phrases that our tables wait for."""

ENGINES = ("vllm", "sglang")
_ANY_NUMBER = 99


@dataclass(frozen=True)
class Argument:
    """One argument as one release takes it."""

    name: str
    kind: str
    """switch, boolean (``--no-`` too), int, size (1K, 2M), float, str, json, optional"""
    flags: tuple[str, ...] = ()
    many: bool = False
    bare: bool = False
    """May stand without a value."""
    choices: tuple[Any, ...] = ()
    default: Any = None
    has_default: bool = False
    deprecated: str = ""
    """The engine's own sentence that says so."""


class History(NamedTuple):
    """When a name came and went; ``removed`` is the first release without it."""

    added: str
    last: str
    removed: str | None


class EngineFacts:
    """All releases of one engine that were read."""

    def __init__(self, engine: str) -> None:
        text = (resources.files("leadline.catalog") / "facts" / f"{engine}.json").read_text("utf-8")
        self.engine = engine
        self._tables: Mapping[str, Any] = json.loads(text)

    @cached_property
    def versions(self) -> tuple[str, ...]:
        return tuple(row["version"] for row in self._tables["versions"])

    @cached_property
    def _parsed(self) -> tuple[Version, ...]:
        return tuple(Version(text) for text in self.versions)

    @property
    def newest(self) -> str:
        return self.versions[-1]

    def source(self, version: str) -> str:
        """The file that the facts of this release were read from."""
        row = self._tables["versions"][self.position(version)]
        return f"{row['file']} of {row['released']}"

    def position(self, version: str) -> int:
        """The newest release read that is not newer; ``PlanError`` before the oldest."""
        found = bisect_right(self._parsed, parse_release(version)) - 1
        if found < 0:
            raise PlanError(
                f"{self.engine} {version} is older than the oldest known here, {self.versions[0]}",
                where="engine",
                cure=f"name a version from {self.versions[0]} to {self.newest}",
            )
        return found

    def is_newer_than_read(self, version: str) -> bool:
        return parse_release(version) > self._parsed[-1]

    def names(self, surface: Surface, version: str) -> Mapping[str, Argument]:
        return _names(self, surface, self.position(version))

    def flags(self, version: str) -> Mapping[str, Argument]:
        """Every spelling of every option: ``--max-model-len``, ``-tp``."""
        return _flags(self, self.position(version))

    def history(self, surface: Surface, name: str) -> History | None:
        """Over all releases; what comes back counts as never gone. Options by their flag."""
        known = [at for first, last, _ in self._spans(surface, name) for at in (first, last)]
        if not known:
            return None
        first, last = min(known), max(known)
        gone = self.versions[last + 1] if last + 1 < len(self.versions) else None
        return History(self.versions[first], self.versions[last], gone)

    def deprecated_since(self, surface: Surface, name: str, version: str) -> str | None:
        """First release of the unbroken run of deprecated ones that reaches ``version``."""
        since, at = None, self.position(version)
        for first, _, spec in sorted(self._spans(surface, name), key=lambda span: span[0]):
            if first <= at:
                since = (since or self.versions[first]) if "deprecated" in spec else None
        return since

    def nearest(self, surface: Surface, name: str, version: str) -> str | None:
        known = self.flags(version) if surface == "cli" else self.names(surface, version)
        found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
        return found[0] if found else None

    def arity(self, flag: str) -> int:
        """How many words after an option may be its values, in any release that has it."""
        plain = "--" + flag.lstrip("-").replace("_", "-").split(".")[0]
        for spelling in (flag, plain):
            if spans := self._spans("cli", spelling):
                return max(_count_values(spec) for _, _, spec in spans)
        return 0 if plain.startswith("--no-") or re.fullmatch(r"-O\d", flag) else 1

    def complete(self, flag: str) -> str | None:
        """The option that an abbreviation stands for in the newest release, as for argparse."""
        known = self.flags(self.newest).items() if flag.startswith("--") else ()
        found = {argument.name: name for name, argument in known if name.startswith(flag)}
        return next(iter(found.values())) if len(found) == 1 else None

    def destination(self, flag: str) -> str | None:
        """The name that an option goes by, in the newest release that has it."""
        named = [
            (last, name)
            for name, entry in self._tables["cli"].items()
            for _, last, spec in _split(entry)
            if flag in spec.get("flags", ())
        ]
        return max(named)[1] if named else None

    def _spans(self, surface: Surface, name: str) -> list[tuple[int, int, Mapping[str, Any]]]:
        """(first release, last release, what it is there)"""
        if surface != "cli":
            entry = self._tables[surface].get(name)
            return list(_split(entry)) if entry else []
        return [
            span
            for entry in self._tables["cli"].values()
            for span in _split(entry)
            if name in span[2].get("flags", ())
        ]

    def entries(self, surface: Surface, at: int) -> Iterator[Argument]:
        for name, entry in self._tables[surface].items():
            if any(first <= at <= last for first, last in entry["in"]):
                yield _argument(name, entry, at)


@cache
def load_facts(engine: str) -> EngineFacts:
    return EngineFacts(engine)


@cache
def parse_release(text: str) -> Version:
    """``v0.5.6.post2-runtime`` as 0.5.6.post2: what follows a dash is the image's own."""
    try:
        return Version(text.strip().removeprefix("v").split("-")[0].split("+")[0])
    except InvalidVersion:
        raise PlanError(
            f"{text!r} is not a version", where="engine", cure="write vllm==0.12.0"
        ) from None


def _split(entry: Mapping[str, Any]) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """The releases of an entry, cut where what it is changes."""
    changes = entry.get("facts", [[0, {"kind": "str"}]])
    for first, last in entry["in"]:
        starts = [at for at, _ in changes if first < at <= last]
        for start, end in zip([first, *starts], [*(at - 1 for at in starts), last], strict=True):
            yield start, end, _spec(entry, start)


def _spec(entry: Mapping[str, Any], at: int) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = {"kind": "str"}
    for index, change in entry.get("facts", ()):
        if index <= at:
            spec = change
    return spec


def _count_values(spec: Mapping[str, Any]) -> int:
    if spec["kind"] in ("switch", "boolean"):
        return 0
    return _ANY_NUMBER if spec.get("many") else 1


@cache
def _flags(facts: EngineFacts, at: int) -> Mapping[str, Argument]:
    return {flag: argument for argument in facts.entries("cli", at) for flag in argument.flags}


@cache
def _names(facts: EngineFacts, surface: Surface, at: int) -> Mapping[str, Argument]:
    return {argument.name: argument for argument in facts.entries(surface, at)}


def _argument(name: str, entry: Mapping[str, Any], at: int) -> Argument:
    spec = _spec(entry, at)
    return Argument(
        name=name,
        kind=spec["kind"],
        flags=tuple(spec.get("flags", ())),
        many=spec.get("many", False),
        bare=spec.get("bare", False),
        choices=tuple(spec.get("choices", ())),
        default=spec.get("default"),
        has_default="default" in spec,
        deprecated=spec.get("deprecated", ""),
    )
