"""Campaigns on the real engines, through the command line a user types.

An engine's environment is the one that Leadline installed, or is named by a variable, for example
``LEADLINE_VLLM_0_32=/opt/v32`` (the folder with ``bin/vllm``); what is not there is skipped, and
the skip says so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.real_engines import tiny

CAMPAIGNS = Path(__file__).parent / "campaigns"
INSTALLED = Path.home() / ".local/share/leadline/engines"
_FOLDERS = {
    "LEADLINE_VLLM_0_32": "vllm-0.32.0-cpu",
    "LEADLINE_VLLM_0_12": "vllm-0.12.0-cpu",
}
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
    tiny.write_dense(folder / "dense")
    tiny.write_sliding(folder / "sliding")
    tiny.write_chunked(folder / "chunked")
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
    seen: set[Path] = set()
    stop = threading.Event()
    watch = threading.Thread(target=_note_segments, args=(models, seen, stop))
    watch.start()

    def run(
        name: str,
        variable: str,
        *options: str,
        timeout_s: float = 1200,
        meanwhile: Callable[[int, Path], None] | None = None,
    ) -> Outcome:
        command = [sys.executable, "-m", "leadline.cli", "run", str(CAMPAIGNS / f"{name}.yaml")]
        process = subprocess.Popen(
            [*command, "--runs", str(tmp_path / "runs"), "--json", *options],
            cwd=models,
            env=engine_environment(variable),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if meanwhile:
            meanwhile(process.pid, tmp_path / "runs")
        stdout, stderr = process.communicate(timeout=timeout_s)
        assert stdout.strip(), stderr
        return Outcome(process.returncode, json.loads(stdout), stderr)

    yield run
    stop.set()
    watch.join()
    assert wait_for(lambda: not servers_of(models)), "a process was left behind"
    assert not [path for path in seen if path.exists()], "shared memory was left behind"


def engine_environment(variable: str) -> dict[str, str]:
    """With the engine's programs on PATH and nothing asked of the hub."""
    folder = Path(os.environ.get(variable, INSTALLED / _FOLDERS[variable]))
    if not (folder / "bin" / "vllm").exists():
        pytest.skip(f"{variable} is not set, {folder} not there: this engine was NOT tested")
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**os.environ, **offline, "PATH": path}


def servers_of(models: Path) -> list[int]:
    """Processes that were started in the folder of our models."""
    here = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(models)]
    return [process.pid for process in here if process.is_running()]


def _note_segments(models: Path, seen: set[Path], stop: threading.Event) -> None:
    """Which shared memory the servers in that folder have had mapped."""
    while not stop.wait(1):
        seen |= segments_of(servers_of(models))


def segments_of(pids: list[int]) -> set[Path]:
    found = set()
    for pid in pids:
        with suppress(OSError):
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
            found |= {Path(path) for path in re.findall(r"/dev/shm/\S+$", maps, re.MULTILINE)}
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return result
