"""A load on the real engine, against what the engine counted itself."""

from __future__ import annotations

import pytest
from tests.end_to_end.conftest import Finish, Start

from leadline.journal import Run
from leadline.metrics.sampling import read_samples

pytestmark = pytest.mark.engine


def test_the_server_counted_what_was_sent_and_answered(
    server_url: str, start: Start, finish: Finish
) -> None:
    lengths = ("--input-tokens", "40", "--output-tokens", "8")
    load = ("--concurrency", "2", "--requests", "12", "--warmup", "1")
    outcome = finish(start("bench", "--url", server_url, "--model", "smollm2", *lengths, *load))
    (cell,) = outcome.report["cells"]
    report = cell["load"]
    assert report["answered"] == 12
    assert report["server"]["failed"] == 0
    assert report["server"]["grown"]["output_tokens"] == 12 * 8
    assert report["server"]["grown"]["prompt_tokens"] == 12 * 40
    assert report["server"]["highest_running"] >= 1
    assert report["statistics"]["times"]["ttft_s"]["n"] == 12
    ticks = [sample.t_ns for sample in read_samples(Run(outcome.run))]
    clocks = [r.exchange.clock for r in Run(outcome.run).records() if r.purpose == "load"]
    assert ticks[0] < min(clock.start_ns for clock in clocks)
    assert max(clock.end_ns for clock in clocks) < ticks[-1]
    (page,) = outcome.run.glob("load-*.html")
    assert page.read_text().count("<svg") == 6
