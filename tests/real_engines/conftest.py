"""Campaigns on the real engines, through the command line a user types.

An engine's environment is the one that Leadline installs (see ``environments``), or is named by a
variable, for example ``LEADLINE_VLLM_0_32=/opt/v32`` (the folder with ``bin/vllm``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.real_engines.environments import Environment, require
from tests.real_engines.leftovers import watching
from tests.real_engines.small_models import SHAPES, make_model

CAMPAIGNS = Path(__file__).parent / "campaigns"
LONG_WORDS = 2_000_000


@dataclass(frozen=True)
class Outcome:
    code: int
    report: dict[str, Any]
    stderr: str

    def comparisons(self) -> list[tuple[str, float, float]]:
        """(figure, the engine's, the plan's) of every deployment that was ready."""
        return [
            (found["name"], found["engine"], found["plan"])
            for item in self.report["deployments"]
            if item["words"]
            for found in item["words"]["comparisons"]
        ]


RunCampaign = Callable[..., Outcome]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the campaigns run in."""
    folder = tmp_path_factory.mktemp("models")
    for name in SHAPES:
        make_model(folder, name)
    return folder


@pytest.fixture(scope="session")
def long_text(models: Path) -> Path:
    """Ten million bytes and more of numbered words, none of which comes twice."""
    path = models / "long.txt"
    path.write_text(" ".join(f"w{n}" for n in range(LONG_WORDS)), encoding="utf-8")
    return path


@pytest.fixture
def run_campaign(models: Path, tmp_path: Path) -> Iterator[RunCampaign]:
    """Run a campaign with an engine; neither processes nor shared memory may be left behind."""

    def run(
        name: str,
        engine: Environment,
        *options: str,
        timeout_s: float = 1200,
        meanwhile: Callable[[int, Path], None] | None = None,
    ) -> Outcome:
        command = [sys.executable, "-m", "leadline.cli", "run", str(CAMPAIGNS / f"{name}.yaml")]
        process = subprocess.Popen(
            [*command, "--runs", str(tmp_path / "runs"), "--json", *options],
            cwd=models,
            env=engine_environment(engine),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if meanwhile:
            meanwhile(process.pid, tmp_path / "runs")
        stdout, stderr = process.communicate(timeout=timeout_s)
        assert stdout.strip(), stderr
        return Outcome(process.returncode, json.loads(stdout), stderr)

    with watching(lambda: servers_of(models)) as leftovers:
        yield run
    assert leftovers.processes() == []
    assert leftovers.segments() == []


def engine_environment(engine: Environment) -> dict[str, str]:
    """With the engine's programs on PATH and nothing asked of the hub."""
    path = f"{require(engine) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**os.environ, **offline, "PATH": path}


def servers_of(models: Path) -> list[int]:
    """Processes that were started in the folder of our models."""
    here = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(models)]
    return [process.pid for process in here if process.is_running()]
