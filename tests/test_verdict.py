from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.factory import (
    ANSWER,
    RunWriter,
    answered,
    failed_exchange,
    make_events,
    make_exchange,
    make_finding,
    make_record,
    make_sent,
)

from leadline.records import Record
from leadline.report.phrases import outlier_sentences
from leadline.verdict import CellVerdict, RunVerdict, judge_run

CAMPAIGN = """\
name: judged
deployments: {{x: {{target: "http://127.0.0.1:1"{expect}}}}}
matrix: {{workload.input_tokens: [{lengths}]}}
workload: {{output_tokens: 3, repeats: {repeats}, corpus: kjv, cold: {cold}}}
gates: {gates}
"""

Write = Callable[[RunWriter], None]


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., RunVerdict]:
    """Judge what ``write`` leaves in the journal of a small campaign."""

    def judge(write: Write, *, ready: bool = True, **changes: Any) -> RunVerdict:
        facts = {
            "lengths": "100",
            "repeats": 1,
            "gates": "{}",
            "cold": "true",
            "expect": "",
            **changes,
        }
        writer = RunWriter(tmp_path, CAMPAIGN.format(**facts))
        if ready:
            writer.ready()
        write(writer)
        return judge_run(writer.close())

    return judge


Judge = Callable[..., RunVerdict]


def recording(*records: Record) -> Write:
    def write(writer: RunWriter) -> None:
        for record in records:
            writer.journal.record(record)

    return write


def only(verdict: RunVerdict) -> CellVerdict:
    (cell,) = verdict.cells
    return cell


def conclusion(verdict: RunVerdict) -> tuple[str, str, str, int]:
    cell = only(verdict)
    return cell.status, cell.cause, cell.reason, verdict.exit_code


# --- what a cell comes to -------------------------------------------------------------------


def test_sound_trials_pass(judge: Judge) -> None:
    verdict = judge(recording(*(answered(100, trial) for trial in (1, 2, 3))), repeats=3)
    assert conclusion(verdict) == ("pass", "", "", 0)
    cell = only(verdict)
    assert cell.sound
    assert cell.input_tokens == 100
    assert [trial.number for trial in cell.trials] == [1, 2, 3]
    assert cell.recall is not None
    assert (cell.recall.hits, cell.recall.n) == (3, 3)
    assert cell.ttft_s is not None
    assert (cell.ttft_s.n, cell.ttft_s.median) == (3, pytest.approx(0.1))
    assert (verdict.seed, verdict.campaign, verdict.finished) == (7, "judged", True)


def test_a_wrong_count_fails_whatever_else_holds(judge: Judge) -> None:
    usage = {"prompt_tokens": 93, "completion_tokens": 3}
    record = make_record(make_exchange(usage=usage))
    assert conclusion(judge(recording(record))) == (
        "fail",
        "wrong-length",
        "count: sent 100, server counted 93",
        1,
    )


def test_a_clamped_output_fails_as_truncated(judge: Judge) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 2}
    status, cause, _, code = conclusion(judge(recording(make_record(make_exchange(usage=usage)))))
    assert (status, cause, code) == ("fail", "truncated", 1)


def test_garbage_fails_as_a_wrong_answer(judge: Judge) -> None:
    record = make_record(make_exchange(events=make_events((100, "!" * 30, 3))))
    status, cause, reason, code = conclusion(judge(recording(record)))
    assert (status, cause, code) == ("fail", "wrong-answer", 1)
    assert reason.startswith("output: one character repeated")


def warm(cached: int) -> Record:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return make_record(make_exchange(usage=usage))


def test_a_warm_cache_leaves_it_undecided(judge: Judge) -> None:
    assert conclusion(judge(recording(warm(64)))) == (
        "inconclusive",
        "warm-cache",
        "the cache answered: 64 cached tokens by usage",
        1,
    )


def test_a_warm_cache_is_no_matter_where_cold_is_not_asked_for(judge: Judge) -> None:
    assert conclusion(judge(recording(warm(64)), cold="false"))[0] == "pass"


def test_one_warm_trial_of_several_is_enough(judge: Judge) -> None:
    records = [answered(100, 1), warm(1).model_copy(update={"trial": 2}), answered(100, 3)]
    assert conclusion(judge(recording(*records), repeats=3))[:2] == ("inconclusive", "warm-cache")


def test_what_the_server_does_not_tell_leaves_it_undecided(judge: Judge) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 3}
    verdict = judge(recording(make_record(make_exchange(usage=usage))))
    assert conclusion(verdict) == (
        "inconclusive",
        "unproven-cold",
        "the server reports neither cached tokens nor counters",
        1,
    )


def test_too_few_trials_leave_it_undecided(judge: Judge) -> None:
    verdict = judge(recording(answered(100, 1), answered(100, 2)), repeats=3)
    told = "2 of 3 trials made; the others: not run yet; the same command resumes it"
    expected = ("inconclusive", "too-few-trials", told, 1)
    assert conclusion(verdict) == expected
    assert not only(verdict).sound


def test_a_cell_that_was_not_run_is_skipped(judge: Judge) -> None:
    verdict = judge(recording())
    expected = ("skipped", "not-run", "not run yet; the same command resumes it", 1)
    assert conclusion(verdict) == expected


def test_the_same_trial_made_twice_counts_once_and_the_later_counts(judge: Judge) -> None:
    verdict = judge(recording(warm(64), answered(100, 1)))
    assert conclusion(verdict)[0] == "pass"
    assert len(only(verdict).trials) == 1


def test_other_requests_are_no_trials(judge: Judge) -> None:
    extra = [
        answered(100, purpose="warmup", cell="x/limits"),
        answered(4093, purpose="edge", cell="x/limits"),
    ]
    assert len(only(judge(recording(answered(100, 1), *extra))).trials) == 1


# --- failures -------------------------------------------------------------------------------


def test_a_crash_fails_with_its_cause_and_is_infrastructure(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        crashed = failed_exchange("disconnected", "ClientPayloadError: not all data", 200)
        writer.journal.record(make_record(crashed))
        writer.journal.finding(make_finding())

    expected = ("fail", "crashed", "The server died during the request", 2)
    assert conclusion(judge(write)) == expected


def test_a_rejection_is_a_result_not_infrastructure(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        writer.journal.record(make_record(failed_exchange("refused", "HTTP 400: no", 400)))
        writer.journal.finding(make_finding(cause="rejected", title="refused"))

    assert conclusion(judge(write)) == ("fail", "rejected", "refused", 1)


def test_a_failure_without_a_finding_still_fails(judge: Judge) -> None:
    record = make_record(failed_exchange("timeout", "no first token within 60 s"))
    expected = ("fail", "unknown", "no first token within 60 s", 2)
    assert conclusion(judge(recording(record))) == expected


def test_a_server_that_did_not_start_fails_its_cells_by_its_finding(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        writer.journal.event("cell_failed", cell="x/input_tokens=100", attempt=1)
        finding = make_finding(code="START001", cause="port_in_use", title="taken", cell="")
        writer.journal.finding(finding)

    verdict = judge(write, ready=False)
    assert conclusion(verdict) == ("fail", "port_in_use", "taken", 2)
    (deployment,) = verdict.deployments
    assert (deployment.engine, deployment.starts, deployment.start_s) == (None, 0, None)


def test_a_finding_of_another_cell_or_deployment_does_not_explain_this_one(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        writer.journal.record(make_record(failed_exchange("timeout", "no first token")))
        writer.journal.finding(make_finding(cell="x/input_tokens=200"))
        writer.journal.finding(make_finding(cell="", deployment="y"))

    assert conclusion(judge(write))[1:3] == ("unknown", "no first token")


def test_a_start_that_failed_later_fails_a_cell_that_was_half_done(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        writer.journal.record(answered(100, 1))
        writer.journal.event("cell_failed", cell="x/input_tokens=100", attempt=2)
        writer.journal.finding(make_finding(cause="port_in_use", title="taken", cell=""))

    assert conclusion(judge(write, repeats=3)) == ("fail", "port_in_use", "taken", 2)


def test_what_the_plan_rules_out_is_infeasible(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        writer.journal.event(
            "cell_infeasible",
            cell="x/input_tokens=100",
            cause="oom",
            reason="weights and KV cache need 9 GiB",
            remedy="lower ctx_size",
        )

    expected = ("infeasible", "oom", "weights and KV cache need 9 GiB", 1)
    assert conclusion(judge(write)) == expected


# --- what is expected -----------------------------------------------------------------------


def _crash(writer: RunWriter) -> None:
    writer.journal.record(make_record(failed_exchange("disconnected", "gone", 200)))
    writer.journal.finding(make_finding())


def _rule_out(writer: RunWriter) -> None:
    facts = {"cause": "start_fail", "reason": "too large", "remedy": "lower ctx_size"}
    writer.journal.event("cell_infeasible", cell="x/input_tokens=100", **facts)


def _pass(writer: RunWriter) -> None:
    writer.journal.record(answered(100, 1))


def _nothing(_: RunWriter) -> None:
    """The cell is not decided."""


@pytest.mark.parametrize(
    ("write", "expect", "as_expected", "exit_code"),
    [
        (_pass, "pass", True, 0),
        (_pass, "fail", False, 1),
        (_pass, "{fail: crashed}", False, 1),
        (_crash, "fail", True, 0),
        (_crash, "{fail: crashed}", True, 0),
        (_crash, "{fail: oom}", False, 2),
        (_crash, "pass", False, 2),
        (_rule_out, "{fail: oom}", True, 0),
        (_rule_out, "pass", False, 1),
        (_nothing, "pass", None, 1),
        (_nothing, "fail", None, 1),
    ],
)
def test_a_known_failure_is_good_and_what_comes_otherwise_is_not(
    judge: Judge, write: Write, expect: str, as_expected: bool | None, exit_code: int
) -> None:
    verdict = judge(write, expect=f", expect: {expect}")
    assert only(verdict).as_expected is as_expected
    assert verdict.exit_code == exit_code


def test_where_nothing_is_expected_nothing_is_said(judge: Judge) -> None:
    assert only(judge(_pass)).as_expected is None


# --- gates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gates", "status", "cause", "reason"),
    [
        ("{ttft_s: '<= 0.2'}", "pass", "", ""),
        ("{ttft_s: '<= 0.05'}", "fail", "gate", "ttft_s is 0.1, required <= 0.05"),
        ("{tpot_s: '< 0.05'}", "fail", "gate", "tpot_s is 0.05, required < 0.05"),
        ("{tpot_s: '<= 0.051'}", "pass", "", ""),
        ("{e2e_s: '> 1'}", "fail", "gate", "e2e_s is 0.2, required > 1"),
        ("{recall: '>= 1'}", "pass", "", ""),
        (
            "{recall: '>= 0.9', ttft_s: '<= 0.01'}",
            "fail",
            "gate",
            "ttft_s is 0.1, required <= 0.01",
        ),
    ],
)
def test_gates_decide_a_sound_cell(
    judge: Judge, gates: str, status: str, cause: str, reason: str
) -> None:
    verdict = judge(recording(answered(100)), gates=gates)
    assert conclusion(verdict) == (status, cause, reason, 0 if status == "pass" else 1)
    assert only(verdict).sound


def test_a_missed_recall_is_a_wrong_answer_of_a_sound_engine(judge: Judge) -> None:
    verdict = judge(recording(answered(100, recalled=False)), gates="{recall: '>= 0.9'}")
    expected = ("fail", "wrong-answer", "recall is 0, required >= 0.9", 1)
    assert conclusion(verdict) == expected
    assert only(verdict).sound


def test_times_are_gated_by_the_worst_trial(judge: Judge) -> None:
    slow = make_events((900, " The", 1), (950, " number is ", 2), (990, ANSWER, 3))
    exchange = answered(100).exchange.model_copy(update={"events": slow})
    records = [answered(100, 1), answered(100, 2), answered(100, 3, exchange=exchange)]
    verdict = judge(recording(*records), repeats=3, gates="{ttft_s: '<= 0.5'}")
    assert conclusion(verdict)[2] == "ttft_s is 0.9, required <= 0.5"


@pytest.mark.parametrize(("factor", "status"), [("2", "pass"), ("1.5", "fail")])
def test_a_gate_may_be_a_multiple_of_the_plan(judge: Judge, factor: str, status: str) -> None:
    def write(writer: RunWriter) -> None:
        predicted = {"low": 0.05, "expected": 0.06, "high": 0.09}
        cell = "x/input_tokens=100"
        writer.journal.event("cell_predicted", cell=cell, input_tokens=100, ttft_s=predicted)
        writer.journal.record(answered(100))

    verdict = judge(write, gates=f"{{ttft_s: '<= plan * {factor}'}}")
    assert only(verdict).status == status
    (gate,) = only(verdict).gates
    assert (gate.name, gate.limit) == ("ttft_s", f"<= plan * {factor}")


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        ("{ttft_s: '<= plan * 2'}", "ttft_s <= plan * 2: nothing to compare"),
        ("{e2e_s: '<= plan * 2'}", "e2e_s <= plan * 2: nothing to compare"),
    ],
)
def test_a_gate_without_anything_to_compare_leaves_it_undecided(
    judge: Judge, gates: str, reason: str
) -> None:
    verdict = judge(recording(answered(100)), gates=gates)
    assert conclusion(verdict) == ("inconclusive", "gate", reason, 1)


def test_a_recall_gate_without_needles_leaves_it_undecided(judge: Judge) -> None:
    record = answered(100, sent=make_sent(100))
    verdict = judge(recording(record), gates="{recall: '>= 0.9'}")
    assert conclusion(verdict)[:2] == ("inconclusive", "gate")


def test_an_unproven_cell_is_not_saved_by_its_gates(judge: Judge) -> None:
    assert conclusion(judge(recording(warm(64)), gates="{ttft_s: '<= 5'}"))[1] == "warm-cache"


# --- how far it reaches ---------------------------------------------------------------------


def reach(verdict: RunVerdict) -> tuple[int | None, int | None]:
    (deployment,) = verdict.deployments
    return deployment.qualified_tokens, deployment.effective_tokens


LADDER = {"lengths": "100, 200, 400"}


def test_every_length_sound_and_recalled(judge: Judge) -> None:
    verdict = judge(recording(answered(100), answered(200), answered(400)), **LADDER)
    assert reach(verdict) == (400, 400)


def test_engine_and_model_are_two_results(judge: Judge) -> None:
    records = [answered(100), answered(200, recalled=False), answered(400, recalled=False)]
    verdict = judge(recording(*records), **LADDER)
    assert reach(verdict) == (400, 100)
    assert verdict.exit_code == 0


def test_a_gap_ends_the_reach(judge: Judge) -> None:
    usage = {"prompt_tokens": 193, "completion_tokens": 3}
    exchange = answered(200).exchange.model_copy(update={"usage": usage})
    cut = answered(200, exchange=exchange)
    verdict = judge(recording(answered(100), cut, answered(400)), **LADDER)
    assert reach(verdict) == (100, 400)


def test_a_length_that_was_not_run_ends_the_reach(judge: Judge) -> None:
    assert reach(judge(recording(answered(100), answered(400)), **LADDER))[0] == 100


def test_a_recall_below_the_threshold_ends_the_effective_length(judge: Judge) -> None:
    records = [answered(100, n, recalled=n > 1) for n in (1, 2, 3, 4, 5, 6)]
    # 5 of 6 is 83.3 %, below RULER's 85.6 %.
    assert reach(judge(recording(*records), repeats=6)) == (100, None)


def test_a_failed_trial_among_sound_ones_is_not_sound(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        for trial in (1, 2):
            writer.journal.record(answered(100, trial))
        crashed = failed_exchange("disconnected", "gone", 200)
        writer.journal.record(answered(100, 3, exchange=crashed))
        writer.journal.finding(make_finding())

    verdict = judge(write, repeats=3)
    assert only(verdict).status == "fail"
    assert not only(verdict).sound
    assert reach(verdict)[0] is None


def test_the_order_of_the_campaign_does_not_matter(judge: Judge) -> None:
    records = [answered(400), answered(100), answered(200, recalled=False)]
    assert reach(judge(recording(*records), lengths="400, 100, 200")) == (400, 100)


def test_a_length_counts_only_if_all_its_cells_are_sound(judge: Judge) -> None:
    """Two cells of the same length, say with different outputs, and one of them fails."""
    campaign = "100], workload.output_tokens: [3, 4"
    good = answered(100, cell="x/input_tokens=100/output_tokens=3")
    usage = {"prompt_tokens": 93, "completion_tokens": 3}
    exchange = make_exchange(usage=usage)
    bad = answered(100, cell="x/input_tokens=100/output_tokens=4", exchange=exchange)
    assert reach(judge(recording(good, bad), lengths=campaign))[0] is None


def test_a_longest_prompt_that_could_not_be_resolved_does_not_hide_the_others(
    judge: Judge,
) -> None:
    def write(writer: RunWriter) -> None:
        writer.journal.record(answered(100))
        writer.journal.event("cell_failed", cell="x/input_tokens=max", attempt=1)
        writer.journal.finding(make_finding(cell="x/input_tokens=max", cause="prompt", title="?"))

    verdict = judge(write, lengths="100, max")
    assert [cell.status for cell in verdict.cells] == ["pass", "fail"]
    assert reach(verdict) == (100, 100)


# --- limits ---------------------------------------------------------------------------------


def limits(verdict: RunVerdict) -> list[tuple[str, str]]:
    (deployment,) = verdict.deployments
    return [(proof.name, proof.outcome) for proof in deployment.limits]


def limit_record(purpose: str, tokens: int, exchange: Any = None) -> Record:
    changes: dict[str, Any] = {"purpose": purpose, "cell": "x/limits"}
    if exchange is not None:
        changes["exchange"] = exchange
    return answered(tokens, **changes)


REFUSED = failed_exchange("refused", "HTTP 400: the maximum is 4096", 400)


def test_both_limits_are_proven_by_their_probes(judge: Judge) -> None:
    probes = [limit_record("edge", 4093), limit_record("over_limit", 4097, REFUSED)]
    verdict = judge(recording(answered(100), *probes))
    assert limits(verdict) == [("edge", "pass"), ("over_limit", "pass")]
    assert verdict.exit_code == 0


def test_a_trial_of_exactly_the_longest_length_proves_the_edge(judge: Judge) -> None:
    probe = limit_record("over_limit", 4097, REFUSED)
    verdict = judge(recording(answered(4093), probe), lengths="4093")
    assert limits(verdict) == [("edge", "pass"), ("over_limit", "pass")]


def test_an_over_long_prompt_that_is_answered_fails_the_run(judge: Judge) -> None:
    verdict = judge(recording(answered(100), limit_record("over_limit", 4097)))
    assert limits(verdict) == [("over_limit", "fail")]
    assert only(verdict).status == "pass"
    assert verdict.exit_code == 1


def test_a_window_that_the_server_does_not_tell_leaves_both_unknown(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        writer.journal.record(answered(100))
        writer.journal.event("limit_probe_skipped", deployment="x", reason="it does not tell")

    verdict = judge(write)
    assert limits(verdict) == [("edge", "unknown"), ("over_limit", "unknown")]
    assert verdict.exit_code == 0


# --- the run --------------------------------------------------------------------------------


def test_the_exit_code_is_the_worst_of_all_cells(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        writer.journal.record(answered(100))
        writer.journal.record(answered(200, exchange=failed_exchange("timeout", "nothing")))
        writer.journal.finding(make_finding(cell="x/input_tokens=200", cause="hang", title="hang"))

    verdict = judge(write, lengths="100, 200, 400")
    assert [cell.status for cell in verdict.cells] == ["pass", "fail", "skipped"]
    assert verdict.exit_code == 2


def test_a_run_that_was_killed_is_judged_as_far_as_it_came(tmp_path: Path) -> None:
    text = CAMPAIGN.format(lengths="100", repeats=2, gates="{}", cold="true", expect="")
    writer = RunWriter(tmp_path, text)
    writer.ready()
    writer.journal.record(answered(100, 1))
    writer.journal.close()
    from leadline.journal import Run

    verdict = judge_run(Run(writer.path))
    assert not verdict.finished
    assert only(verdict).cause == "too-few-trials"


def test_facts_of_the_deployment_are_those_of_its_last_start(judge: Judge) -> None:
    def write(writer: RunWriter) -> None:
        writer.ready(attempt=2, start_s=9.0, engine="llamacpp")
        writer.journal.event("warning", deployment="x", text="the window exceeds")

    verdict = judge(write)
    (deployment,) = verdict.deployments
    assert (deployment.engine, deployment.starts, deployment.start_s) == ("llamacpp", 2, 9.0)
    assert (deployment.model, deployment.window_tokens) == ("tiny", 4096)
    assert verdict.warnings == ("the window exceeds",)


def test_judging_again_changes_nothing(judge: Judge, tmp_path: Path) -> None:
    verdict = judge(recording(answered(100)))
    from leadline.journal import Run, list_runs

    (path,) = list_runs(tmp_path)
    assert judge_run(Run(path)) == verdict


def test_a_trial_far_from_the_others_is_named_and_counted(judge: Judge) -> None:
    def trial(number: int, first_ms: float) -> Record:
        times = (first_ms, first_ms + 50, first_ms + 100)
        events = make_events(
            (times[0], " The", 1), (times[1], " number is ", 2), (times[2], ANSWER, 3)
        )
        whole = answered(100, number)
        exchange = whole.exchange.model_copy(update={"events": events})
        return whole.model_copy(update={"exchange": exchange})

    slow = [trial(number, 100 + number) for number in range(1, 12)] + [trial(12, 900)]
    verdict = judge(recording(*slow), repeats=12)
    cell = only(verdict)
    assert (cell.status, cell.ttft_s.high if cell.ttft_s else None) == ("pass", 0.9)
    assert [(odd.measure, odd.request) for odd in cell.outliers] == [("ttft_s", 12), ("e2e_s", 12)]
    (first, _) = outlier_sentences(verdict)
    assert "ttft of trial 12 is 900 ms, the median 107 ms; it is counted" in first
