"""The environments that Leadline made for engines: where they lie, and which one a pin means."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import orjson

from leadline.errors import DeployError

STAMP = "leadline-engine.json"
_SCHEMA = "leadline.engine/1"
# What `PATH` is searched for where no environment was made.
_ON_PATH = {"vllm": "vllm", "sglang": "sglang"}

State = Literal["ready", "unfinished"]


@dataclass(frozen=True)
class Installed:
    """One environment, as its stamp says."""

    engine: str
    version: str
    device: str
    state: State
    folder: Path
    program: str
    """Path of what the process target starts."""
    size_bytes: int = 0
    reported_version: str = ""
    """What the engine itself said after the install."""

    @property
    def name(self) -> str:
        return f"{self.engine}=={self.version}"

    def facts(self) -> dict[str, Any]:
        return {
            "schema": _SCHEMA,
            "engine": self.engine,
            "version": self.version,
            "device": self.device,
            "state": self.state,
            "program": self.program,
            "size_bytes": self.size_bytes,
            "reported_version": self.reported_version,
        }


def engines_folder() -> Path:
    """``LEADLINE_ENGINES``, else ``leadline/engines`` in the user's data folder."""
    if own := os.environ.get("LEADLINE_ENGINES"):
        return Path(own).absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "leadline" / "engines"


def list_installed() -> list[Installed]:
    """Every environment with our stamp, by engine, version and device."""
    found = [_read(stamp) for stamp in engines_folder().glob(f"*/{STAMP}")]
    return sorted(
        (one for one in found if one), key=lambda one: (one.engine, _order(one), one.device)
    )


def write_stamp(installed: Installed) -> None:
    """Replace the stamp in one step, so that a reader finds the old one or the new one whole."""
    fresh = installed.folder / f"{STAMP}.new"
    fresh.write_bytes(orjson.dumps(installed.facts(), option=orjson.OPT_INDENT_2))
    fresh.replace(installed.folder / STAMP)


def find_program(pin: str) -> str | None:
    """The program of the environment that ``vllm==0.12.0`` or ``vllm`` means.

    ``None``: the engine's own default, which is on ``PATH`` or part of Leadline. A pin prefers the
    environment, since the version on ``PATH`` is unknown. Raises ``DeployError`` with the install
    command where there is neither.
    """
    engine, _, version = pin.partition("==")
    managed = _choose(engine, version)
    default = _has_default(engine)
    if managed and (version or not default):
        return managed.program
    if default:
        return None
    raise DeployError(
        f"{pin} is not installed",
        where=str(engines_folder()),
        cure=f"leadline engines install {pin} --device {local_device()}, or give target.executable",
    )


def find_python(pin: str) -> str:
    """The Python that has the engine: beside the program of ``find_program``, or of the one on
    PATH. ``DeployError`` where neither is there.
    """
    engine = pin.partition("==")[0]
    program = find_program(pin) or shutil.which(_ON_PATH.get(engine, "vllm"))
    python = Path(program).parent / "python" if program else None
    if python is None or not python.exists():
        raise DeployError(
            f"no Python that has {pin} is found",
            where=program or "PATH",
            cure="activate the engine's environment, or give target.executable",
        )
    return str(python)


def local_device() -> Literal["cuda", "cpu"]:
    """What this machine can run engines on, by the presence of NVIDIA's driver."""
    return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"


def _choose(engine: str, version: str) -> Installed | None:
    """The newest ready environment; where one version is there twice, that for this machine."""
    fitting = [
        one
        for one in list_installed()
        if one.engine == engine and version in ("", one.version) and one.state == "ready"
    ]
    return max(fitting, key=lambda one: (_order(one), one.device == local_device()), default=None)


def _has_default(engine: str) -> bool:
    if engine == "llamacpp":
        return find_spec("xllamacpp") is not None
    program = _ON_PATH.get(engine)
    return program is None or shutil.which(program) is not None


def _order(one: Installed) -> tuple[tuple[int, str], ...]:
    """``0.12.0`` after ``0.9.2``; a number sorts before a word."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in _parts(one.version))


def _parts(version: str) -> list[str]:
    return version.replace("+", ".").split(".")


def _read(stamp: Path) -> Installed | None:
    """``None`` for what is no stamp of ours, such as one of a later Leadline."""
    try:
        facts = orjson.loads(stamp.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    if not isinstance(facts, dict) or facts.pop("schema", None) != _SCHEMA:
        return None
    if facts.keys() != {field.name for field in fields(Installed)} - {"folder"}:
        return None
    return Installed(folder=stamp.parent, **facts)
