"""Campaigns on the real engines, through the command line a user types.

An engine's environment is the one that Leadline installs (see ``environments``), or is named by a
variable, for example ``LEADLINE_VLLM_0_32=/opt/v32`` (the folder with ``bin/vllm``).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.real_engines.environments import Environment, require
from tests.real_engines.killing import Killing
from tests.real_engines.leftovers import watching
from tests.real_engines.small_models import SHAPES, make_model

CAMPAIGNS = Path(__file__).parent / "campaigns"
LONG_WORDS = 2_000_000
CAMPAIGN_S = 1200.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
# Else each of a server's processes compiles the engine again, where the machine forbids to keep it.
KEEP_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True)
class Outcome:
    code: int
    report: dict[str, Any]
    stderr: str

    def cell(self, fragment: str) -> dict[str, Any]:
        (found,) = [cell for cell in self.report["cells"] if fragment in cell["cell"]]
        return dict(found)

    def findings(self, fragment: str) -> dict[str, dict[str, Any]]:
        """By code."""
        found = [one for one in self.report["findings"] if fragment in one["cell"]]
        return {one["code"]: one for one in found}

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
        meanwhile: Killing | None = None,
    ) -> Outcome:
        command = [sys.executable, "-m", "leadline.cli", "run", str(CAMPAIGNS / f"{name}.yaml")]
        return run_leadline(
            [*command, "--runs", str(tmp_path / "runs"), "--json", *options],
            tmp_path / "runs",
            meanwhile,
            cwd=models,
            env=engine_environment(engine),
        )

    with watching(lambda: servers_of(models)) as leftovers:
        yield run
    assert leftovers.processes() == []
    assert leftovers.segments() == []


def run_leadline(
    command: Sequence[str], runs: Path, meanwhile: Killing | None = None, **options: Any
) -> Outcome:
    """Its end is waited for also when what happens meanwhile fails: it stops what it started."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            if meanwhile:
                meanwhile(process.pid, runs)
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
        stdout, stderr = process.communicate(timeout=CAMPAIGN_S)
        if meanwhile:
            meanwhile.ended()
    assert stdout.strip(), stderr
    return Outcome(process.returncode, json.loads(stdout), stderr)


def engine_environment(engine: Environment) -> dict[str, str]:
    """With the engine's programs on PATH and nothing asked of the hub."""
    path = f"{require(engine) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **OFFLINE, **KEEP_BYTECODE, "PATH": path}


def servers_of(models: Path) -> list[int]:
    """Processes that were started in the folder of our models."""
    here = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(models)]
    return [process.pid for process in here if process.is_running()]
