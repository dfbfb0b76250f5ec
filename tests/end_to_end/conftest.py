"""Real campaigns on the real embedded engine, through the command line a user types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import psutil
import pytest
from tests.absent import leave_out
from tests.deploy.places import open_place
from tests.end_to_end.containers import containers_of

from leadline.deploy.containers import connect

LEADLINE = [sys.executable, "-m", "leadline.cli"]
SERVER_MODULE = "leadline.engines.llamacpp_server"
BASE: dict[str, Any] = {
    "name": "e2e",
    "model": "smollm2",
    "deployments": {
        "llamacpp": {"engine": "llamacpp", "settings": {"ctx_size": 1024, "threads": 2}}
    },
    "workload": {"input_tokens": 256, "output_tokens": 8, "repeats": 1, "limit_probes": False},
}


@dataclass(frozen=True)
class Outcome:
    code: int
    report: dict[str, Any]
    stderr: str
    run: Path

    def cell(self, fragment: str) -> dict[str, Any]:
        (found,) = [cell for cell in self.report["cells"] if fragment in cell["cell"]]
        return dict(found)


Start = Callable[..., subprocess.Popen[str]]
Finish = Callable[[subprocess.Popen[str]], Outcome]
Leadline = Callable[..., "subprocess.CompletedProcess[str]"]
"""To its end, without a run directory of the test's."""


@pytest.fixture
def campaign_file(tmp_path: Path) -> Callable[..., Path]:
    """A campaign file (JSON is YAML) from the base and what differs."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "campaign.yaml"
        path.write_text(json.dumps({**BASE, **changes}), encoding="utf-8")
        return path

    return write


@contextmanager
def _spawning() -> Iterator[Start]:
    """``leadline`` with these words; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str | Path, **environ: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        env = {**os.environ, **environ}
        process = subprocess.Popen([*LEADLINE, *map(str, words)], text=True, env=env, **pipes)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``leadline``; every server it leaves behind is a failure of the test."""
    with _spawning() as spawning:

        def run(*arguments: str | Path, **environ: str) -> subprocess.Popen[str]:
            return spawning(*arguments, "--runs", tmp_path / "runs", "--json", **environ)

        yield run
    assert wait_for_no_servers() == []


@pytest.fixture
def leadline() -> Leadline:
    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*LEADLINE, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def spawn() -> Iterator[Start]:
    with _spawning() as run:
        yield run


@pytest.fixture
def finish(tmp_path: Path) -> Finish:
    def wait(process: subprocess.Popen[str]) -> Outcome:
        stdout, stderr = process.communicate(timeout=300)
        report = json.loads(stdout) if stdout.strip() else {}
        runs = sorted((tmp_path / "runs").glob("*/*/run.json"))
        run = runs[-1].parent if runs else tmp_path / "none"
        return Outcome(process.returncode, report, stderr, run)

    return wait


def journal_lines(folder: Path, stream: str) -> list[dict[str, Any]]:
    """Of all runs below the folder, in their order."""
    return [
        json.loads(line)
        for path in folder.rglob(f"{stream}.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in journal_lines(folder, "events") if line["event"] == kind]


def trial_records(folder: Path) -> list[dict[str, Any]]:
    return [line for line in journal_lines(folder, "records") if line["purpose"] == "trial"]


def our_servers() -> list[int]:
    """Servers of this Python: not those of another checkout, which may be tested just now."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if SERVER_MODULE in (cmdline := process.info["cmdline"] or [])
        and cmdline[0] == sys.executable
    ]


def wait_for_no_servers() -> list[int]:
    deadline = time.monotonic() + 10
    while (left := our_servers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return result


_KEYED_SERVER = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, key = sys.argv[1], int(sys.argv[2]), sys.argv[3]
params.n_ctx, params.model_alias = 1024, {"smollm2"}
params.endpoint_metrics = params.endpoint_props = True
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
params.api_keys = [key] if key else []
server = xllamacpp.Server(params)
print("ready", flush=True)
threading.Event().wait()
"""


def run_server(port: int, key: str) -> subprocess.Popen[str]:
    """A server that somebody else runs."""
    from leadline.catalog.assets import asset_path

    process = subprocess.Popen(
        [sys.executable, "-c", _KEYED_SERVER, asset_path("models", "smollm2"), str(port), key],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    from leadline.deploy.process import free_port

    port = free_port()
    process = run_server(port, key="")
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def keyed_server_url() -> Iterator[str]:
    from leadline.deploy.process import free_port

    port = free_port()
    process = run_server(port, key="sesame-12345")
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.communicate()


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    try:
        open_place("docker")
    except LookupError as missing:
        leave_out(missing)
    opened = connect()
    yield opened
    opened.close()


@pytest.fixture
def name(client: docker.DockerClient) -> Iterator[str]:
    """Of the campaign, and so of its containers; none may be left."""
    chosen = f"e2e-{uuid4().hex[:8]}"
    yield chosen
    left = containers_of(client, chosen)
    for container in left:
        container.remove(force=True)
    assert left == []
