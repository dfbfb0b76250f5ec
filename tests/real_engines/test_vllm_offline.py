"""What real vLLM 0.32 does when it is loaded by a script, without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.real_engines.conftest import CAMPAIGNS, RunCampaign, engine_environment
from tests.real_engines.environments import VLLM_0_32 as VLLM
from tests.real_engines.environments import require
from tests.real_engines.outcomes import assert_equal_to_the_plan

pytestmark = [pytest.mark.engine, pytest.mark.timeout(2400)]


def test_tables_of_rows_are_loaded_and_generated(run_campaign: RunCampaign) -> None:
    outcome = run_campaign("vllm-0.32-offline", VLLM)
    rows = {cell["cell"]: cell for cell in outcome.report["cells"]}
    for name, batch in (("context", 1), ("caching-batch-2", 2)):
        for length, tokens in (("8192", 8192), ("max", 32_704)):
            row = rows[f"{name}/input_tokens={length}"]
            assert (row["status"], row["input_tokens"]) == ("pass", tokens), outcome.stderr
            (trial,) = row["trials"]
            assert [proof["outcome"] for proof in trial["proofs"]] == ["pass"] * 4
            assert trial["server"]["batch"] == batch
    for length in ("8192", "max"):
        row = rows[f"small-pool/input_tokens={length}"]
        assert (row["status"], row["cause"]) == ("fail", "oom")
    assert_equal_to_the_plan(outcome, deployments=2)
    assert outcome.code == 2


def test_a_rendered_script_runs_alone(models: Path, tmp_path: Path) -> None:
    """As somebody would run it who was only given the file."""
    environment = engine_environment(VLLM)
    rows = (CAMPAIGNS / "vllm-0.32-offline.yaml").read_text(encoding="utf-8")
    campaign = tmp_path / "campaign.yaml"
    campaign.write_text(f"{rows}hardware: 1xH100\n", encoding="utf-8")  # a plan needs some
    render = [sys.executable, "-m", "leadline.cli", "render", campaign, "--deployment", "context"]
    options = ["--as", "python", "--out", tmp_path]
    subprocess.run([*render, *options], check=True, cwd=models, capture_output=True)
    (script,) = tmp_path.glob("load_*.py")
    done = subprocess.run(
        [require(VLLM) / "bin" / "python", script],
        cwd=models,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    facts = [json.loads(line) for line in done.stdout.splitlines() if "leadline.offline" in line]
    assert done.returncode == 0, done.stderr
    load, *rows = facts
    assert load["status"] == "ok"
    assert load["seconds"] > 0
    assert [row["input_tokens"] for row in rows] == [4088, 8176, 16_352, 32_704]
    for row in rows:
        assert row["status"] == "ok"
        assert row["counted_tokens"] == [row["input_tokens"]]
        assert row["cached_tokens"] == [0]
