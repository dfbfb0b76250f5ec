"""What is installed for an engine pin and a device: a recipe of the catalog, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from leadline.catalog.reading import read_table
from leadline.errors import SpecError
from leadline.spec import Frozen

_PIN = re.compile(r"(?P<engine>[a-z][a-z0-9-]*)(==(?P<version>[0-9][A-Za-z0-9.+!]*))?")
_LOCK_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)  # (?P<bytes>\d+)")


class Package(NamedTuple):
    """One line of a lock."""

    name: str
    version: str
    download_bytes: int

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"


class NamedAs(Frozen):
    name: str
    suffix: str
    why: str


class Release(Frozen):
    """A version whose packages are all pinned."""

    python: str
    disk_mb: int
    disk_source: str
    needs: str = ""
    """What pip must be able to reach beyond the public index."""


class Recipe(Frozen):
    """See the head of ``catalog/engines.toml``."""

    package: str
    program: str
    version_check: tuple[str, ...]
    source: str
    named_as: NamedAs | None = None
    left_out: Mapping[str, str] = {}
    releases: Mapping[str, Release] = {}


class Order(NamedTuple):
    """One environment to make."""

    engine: str
    version: str
    device: str
    recipe: Recipe
    packages: tuple[Package, ...] = ()
    """Everything that a release installs, in the order of its lock; empty without a lock."""

    @property
    def name(self) -> str:
        return f"{self.engine}=={self.version}"

    @property
    def download_bytes(self) -> int:
        return sum(package.download_bytes for package in self.packages)

    @property
    def release(self) -> Release | None:
        """``None``: pip resolves this version itself, and nobody has tried the result."""
        return self.recipe.releases.get(self.version)


def read_order(pin: str, device: str) -> Order:
    """What ``vllm==0.12.0`` on ``cpu`` means; without a version the newest with a lock.

    Raises ``SpecError`` for what nobody can install, with what to do instead.
    """
    match = _PIN.fullmatch(pin)
    table = read_table("engines")
    if match is None or match["engine"] not in table:
        raise SpecError(
            f"no recipe for {pin!r}",
            where="engines install",
            cure=f"write ENGINE==VERSION with one of {', '.join(table)}",
        )
    engine = match["engine"]
    recipe = _read_recipe(engine, device, table[engine])
    version = match["version"] or next(iter(recipe.releases))
    lock = read_lock(engine, version, device) if version in recipe.releases else ()
    return Order(engine, version, device, recipe, lock)


def list_orders() -> list[Order]:
    """Everything that has a lock."""
    return [
        read_order(f"{engine}=={version}", device)
        for engine, devices in read_table("engines").items()
        for device, recipe in devices.items()
        for version in recipe.get("releases", ())
    ]


def read_lock(engine: str, version: str, device: str) -> tuple[Package, ...]:
    file = files("leadline.catalog") / "engine_locks" / f"{engine}-{version}-{device}.txt"
    lines = file.read_text("utf-8").splitlines()
    matches = [_LOCK_LINE.fullmatch(line) for line in lines if not line.startswith("#")]
    return tuple(Package(m["name"], m["version"], int(m["bytes"])) for m in matches if m)


def _read_recipe(engine: str, device: str, devices: Mapping[str, Any]) -> Recipe:
    table = devices.get(device) or (next(iter(devices.values())) if len(devices) == 1 else None)
    if table is None:
        raise SpecError(
            f"no recipe for {engine} on {device}",
            where="--device",
            cure=f"use one of {', '.join(devices)}",
        )
    if "refused" in table:
        raise SpecError(table["refused"], where="engines install", cure=table["instead"])
    if device not in devices:
        raise SpecError(
            f"no recipe for {engine} on {device}",
            where="--device",
            cure=f"--device {next(iter(devices))}",
        )
    return Recipe.model_validate(table)
