"""Which engines these tests have: there already, built now, or left out with the reason in words.

vLLM 0.32.0 is the first tier: it is built wherever the disk has room, and a build that fails is a
failure. The others are the second: what of them is absent is built, and what is there is run, while
the session's time lasts (``LEADLINE_ENGINES_BUDGET_S``, 1,100 seconds unless told); a build that
fails is said. None is tried twice in a session. ``LEADLINE_SKIP_ENGINES=1`` leaves all of them out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.real_engines.sglang_environment import VERSION as SGLANG
from tests.real_engines.sglang_environment import environments, is_built, sglang_python

from leadline.engines.installed import engines_folder, list_installed

BEGUN_S = time.monotonic()
_BUDGET_S = 1100.0
# Between the end of a build and that of the session.
_TESTS_S = 120.0
# Name to why.
_unbuilt: dict[str, str] = {}


@dataclass(frozen=True)
class Environment:
    name: str
    variable: str
    """Names a folder of the user's own that is to be used instead; empty: there is none."""
    disk_gb: float
    """While it is built: downloads and what they are unpacked to."""
    build_s: float
    """About, on two idle cores."""
    tier: int
    present: Callable[[], bool]
    folder: Callable[[], Path]
    """Where it lies or will lie."""
    build: Callable[[], object]


def _vllm(version: str, disk_gb: float, build_s: float, tier: int) -> Environment:
    pin = f"vllm=={version}"
    install = [sys.executable, "-m", "leadline.cli", "engines", "install", pin, "--device", "cpu"]
    return Environment(
        name=pin,
        variable=f"LEADLINE_VLLM_{version.rpartition('.')[0].replace('.', '_')}",
        disk_gb=disk_gb,
        build_s=build_s,
        tier=tier,
        present=lambda: any(one.name == pin and one.state == "ready" for one in list_installed()),
        folder=lambda: engines_folder() / f"vllm-{version}-cpu",
        build=lambda: subprocess.run(install, check=True, stdout=sys.stderr),
    )


VLLM_0_32 = _vllm("0.32.0", disk_gb=6, build_s=150, tier=1)
VLLM_0_12 = _vllm("0.12.0", disk_gb=16, build_s=400, tier=2)
SGLANG_0_5 = Environment(
    name=f"sglang=={SGLANG}",
    variable="",
    disk_gb=6,
    build_s=300,
    tier=2,
    present=is_built,
    folder=environments,
    build=sglang_python,
)


def require(environment: Environment) -> Path:
    """Its folder. Skips the test, with the reason in words, where it is not to be had."""
    if own := environment.variable and os.environ.get(environment.variable):
        return Path(own)
    if reason := _reason_against(environment):
        pytest.skip(f"{environment.name} was NOT tested: {reason}")
    if not environment.present():
        _build(environment)
    return environment.folder()


def _build(environment: Environment) -> None:
    if environment.name not in _unbuilt:
        begun = time.monotonic()
        try:
            environment.build()
        except (subprocess.CalledProcessError, OSError) as error:
            _unbuilt[environment.name] = f"it could not be built: {error}"
        else:
            sys.stderr.write(f"{environment.name} built in {time.monotonic() - begun:.0f} s\n")
            return
    told = f"{environment.name} was NOT tested: {_unbuilt[environment.name]}"
    if environment.tier == 1:
        pytest.fail(told)
    pytest.skip(told)


def _reason_against(environment: Environment) -> str:
    if os.environ.get("LEADLINE_SKIP_ENGINES"):
        return "LEADLINE_SKIP_ENGINES is set"
    present = environment.present()
    left_s = _budget_s() - (time.monotonic() - BEGUN_S)
    needed_s = 0 if present else environment.build_s + _TESTS_S
    if environment.tier > 1 and left_s < needed_s:
        building = "" if present else f", and its build takes about {environment.build_s:.0f} s"
        return (
            f"{max(left_s, 0):.0f} s are left of this session{building}; "
            "`make test-engines-long` has no such limit"
        )
    free_gb = _free_gb(environment.folder())
    if not present and free_gb < environment.disk_gb:
        return f"{free_gb:.0f} GB of disk are free, its build takes {environment.disk_gb:.0f}"
    return ""


def _budget_s() -> float:
    return float(os.environ.get("LEADLINE_ENGINES_BUDGET_S") or _BUDGET_S)


def _free_gb(folder: Path) -> float:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free / 1e9
