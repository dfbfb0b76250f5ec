"""The engine's own words in every form of the report."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from tests.factory import RunWriter

from leadline.journal import Run
from leadline.records import Comparison, EngineWords
from leadline.report import phrases
from leadline.report.phrases import word_engine
from leadline.report.write import write_report
from leadline.verdict import judge_run

CAMPAIGN = """\
name: words
deployments: {x: {target: "http://127.0.0.1:1"}}
matrix: {workload.input_tokens: [100]}
workload: {repeats: 1}
"""
WORDS = EngineWords(
    version="0.32.0",
    figures={"kv_tokens": 8_315_522, "concurrency": 7.93},
    differing={"dtype": ("bfloat16", "float16")},
    comparisons=(
        Comparison(
            name="KV cache size", unit="tokens", engine=8_315_522, plan=8_315_522, source="spec"
        ),
        Comparison(name="maximum concurrency", unit="x", engine=7.93, plan=8.35, source="spec"),
    ),
)
SENTENCES = [
    "KV cache size: the engine says 8,315,522 tokens, the plan 8,315,522 tokens (from spec): equal",
    "maximum concurrency: the engine says 7.93x, the plan 8.35x (from spec): differs by -5.03%",
    "dtype: asked for bfloat16, the engine works with float16",
]


def test_figures_that_differ_within_rounding_are_not_called_equal() -> None:
    rounded = Comparison(
        name="KV cache size", unit="tokens", engine=199_096, plan=203_866, source="log",
        tolerance=0.17,
    )  # fmt: skip
    sentence = phrases._word_comparison(rounded)
    assert sentence.endswith(
        "differs by -2.34%, which the rounding of what the engine prints allows (±17.00%)"
    )


def run_with_words(tmp_path: Path) -> Run:
    writer = RunWriter(tmp_path, CAMPAIGN)
    writer.ready()
    for attempt, words in ((1, EngineWords(version="old")), (2, WORDS)):
        facts = {"deployment": "x", "attempt": attempt}
        writer.journal.event(
            "engine_words", **facts, **words.model_dump(mode="json", round_trip=True)
        )
    for name in ("environment.json", "plan.json"):
        writer.journal.write(name, {})
    return writer.close()


def test_the_words_of_the_last_start_are_those_of_the_verdict(tmp_path: Path) -> None:
    (deployment,) = judge_run(run_with_words(tmp_path)).deployments
    assert deployment.words == WORDS
    assert [sentence for _, sentence in word_engine(deployment)] == SENTENCES
    assert [outcome for outcome, _ in word_engine(deployment)] == ["pass", "unknown", "unknown"]


def test_every_form_shows_them(tmp_path: Path) -> None:
    run = run_with_words(tmp_path)
    html, markdown, document = write_report(run, judge_run(run))
    for sentence in SENTENCES:
        assert sentence in markdown.read_text(encoding="utf-8")
        assert sentence in html.read_text(encoding="utf-8")
    words = orjson.loads(document.read_bytes())["deployments"][0]["words"]
    assert words["figures"]["kv_tokens"] == 8_315_522
    assert words["comparisons"][0]["plan"] == 8_315_522
    assert [found["equal"] for found in words["comparisons"]] == [True, False]
    assert words["comparisons"][1]["difference"] == pytest.approx(7.93 / 8.35 - 1)
