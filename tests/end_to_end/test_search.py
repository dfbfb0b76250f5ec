"""Searches on the real embedded engine: the limit is real, and so is every question."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.end_to_end.conftest import Finish, Start, events, wait_for

from leadline.catalog.assets import asset_path
from leadline.deploy.process import free_port
from leadline.engines import llamacpp_server
from leadline.journal import Run

# By its file: what runs as a module is taken for a server that a campaign left behind.
_SERVER = Path(llamacpp_server.__file__)
OUTPUT = 8
POOL = 256
LOAD = {"output_tokens": OUTPUT, "load": {"users": 2, "requests": 1, "warmup": 0}}


@pytest.fixture
def sharing_server() -> Iterator[str]:
    """Two slots that share a KV cache of 256 tokens; it tells nobody that they do."""
    port = free_port()
    model = ["--model", str(asset_path("models", "smollm2")), "--alias", "smollm2"]
    size = ["--ctx-size", str(POOL), "--threads", "2", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, str(_SERVER), *model, *size, "--kv-unified", "--parallel", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.mark.engine
def test_a_limit_that_nobody_foretold_is_bisected_and_a_killed_search_goes_on(
    sharing_server: str,
    campaign_file: Callable[..., Path],
    start: Start,
    finish: Finish,
    tmp_path: Path,
) -> None:
    file = campaign_file(
        deployments={"theirs": {"target": sharing_server, "engine": "llamacpp"}},
        workload=LOAD,
        search={"maximise": "input_tokens", "within": "gates", "resolution": 16},
    )
    first = start("run", file)
    wait_for(lambda: len(events(tmp_path, "search_asked")) >= 4, seconds=240)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=30)
    before = len(events(tmp_path, "search_asked"))

    outcome = finish(start("run", file))
    assert outcome.code == 0, outcome.stderr
    (search,) = outcome.report["searches"]
    assert search["ending"] == "found"
    assert search["start"] == POOL - OUTPUT  # all that the server says of itself
    limit, steps = search["limit"], search["steps"]
    most = POOL // 2 - OUTPUT  # what it really is: both users at once
    assert limit["holds_to"] <= most < limit["fails_from"]
    # A level that a busy machine's client could not judge stays open, and is said.
    between = [s for s in steps if limit["holds_to"] < s["level"] < limit["fails_from"]]
    assert all(step["status"] == "inconclusive" for step in between), between
    assert limit["fails_from"] - limit["holds_to"] <= 16 or between, steps
    assert len(steps) > before
    assert len({(step["level"], step["take"]) for step in steps}) == len(steps)
    asked = [line["level"] for line in events(tmp_path, "search_asked")]
    assert asked == [step["level"] for step in steps]
    loads = [event for event in Run(outcome.run).events() if event["event"] == "load_ended"]
    assert len({load["cell"] for load in loads}) == len(steps), "a level was run twice"
    states = {(point["input_tokens"], point["state"]) for point in search["points"]}
    assert {(limit["holds_to"], "proven"), (POOL - OUTPUT, "predicted")} <= states


@pytest.mark.engine
def test_the_plan_foretells_the_limit_and_a_remedy_moves_it(
    campaign_file: Callable[..., Path], start: Start, finish: Finish
) -> None:
    """256 tokens are too few for two prompts of 200: so many are needed, and then it is found."""
    settings = {"ctx_size": 256, "parallel": 3, "kv_unified": True, "threads": 2}
    file = campaign_file(
        deployments={"small": {"engine": "llamacpp", "settings": settings}},
        workload={**LOAD, "input_tokens": 200, "load": {"warmup": 0, "requests": 1}},
        search={"maximise": "concurrency", "heal": True, "high": 3},
    )
    outcome = finish(start("run", file))
    assert outcome.code == 0, outcome.stderr
    (search,) = outcome.report["searches"]
    assert search["start"] == 1
    heals = [heal["changes"]["ctx_size"] for heal in search["heals"]]
    assert heals == [2 * 208, 3 * 208]
    assert all(heal["code"] == "RUN023" for heal in search["heals"])
    assert search["limit"]["highest_pass"] == 3
    assert search["limit"]["fails_from"] is None
    names = [item["key"] for item in outcome.report["deployments"]]
    assert names == ["small", "small/ctx_size=416", "small/ctx_size=624"]
