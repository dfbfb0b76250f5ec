"""Somebody else's server goes away in the middle: what it owes stays owed, and is made later."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.conftest import LEADLINE, Finish, Start, run_server, trial_records, wait_for

from leadline.deploy.process import free_port


def test_a_server_that_goes_away_and_comes_back_is_asked_only_what_is_owed(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], tmp_path: Path
) -> None:
    port = free_port()
    deployments = {"theirs": {"target": f"http://127.0.0.1:{port}", "model": "smollm2"}}
    workload = {"input_tokens": 128, "output_tokens": 8, "repeats": 4, "limit_probes": False}
    file = campaign_file(deployments=deployments, workload=workload, seed=1)
    server = run_server(port, "")
    running = start("run", file)
    wait_for(lambda: trial_records(tmp_path))
    server.kill()
    server.communicate()
    lost = finish(running)
    assert lost.code == 2, lost.stderr
    (cell,) = lost.report["cells"]
    assert (cell["status"], cell["cause"]) == ("fail", "unreachable")
    assert "the same command resumes" in json.dumps(lost.report)
    server = run_server(port, "")
    try:
        back = finish(start("run", file))
    finally:
        server.kill()
        server.communicate()
    assert back.code == 0, back.stderr
    assert back.run == lost.run
    answered = [
        line["trial"] for line in trial_records(tmp_path) if not line["exchange"]["failure"]
    ]
    assert sorted(answered) == [1, 2, 3, 4]


def test_a_search_waits_for_the_server_that_it_asks(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], tmp_path: Path
) -> None:
    port = free_port()
    deployments = {"theirs": {"target": f"http://127.0.0.1:{port}", "model": "smollm2"}}
    workload = {"output_tokens": 4, "repeats": 1, "needles": 0, "limit_probes": False}
    search = {"maximise": "input_tokens", "low": 16, "high": 128, "resolution": 32}
    file = campaign_file(deployments=deployments, workload=workload, search=search, seed=1)
    never = finish(start("run", file))
    (told,) = never.report["searches"]
    assert (never.code, told["ending"]) == (2, "not started")
    server = run_server(port, "")
    try:
        back = finish(start("run", file))
    finally:
        server.kill()
        server.communicate()
    (told,) = back.report["searches"]
    assert (back.code, told["ending"], told["limit"]["highest_pass"]) == (0, "found", 128)
    assert back.run == never.run
    assert back.report["finished"]


def test_a_run_that_was_copied_elsewhere_still_reports(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], tmp_path: Path
) -> None:
    workload = {"input_tokens": 64, "output_tokens": 4, "repeats": 1, "limit_probes": False}
    outcome = finish(start("run", campaign_file(workload=workload)))
    copy = tmp_path / "another machine" / "copied"
    shutil.copytree(outcome.run, copy, ignore=shutil.ignore_patterns("report*", ".lock"))
    shutil.rmtree(outcome.run)
    command = [*LEADLINE, "report", str(copy), "--json"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == outcome.code == 0, told.stderr
    assert json.loads(told.stdout)["cells"] == outcome.report["cells"]
    assert (copy / "report.html").is_file()
