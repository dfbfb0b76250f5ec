"""The main job: a real model on a real engine, proven and measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.conftest import LEADLINE, Finish, Start


def test_ladder_up_to_the_limit_passes_with_every_proof(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = campaign_file(
        matrix={
            "workload.input_tokens": [128, 256],
            "include": [{"workload.input_tokens": "max", "workload.repeats": 1}],
        },
        workload={"output_tokens": 8, "repeats": 2, "needles": 1},
    )
    outcome = finish(start("run", file))
    assert outcome.code == 0, outcome.stderr
    cells = outcome.report["cells"]
    assert [cell["status"] for cell in cells] == ["pass"] * 3
    assert [cell["input_tokens"] for cell in cells] == [128, 256, 1016]
    for trial in (trial for cell in cells for trial in cell["trials"]):
        assert trial["usage"]["prompt_tokens"] == trial["sent"]["input_tokens"]
        assert trial["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        assert [proof["outcome"] for proof in trial["proofs"]] == ["pass"] * 4
        measures = trial["measures"]
        assert 0 < measures["ttft_s"] < measures["e2e_s"]
        assert len(measures["itl_s"]) == measures["completion_tokens"] - 1
        server_s = trial["server"]["prompt_ms"] / 1000
        assert server_s <= measures["ttft_s"] < server_s + 0.5
    (deployment,) = outcome.report["deployments"]
    assert deployment["qualified_tokens"] == 1016
    assert {proof["name"]: proof["outcome"] for proof in deployment["limits"]} == {
        "edge": "pass",
        "over_limit": "pass",
    }
    _renders_the_same_elsewhere(outcome.run, tmp_path)


def _renders_the_same_elsewhere(run: Path, tmp_path: Path) -> None:
    """The journal alone, copied to another place, gives the same report."""
    copy = tmp_path / "copied" / "run"
    shutil.copytree(run, copy)
    for form in copy.glob("report.*"):
        form.unlink()
    subprocess.run([*LEADLINE, "report", str(copy)], check=True, capture_output=True)
    for name in ("report.json", "report.md"):
        here, there = ((place / name).read_text(encoding="utf-8") for place in (run, copy))
        assert here == there
    assert "<svg" in (copy / "report.html").read_text(encoding="utf-8")


def test_quickstart_campaign_is_what_quickstart_shows() -> None:
    shown = subprocess.run(
        [*LEADLINE, "quickstart", "--show"], check=True, capture_output=True, text=True
    )
    assert "model: smollm2" in shown.stdout


def test_runs_lists_the_finished_run(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], tmp_path: Path
) -> None:
    finish(start("run", campaign_file()))
    listed = subprocess.run(
        [*LEADLINE, "runs", "--runs", str(tmp_path / "runs"), "--json"],
        check=True,
        capture_output=True,
    )
    (row,) = json.loads(listed.stdout)
    assert (row["campaign"], row["state"], row["cells"]) == ("e2e", "finished", "1 pass")
