"""What a journal says of a search: its answer, its steps, its frontier; and when it is not sure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.factory import RunWriter, answered, failed_exchange, make_finding, make_record, make_sent

from leadline.journal import Run
from leadline.report.search_chart import draw_frontier
from leadline.report.search_table import print_searches, word_answer, word_frontier, word_start
from leadline.report.view import report_view
from leadline.report.write import write_report
from leadline.verdict import RunVerdict, SearchVerdict, judge_run

CAMPAIGN = """
name: s
deployments: {x: {target: "http://127.0.0.1:1", model: tiny}}
workload: {output_tokens: 3, repeats: 1, limit_probes: false}
search: {maximise: input_tokens, heal: true, most_runs: 9}
"""
OPENED = {
    "levels": None, "lowest": 1, "highest": 400, "step": 1, "start": 100, "foretold": 100,
    "source": "the server's own window", "resolution": 50, "beside": 1,
}  # fmt: skip


class Searched(RunWriter):
    """A run of one search, written as the campaign would."""

    def __init__(self, root: Path, **opened: Any) -> None:
        super().__init__(root, CAMPAIGN)
        self.ready()
        self.journal.event("search_opened", search="x", **OPENED | opened)
        self.changes: dict[str, Any] = {}

    def ask(self, level: int, answer: str = "", take: int = 1) -> None:
        self.journal.event(
            "search_asked", search="x", level=level, take=take, reason="why", changes=self.changes
        )
        names = "".join(f"/{name}={value}" for name, value in self.changes.items())
        cell = f"x{names}/input_tokens={level}" + (f"/take={take}" if take > 1 else "")
        place = {"cell": cell, "deployment": f"x{names}"}
        if answer == "pass":
            self.journal.record(answered(level, **place))
        elif answer == "fail":
            failed = failed_exchange("refused", "too long", 400)
            self.journal.record(make_record(failed, sent=make_sent(level), **place))
            self.journal.finding(make_finding(title="Too long", cause="too_long", **place))

    def heal(self, **changes: Any) -> None:
        self.changes = changes
        facts = {"failed": "x", "code": "RUN002", "title": "Too long", "remedy": "raise it"}
        self.journal.event("search_healed", search="x", **facts, changes=changes)


def judged(run: Run) -> tuple[RunVerdict, SearchVerdict]:
    verdict = judge_run(run)
    (search,) = verdict.searches
    return verdict, search


def test_what_fails_above_a_limit_is_part_of_the_answer(tmp_path: Path) -> None:
    run = Searched(tmp_path)
    for level, answer in ((100, "pass"), (150, "fail"), (50, "pass"), (300, "fail")):
        run.ask(level, answer)
    verdict, search = judged(run.close())
    assert (search.ending, verdict.exit_code) == ("found", 0)
    assert word_answer(search) == "100 prompt tokens pass, 150 do not."
    assert "holds to that very level" in word_start(search)
    assert [(p.input_tokens, p.state) for p in search.points] == [
        (100, "proven"), (150, "failed"), (50, "proven"), (300, "failed"), (100, "predicted"),
    ]  # fmt: skip
    assert [step.finding for step in search.steps] == ["", "Too long", "", "Too long"]
    (line,) = word_frontier(verdict)
    assert line == ("x", "cold", "1", "↔", "100", "150", "100")
    (picture,) = draw_frontier(verdict)
    assert all(word in picture for word in ("proven", "failed", "predicted"))


def test_a_pass_above_a_fail_is_told_and_does_not_pass(tmp_path: Path) -> None:
    run = Searched(tmp_path)
    for level, answer, take in (
        (100, "fail", 1), (50, "pass", 1), (75, "pass", 1), (150, "pass", 1),
        (150, "pass", 2), (100, "fail", 2), (400, "fail", 1), (225, "fail", 1), (180, "fail", 1),
    ):  # fmt: skip
        run.ask(level, answer, take)
    verdict, search = judged(run.close())
    assert not search.is_monotone
    assert verdict.exit_code == 1
    said = word_answer(search)
    assert said.startswith("Not monotone: 150 prompt tokens pass although 100 did not")
    assert "holds to 75" in said


def test_an_open_question_leaves_the_search_unfinished(tmp_path: Path) -> None:
    run = Searched(tmp_path)
    run.ask(100, "pass")
    run.ask(150)
    run.journal.close()
    verdict, search = judged(Run(run.path))
    assert (search.ending, verdict.exit_code) == ("unfinished", 1)
    assert search.steps[-1].status == "skipped"
    assert word_answer(search).startswith("Not finished: so far, 100 prompt tokens pass")


def test_a_remedy_takes_back_what_failed_and_keeps_what_passed(tmp_path: Path) -> None:
    run = Searched(tmp_path)
    run.ask(100, "pass")
    run.ask(150, "fail")
    run.heal(window=200)
    run.ask(150, "pass")
    run.ask(250, "fail")
    run.ask(200, "pass")
    _, search = judged(run.close())
    assert search.limit
    assert (search.limit.highest_pass, search.limit.fails_from) == (200, 250)
    assert [step.deployment for step in search.steps[1:3]] == ["x", "x/window=200"]
    assert (search.heals[0].after, search.heals[0].changes) == (2, {"window": 200})


def test_a_server_that_never_was_up_says_why(tmp_path: Path) -> None:
    run = RunWriter(tmp_path, CAMPAIGN)
    run.journal.event("cell_failed", cell="x/input_tokens=max", attempt=1)
    run.journal.finding(make_finding(title="No memory", cause="oom", cell="", deployment="x"))
    verdict, search = judged(run.close())
    assert (search.ending, search.problem, verdict.exit_code) == ("not started", "No memory", 2)
    assert word_answer(search) == "Not started: No memory."


def test_a_search_whose_server_is_out_of_reach_is_unfinished(tmp_path: Path) -> None:
    run = Searched(tmp_path)
    run.ask(100, "pass")
    run.ask(150)
    place = {"deployment": "x", "attempt": 1}
    run.journal.event("deployment_starting", **place)
    run.journal.event("deployment_lost", **place, cell="x/input_tokens=150")
    run.journal.close()
    _, search = judged(Run(run.path))
    assert search.ending == "unfinished"
    assert (search.steps[-1].status, search.steps[-1].cause) == ("fail", "unreachable")


def test_a_search_whose_server_was_never_reached_waits_for_it(tmp_path: Path) -> None:
    run = RunWriter(tmp_path, CAMPAIGN)
    place = {"deployment": "x", "attempt": 1}
    run.journal.event("deployment_starting", **place)
    run.journal.event("deployment_lost", **place, cell="")
    run.journal.close()
    verdict, search = judged(Run(run.path))
    assert (search.ending, verdict.exit_code) == ("not started", 2)
    assert "the server could not be reached" in search.problem


def test_a_search_that_asked_nothing_yet_has_a_report(tmp_path: Path) -> None:
    run = RunWriter(tmp_path, CAMPAIGN)
    run.journal.close()
    verdict, _ = judged(Run(run.path))
    assert verdict.cells == ()
    written = write_report(Run(run.path), verdict)
    assert [path.name for path in written] == ["report.html", "report.md", "report.json"]


def test_a_later_start_that_fails_is_no_level_of_its_own(tmp_path: Path) -> None:
    run = Searched(tmp_path)
    run.ask(100, "pass")
    run.journal.event("cell_failed", cell="x/input_tokens=max", attempt=2)
    verdict, _ = judged(run.close())
    assert [cell.cell for cell in verdict.cells] == ["x/input_tokens=100"]


@pytest.mark.parametrize("answer", ["pass", "fail"])
def test_every_form_of_the_report_has_the_search(tmp_path: Path, answer: str) -> None:
    run = Searched(tmp_path, highest=100)
    run.ask(100, answer)
    done = run.close()
    verdict, _ = judged(done)
    console = Console(record=True, width=120)
    print_searches(console, verdict)
    view = report_view(done, verdict)
    for text in (console.export_text(), str(view["searches"])):
        assert "the server's own window" in text
        assert "why" in text
