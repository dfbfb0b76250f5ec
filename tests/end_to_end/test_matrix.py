"""A matrix on the real engine: shared starts, chosen cells, and a budget that ends a run early."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.end_to_end.conftest import Finish, Outcome, Start

CampaignFile = Callable[..., Path]
MATRIX = {
    "settings.ctx_size": [512, 1024],
    "workload.input_tokens": [64, 128],
    "include": [{"settings.ctx_size": 512, "workload.input_tokens": 200, "workload.repeats": 1}],
}
WORKLOAD = {"output_tokens": 4, "repeats": 2, "needles": 0}


def _lines(run: Path, stream: str) -> list[dict[str, Any]]:
    text = (run / f"{stream}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _starts(run: Path) -> list[str]:
    events = _lines(run, "events")
    return [e["deployment"] for e in events if e["event"] == "deployment_starting"]


def _trials(run: Path) -> list[tuple[str, int, str]]:
    """Which prompt was sent for which trial."""
    records = [line for line in _lines(run, "records") if line["purpose"] == "trial"]
    return [(line["cell"], line["trial"], line["sent"]["ids_sha256"]) for line in records]


def _statuses(outcome: Outcome) -> dict[str, str]:
    return {cell["cell"]: cell["status"] for cell in outcome.report["cells"]}


def test_each_server_is_started_once_and_chosen_cells_are_part_of_the_same_run(
    start: Start, finish: Finish, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    file = campaign_file(matrix=MATRIX, workload=WORKLOAD, seed=7)
    whole = finish(start("run", file))
    assert whole.code == 0, whole.stderr
    assert _starts(whole.run) == ["llamacpp/ctx_size=512", "llamacpp/ctx_size=1024"]
    assert len(_trials(whole.run)) == len(set(_trials(whole.run))) == 9

    first = finish(start("run", file, "--only", "*=512/*=128", "--only", "input_tokens=200"))
    assert first.code == 0, first.stderr
    assert first.run != whole.run
    causes = {cell["cause"] for cell in first.report["cells"]} - {""}
    assert (causes, first.report["finished"]) == ({"not-selected"}, False)
    assert [cell for cell, *_ in _trials(first.run)] == [
        "llamacpp/ctx_size=512/input_tokens=128",
        "llamacpp/ctx_size=512/input_tokens=128",
        "llamacpp/ctx_size=512/input_tokens=200/repeats=1",
    ]
    rest = finish(start("run", file))
    assert (rest.code, rest.run) == (0, first.run), rest.stderr
    assert sorted(_trials(rest.run)) == sorted(_trials(whole.run))
    assert _statuses(rest) == _statuses(whole)
    limits = [item["limits"] for item in rest.report["deployments"]]
    assert [[proof["outcome"] for proof in each] for each in limits] == [["pass", "pass"]] * 2
    assert rest.report["finished"] is True


def test_a_budget_ends_the_run_between_trials_and_a_larger_one_resumes_it(
    start: Start, finish: Finish, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    file = campaign_file(
        matrix={"workload.input_tokens": [128, 64]},
        workload={"output_tokens": 4, "repeats": 25, "limit_probes": False, "needles": 0},
        budget={"usd": 0.1, "usd_per_hour": 36},  # ten seconds
    )
    outcome = finish(start("run", file))
    assert outcome.code == 1, outcome.stderr
    assert "stopped by the budget: usd: " in outcome.stderr
    assert "cure: the same command with a larger budget resumes" in outcome.stderr
    (last,) = [cell for cell in outcome.report["cells"] if "=64" in cell["cell"]]
    assert (last["status"], last["cause"]) == ("skipped", "budget")
    assert last["reason"].startswith("not run: budget (usd: ")
    made = _trials(outcome.run)
    assert len(made) < 25  # none, where the start alone took that long
    events = [line["event"] for line in _lines(outcome.run, "events")]
    assert events[-2:] == ["deployment_ended", "budget_reached"]

    again = finish(start("run", file))
    assert (again.code, again.run) == (1, outcome.run)
    assert _trials(again.run) == made
    assert len(_starts(again.run)) == 1

    rest = finish(start("run", file, "--budget", "usd=50"))
    assert (rest.code, rest.run) == (0, outcome.run), rest.stderr
    assert len(_trials(rest.run)) == len(set(_trials(rest.run))) == 50
    assert _trials(rest.run)[: len(made)] == made


def test_the_estimate_is_shown_and_somebody_is_asked_above_a_limit(
    start: Start, finish: Finish, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    axes = {"workload.input_tokens": [128, 256], "settings.ctx_size": [1024]}
    include = [{"settings.ctx_size": 2_000_000_000}]
    changes = {"matrix": {**axes, "include": include}, "budget": {"ask_above": {"time": 0.001}}}
    file = campaign_file(**changes)
    dry = finish(start("run", file, "--dry-run"))
    assert (dry.code, dry.run.name) == (0, "none"), dry.stderr
    told = dry.report
    assert told["estimate"]["unknown"] == [cell["cell"] for cell in told["cells"]]
    assert [turn["trial"] for turn in told["order"]] == [1, 1]
    (infeasible,) = told["infeasible"].values()
    assert "of memory are available" in infeasible["reason"]

    refused = finish(start("run", file))
    assert (refused.code, refused.run.name, refused.report) == (3, "none", {})
    assert "nobody is there to be asked, and nothing was started" in refused.stderr
    assert "cure: --yes" in refused.stderr

    meant = finish(start("run", file, "--yes", "--only", "input_tokens=128"))
    assert meant.code == 0, meant.stderr
    told = finish(start("run", file, "--dry-run")).report
    (left,) = told["cells"]
    assert (told["resumes"], left["source"]) == (meant.run.name, "measured")
    assert told["estimate"]["complete"]
    assert 0 < told["estimate"]["time_s"]["expected"] < 60

    rest = finish(start("run", file, "--yes"))
    (impossible,) = [cell for cell in rest.report["cells"] if "=2000000000" in cell["cell"]]
    assert (impossible["status"], impossible["cause"]) == ("infeasible", "oom")
    assert "of memory are available" in impossible["reason"]
    assert rest.report["spent"]["time_s"] > 0
    assert rest.report["spent"]["foretold"]["complete"] is False
    assert _starts(rest.run) == ["llamacpp/ctx_size=1024"] * 2


def test_a_gate_that_is_not_met_is_exit_code_1(
    start: Start, finish: Finish, campaign_file: CampaignFile
) -> None:
    outcome = finish(start("run", campaign_file(gates={"ttft_s": "<= 0.0001"})))
    (cell,) = outcome.report["cells"]
    assert (outcome.code, cell["status"], cell["cause"]) == (1, "fail", "gate")
    assert cell["reason"].startswith("ttft_s is ")
