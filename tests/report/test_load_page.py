"""A load's report from a journal as ``leadline bench`` leaves it."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.factory import MS, failed_exchange, make_clock, make_events, make_exchange, make_record

from leadline.journal import Journal, Run, create_run
from leadline.metrics.intervals import Estimate
from leadline.metrics.lines import SAMPLE_SCHEMA, telemetry_line
from leadline.records import Record, Strain
from leadline.report.load_charts import distribution_rows, request_rows, ttft_rows
from leadline.report.load_page import load_pages, word_estimate
from leadline.report.load_table import render_loads
from leadline.spec import parse_campaign
from leadline.verdict import judge_run

COUNT = 40
CAMPAIGN = f"""
name: bench
deployments:
  server: {{target: "http://127.0.0.1:1", model: tiny}}
workload:
  input_tokens: 100
  output_tokens: 3
  load: {{users: 2, requests: {COUNT}, warmup: 2, goals: {{ttft_s: 0.5}}}}
"""
(CELL,) = parse_campaign(CAMPAIGN, source="x").cells()


def shot(number: int) -> Record:
    """Two users without a pause, one second each; number 30 is late, number 31 is refused."""
    start_ms = 1000 * (number // 2)
    clock = make_clock(start_ms + 1000).model_copy(update={"start_ns": start_ms * MS})
    if number == 31:
        exchange = failed_exchange("refused", "HTTP 429: too | many", 429)
        exchange = exchange.model_copy(update={"clock": clock})
    else:
        at = start_ms + (900 if number == 30 else 100 + number % 4)
        events = make_events((at, "a", 1), (start_ms + 950, "b", 2), (start_ms + 1000, "c", 3))
        exchange = make_exchange(clock=clock, events=events)
    return make_record(exchange, trial=number, cell=CELL.key, purpose="load", step=1)


def sample_line(t_ms: int, **gauges: float) -> dict[str, Any]:
    counters = {"preemptions": t_ms / 10_000}
    return {
        "schema": SAMPLE_SCHEMA, "at": "", "t_ns": t_ms * MS, "asked_ns": t_ms * MS,
        "deployment": "server", "gauges": gauges, "counters": counters, "failure": None,
    }  # fmt: skip


def write_run(tmp_path: Path, count: int = COUNT) -> Run:
    path = create_run(tmp_path, "bench", {"seed": 7}, CAMPAIGN)
    journal = Journal(path)
    facts = {"cell": CELL.key, "attempt": 1, "step": 1}
    load = CELL.workload.load
    assert load
    journal.event("load_started", **facts, requests=COUNT, load=load.model_dump())
    for number in range(count):
        journal.record(shot(number))
    if count == COUNT:
        strain = Strain(wall_s=20, cpu_share=0.25, lag_p99_s=0.001, lag_max_s=0.004)
        journal.event("load_ended", **facts, strain=strain.model_dump())
        for t_ms in (0, 10_000, 20_000):
            journal.scrape(sample_line(t_ms, running=2, waiting=1, kv_usage=0.375))
        _write_telemetry(path)
    journal.close()
    return Run(path)


def _write_telemetry(path: Path) -> None:
    lines = []
    for second in (0, 10, 20):
        facts = {"memory_used_bytes": 70 * 2**30, "memory_total_bytes": 80 * 2**30,
                 "busy_percent": 90 + second / 10, "power_w": 600.0 + second,
                 "throttle": ["power cap"] if second == 10 else []}  # fmt: skip
        lines += [
            telemetry_line("nvml", "0", facts) | {"t_ns": second * 1000 * MS},
            telemetry_line("process", "99", {"cpu_s": 1.5 * second, "rss_bytes": 2**30})
            | {"t_ns": second * 1000 * MS},
        ]
    (path / "telemetry.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def pages_of(run: Run) -> dict[str, str]:
    """Markdown and HTML by suffix."""
    found = load_pages(run, judge_run(run))
    return {name.rpartition(".")[2]: text for name, text in found.items()}


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return pages_of(write_run(tmp_path_factory.mktemp("load")))


def test_the_page_has_every_picture_and_no_script(forms: dict[str, str]) -> None:
    page = forms["html"]
    assert page.count("<svg") == 7
    for title in ("Requests", "Time to first token", "In flight", "Output tokens", "Distributions"):
        assert f">{title}<" in page
    assert "queue<" in page
    assert "KV cache<" in page
    assert "<script" not in page


def test_the_words_say_what_was_measured(forms: dict[str, str]) -> None:
    text = forms["md"]
    assert f"# Load: {CELL.key}: fail" in text
    assert "- answered: 39 of 40" in text
    assert "- goodput/s (TTFT ≤ 500 ms): 1.9 [1.67, 1.97]" in text
    # 38 of 39 lie at 100 to 103 ms; p99 is interpolated towards the late one.
    assert "| 101 ms [101, 102] | 103 ms [103, 103] | 597 ms | 900 ms |" in text
    assert "From 0 ms to 20 s after the first request, 2.0 in flight on average; 40 req" in text
    assert "| 1 | refused | HTTP 429: too \\| many |" in text
    assert "| TTFT | 30 | 900 ms | 101 ms |" in text
    assert "- KV cache, highest use: 37.5%" in text
    assert "- preemptions: 2" in text
    assert "| nvml 0 | 91 % busy | 70 GiB of 80 GiB | 600 to 620 W, slowed by power cap" in text
    assert "in 33% of the readings" in text
    assert "| process 99 | 1.5 cores | 1 GiB |" in text
    assert "- event loop late: 1 ms (p99), 4 ms at most" in text


def test_the_terminal_names_the_window_the_outliers_and_the_peaks(tmp_path: Path) -> None:
    out = StringIO()
    (cell,) = judge_run(write_run(tmp_path)).cells
    Console(file=out, width=120).print(render_loads(cell))
    text = out.getvalue()
    assert "20 s, 1.95 requests/s, 5.85 output tokens/s" in text
    assert "ttft of request 30, 900 ms (median 101 ms)" in text
    assert "at most 2 running, 1 waiting, 38% of its KV cache; 3 samples" in text


def test_an_interrupted_load_without_a_request_has_a_page_too(tmp_path: Path) -> None:
    run = write_run(tmp_path, count=0)
    found = pages_of(run)
    page, text = found["html"], found["md"]
    assert "<svg" not in page
    assert "No request was answered." in text
    assert "No steady state: no request was sent." in text
    assert "interrupted" in text


def test_a_failed_request_is_one_bar_and_an_answered_one_two() -> None:
    rows = request_rows([shot(30), shot(31)])
    assert [(row["n"], row["part"]) for row in rows] == [
        (0, "to the first token"), (0, "to the end"), (1, "failed")
    ]  # fmt: skip
    assert [row["to"] - row["from"] for row in rows] == pytest.approx([0.9, 0.1, 1.0])


def test_of_many_requests_every_outlier_is_drawn() -> None:
    records = [shot(n) for n in [*range(30)] * 100]
    records.append(shot(30))
    rows = ttft_rows(records, {30})
    assert len(rows) < 2001
    (late,) = [row for row in rows if row["kind"] == "outlier"]
    assert late["ttft"] == pytest.approx(0.9)


def test_a_distribution_ends_at_the_highest_value() -> None:
    rows = distribution_rows("TTFT", [float(n) for n in range(1000)])
    assert len(rows) == 300
    assert (rows[0]["value_s"], rows[-1]["value_s"], rows[-1]["share"]) == (0, 999, 1)
    values = [row["value_s"] for row in rows]
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (Estimate(value=0.0538, low=0.05, high=0.061), "53.8 ms [50, 61]"),
        (Estimate(value=6.5, low=0.5, high=13.0), "6.5 s [0.5, 13]"),
        (Estimate(value=6.5, refused="5 values; an interval needs 6"), "6.5 s"),
    ],
)
def test_an_estimate_in_words(estimate: Estimate, words: str) -> None:
    assert word_estimate(estimate) == words
