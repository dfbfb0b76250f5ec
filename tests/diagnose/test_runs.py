"""A run explained from its directory alone: its starts, its logs, its cells."""

from __future__ import annotations

import shutil
from pathlib import Path

from click.testing import CliRunner
from tests.factory import RunWriter, make_exchange, make_finding, make_record

from leadline.cli.main import cli
from leadline.diagnose.runs import diagnose_run, measurement_rules
from leadline.journal import Run

CAMPAIGN = """
name: t
deployments:
  x: {target: {kind: endpoint, url: "http://127.0.0.1:1"}, model: m, engine: openai}
matrix: {workload.input_tokens: [100]}
workload: {output_tokens: 3, repeats: 1, corpus: builtin}
"""
LOG = Path(__file__).parents[1] / "data" / "failures" / "vllm-0.12-kv-too-small.log"


def write(tmp_path: Path) -> RunWriter:
    return RunWriter(tmp_path, CAMPAIGN)


def test_each_start_of_a_deployment_is_explained_by_its_log(tmp_path: Path) -> None:
    writer = write(tmp_path)
    shutil.copy(LOG, writer.journal.log_path("x", 1))
    writer.journal.finding(make_finding(deployment="x", cell=""))
    found = diagnose_run(writer.close())
    (deployment,) = found.deployments
    assert [item.primary.code for item in deployment.logs if item.primary] == ["START010"]
    assert deployment.logs[0].source == "logs/x/1/server.log"
    assert not found.is_clean


def test_a_warm_cache_is_explained_as_a_measurement(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.ready()
    warm = {
        "prompt_tokens": 100,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 64},
    }
    writer.journal.record(make_record(make_exchange(usage=warm)))
    run = writer.close()
    (cell,) = diagnose_run(run).cells
    assert cell.status == "inconclusive"
    assert cell.finding is not None
    assert cell.finding.code == "MEAS001"
    result = CliRunner().invoke(cli, ["explain", str(run.path)], standalone_mode=False)
    assert (result.return_value, "MEAS001" in result.output) == (1, True)


def test_a_run_that_passed_is_clean(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.ready()
    writer.journal.record(make_record())
    run = writer.close()
    assert diagnose_run(Run(run.path)).is_clean
    result = CliRunner().invoke(cli, ["explain", str(run.path)], standalone_mode=False)
    assert (result.return_value, "nothing wrong found" in result.output) == (0, True)


def test_every_measurement_rule_is_whole() -> None:
    for rule in measurement_rules():
        assert rule["causes"]
        assert rule["remedy"]
        assert rule["source"]
