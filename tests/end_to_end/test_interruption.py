"""Ctrl-C and SIGKILL: nothing is left running, nothing is lost, nothing runs twice."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.end_to_end.conftest import Finish, Start, trial_records, wait_for, wait_for_no_servers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_server_and_resumes_what_is_owed(
    number: signal.Signals,
    start: Start,
    finish: Finish,
    campaign_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    workload = {"input_tokens": 256, "output_tokens": 8, "repeats": 3, "limit_probes": False}
    file = campaign_file(workload=workload)
    first = start("run", file)
    wait_for(lambda: len(trial_records(tmp_path)) >= 1)
    first.send_signal(number)
    _, stderr = first.communicate(timeout=30)
    assert wait_for_no_servers() == []
    if number != signal.SIGKILL:
        assert first.returncode == 130
        assert "Traceback" not in stderr
        assert "The same command resumes a campaign" in stderr
    made = len(trial_records(tmp_path))

    outcome = finish(start("run", file))
    assert outcome.code == 0, outcome.stderr
    assert "resuming e2e" in outcome.stderr
    assert len(list((tmp_path / "runs").glob("*/*"))) == 1
    trials = [record["trial"] for record in trial_records(tmp_path)]
    assert sorted(trials) == [1, 2, 3]
    assert made < 3
    assert outcome.report["cells"][0]["status"] == "pass"


def test_two_processes_cannot_write_one_run(
    start: Start, campaign_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = campaign_file()
    first = start("run", file)
    wait_for(lambda: list(tmp_path.rglob("events.jsonl")))
    second = start("run", file)
    _, stderr = second.communicate(timeout=30)
    assert second.returncode == 2
    assert "another leadline process is writing this run" in stderr
    first.send_signal(signal.SIGINT)
    assert isinstance(first, subprocess.Popen)
