"""Deployments that take turns: the order of their trials, and how they are held to the first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.factory import RunWriter, answered, make_events, make_exchange, make_sent
from tests.fake_server import DONE, FakeServer, models, serving_apart, token, usage
from tests.prompts.tokenizers_for_tests import save

from leadline.cli import main
from leadline.journal import Run, list_runs
from leadline.records import Record
from leadline.report.comparison_table import word_ratio
from leadline.verdict import RunVerdict, judge_run
from leadline.verdict.comparison import estimate_ratio

CAMPAIGN = """\
name: compared
order: {order}
deployments:
  a: {{target: "http://127.0.0.1:1"}}
  b: {{target: "http://127.0.0.1:2"}}
workload: {{input_tokens: 100, output_tokens: 3, repeats: {repeats}, needles: 0}}
"""
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 0},
}


def record(deployment: str, trial: int, first_ms: float, **changes: Any) -> Record:
    events = make_events((first_ms, " A", 1), (first_ms + 50, " b", 2), (first_ms + 100, " c", 3))
    facts = {
        "cell": f"{deployment}/input_tokens=100",
        "deployment": deployment,
        "sent": make_sent(100),
        "exchange": make_exchange(usage=USAGE, events=events),
    }
    return answered(100, trial, **facts | changes)


def judge(
    tmp_path: Path, *records: Record, order: str = "interleaved", repeats: int = 6
) -> RunVerdict:
    writer = RunWriter(tmp_path, CAMPAIGN.format(order=order, repeats=repeats))
    for deployment in ("a", "b"):
        writer.ready(deployment=deployment)
    for each in records:
        writer.journal.record(each)
    return judge_run(writer.close())


def both(trials: int, **changes: Any) -> list[Record]:
    """``b`` takes half as long again; the machine gets slower from trial to trial."""
    ours = [record("a", trial, 100 * trial) for trial in range(1, trials + 1)]
    return [*ours, *(record("b", n, 150 * n, **changes) for n in range(1, trials + 1))]


def test_the_ratio_is_that_of_pairs_whatever_the_machine_did_meanwhile(tmp_path: Path) -> None:
    verdict = judge(tmp_path, *both(6))
    ttft, tpot, _ = verdict.comparisons
    assert (ttft.measure, ttft.baseline, ttft.deployment, ttft.pairs) == ("ttft_s", "a", "b", 6)
    assert ttft.ratio
    assert ttft.ratio.value == pytest.approx(1.5)
    assert (ttft.ratio.low, ttft.ratio.high) == (pytest.approx(1.5), pytest.approx(1.5))
    assert tpot.ratio
    assert tpot.ratio.value == pytest.approx(1.0)


def test_ratios_and_refusals_are_said_in_words(tmp_path: Path) -> None:
    ttft, *_ = judge(tmp_path / "six", *both(6)).comparisons
    place = ("100", "TTFT", "b", "a")
    assert word_ratio(ttft) == (*place, "1.50", "1.50 to 1.50", "6")
    few, *_ = judge(tmp_path / "two", *both(2), repeats=2).comparisons
    reason = "none: 2 pairs; an interval needs 6; single pairs 1.50 to 1.50"
    assert word_ratio(few) == (*place, "1.50", reason, "2")
    (other,) = judge(tmp_path / "one", *both(6)[:6]).comparisons
    assert word_ratio(other) == (*place, "not comparable", "b has no result", "0")


def test_few_pairs_get_no_interval(tmp_path: Path) -> None:
    ttft = judge(tmp_path, *both(3), repeats=3).comparisons[0]
    assert ttft.ratio
    assert ttft.ratio.low is None
    assert ttft.ratio.refused == "3 pairs; an interval needs 6"
    assert (ttft.lowest, ttft.highest) == (pytest.approx(1.5), pytest.approx(1.5))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sent": make_sent(100).model_copy(update={"ids_sha256": "f" * 64})}, "not the same ids"),
        (
            {"exchange": make_exchange(usage=USAGE | {"completion_tokens": 2})},
            "finish: finish_reason length, 2 of 3",
        ),
        (
            {
                "exchange": make_exchange(
                    usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 64}}
                )
            },
            "the cache answered",
        ),
    ],
)
def test_unequal_conditions_are_not_compared(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    (only,) = judge(tmp_path, *both(6, **changes)).comparisons
    assert only.ratio is None
    assert reason in only.refused


def test_a_deployment_without_a_result_is_not_compared(tmp_path: Path) -> None:
    (only,) = judge(tmp_path, *both(6)[:6]).comparisons
    assert only.refused == "b has no result"


def test_what_ran_one_after_the_other_is_not_compared(tmp_path: Path) -> None:
    assert judge(tmp_path, *both(6), order="in_turn").comparisons == ()


def test_the_interval_holds_the_mean_and_widens_with_the_spread() -> None:
    narrow = estimate_ratio([1.4, 1.5, 1.6, 1.5, 1.45, 1.55])
    wide = estimate_ratio([0.7, 1.5, 3.2, 1.5, 1.0, 2.25])
    assert None not in (narrow.low, narrow.high, wide.low, wide.high)
    assert narrow.low < narrow.value < narrow.high  # type: ignore[operator]
    assert wide.high - wide.low > narrow.high - narrow.low  # type: ignore[operator]


def test_trials_take_turns_and_nobody_is_always_first(tmp_path: Path) -> None:
    script = (token(" one", 1), token(" two", 2, "length"), usage(100, 2), DONE)
    tokenizer = str(save("llama3", tmp_path / "tokenizer").file)
    routes = {"/v1/models": models("tiny", max_model_len=4096)}
    with (
        serving_apart(FakeServer(script, routes=routes)) as first,
        serving_apart(FakeServer(script, routes=routes)) as second,
    ):
        targets = [
            {"kind": "endpoint", "url": server.url, "tokenizer": tokenizer}
            for server in (first, second)
        ]
        campaign = {
            "name": "turns",
            "order": "interleaved",
            "model": "tiny",
            "deployments": {
                name: {"engine": "openai", "target": target}
                for name, target in zip("ab", targets, strict=True)
            },
            "workload": {
                "input_tokens": 100,
                "output_tokens": 2,
                "repeats": 3,
                "needles": 0,
                "limit_probes": False,
            },
        }
        file = tmp_path / "c.yaml"
        file.write_text(json.dumps(campaign), encoding="utf-8")
        with pytest.raises(SystemExit):
            main(["run", str(file), "--runs", str(tmp_path / "runs"), "--json"])
    (path,) = list_runs(tmp_path / "runs")
    trials = [each for each in Run(path).records() if each.purpose == "trial"]
    assert [(each.deployment, each.trial) for each in trials] == [
        ("b", 1), ("a", 1), ("a", 2), ("b", 2), ("b", 3), ("a", 3)
    ]  # fmt: skip
    prompts = {each.trial: set() for each in trials}  # type: ignore[var-annotated]
    for each in trials:
        prompts[each.trial].add(each.sent.ids_sha256)
    assert [len(ids) for ids in prompts.values()] == [1, 1, 1]
