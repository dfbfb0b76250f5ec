from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.cancelling import cancel_begun
from tests.factory import make_clock, make_exchange, make_record
from tests.fake_server import Answer, FakeServer, serving

from leadline.engines.engine import load_engine
from leadline.journal import Run, create_run
from leadline.metrics.sampling import (
    MetricsSource,
    Sample,
    during,
    read_samples,
    read_telemetry,
    sampling,
    summarise_server,
)

VLLM = load_engine("vllm")
BUSY = """vllm:num_requests_running{engine="0"} 8
vllm:num_requests_waiting{engine="0"} 3
vllm:kv_cache_usage_perc{engine="0"} 0.625
vllm:num_preemptions_total{engine="0"} 2
"""


def source(url: str) -> MetricsSource:
    key = {"Authorization": "Bearer sesame-12345"}
    return MetricsSource("x", f"{url}/metrics", VLLM.counters, VLLM.gauges, key)


def make_run(tmp_path: Path) -> Run:
    return Run(create_run(tmp_path, "x", {}, "{}"))


def make_sample(t_ns: int, failure: str | None = None, **values: float) -> Sample:
    gauges = {name: values[name] for name in ("running", "waiting", "kv_usage") if name in values}
    counters = {name: value for name, value in values.items() if name not in gauges}
    return Sample(
        at="", t_ns=t_ns, asked_ns=t_ns, deployment="x",
        gauges=gauges, counters=counters, failure=failure,
    )  # fmt: skip


def sample_until(path: Path, count: int, *args: Any, **options: Any) -> None:
    """Samples as asked until so many lines stand there."""

    async def work() -> None:
        async with sampling(*args, **options), asyncio.timeout(60):
            await lines_of(path, count)

    asyncio.run(work())


async def lines_of(path: Path, count: int) -> None:
    while count_lines(path) < count:  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.02)


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("after_s", [0.0, 0.3])
def test_a_server_is_sampled_at_each_interval_and_at_both_ends(
    after_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loop is ours, as the way to a pod is: what blocked it would see no answer.

    However slowly it answers, and however often the devices were looked at meanwhile, it was
    looked at before the block begins.
    """
    monkeypatch.setattr("leadline.metrics.sampling._READY_S", 60)  # a test machine is busy
    run = make_run(tmp_path)
    path = run.path / "samples.jsonl"
    server = FakeServer(routes={"/metrics": Answer(BUSY, after_s=after_s)})

    async def work() -> int:
        async with serving(server), asyncio.timeout(60):
            async with sampling(run.path, source(server.url), interval_s=0.05):
                begun = len(read_samples(run))
                await lines_of(path, 3)
            return begun

    begun_ns = time.perf_counter_ns()
    assert asyncio.run(work()) >= 1
    samples = read_samples(run)
    assert server.headers[0]["Authorization"] == "Bearer sesame-12345"
    assert [sample.failure for sample in samples] == [None] * len(samples)
    assert len(samples) >= 4
    assert samples[0].gauges == {"running": 8, "waiting": 3, "kv_usage": 0.625}
    assert samples[0].counters == {"preemptions": 2}
    ticks = [tick for sample in samples for tick in (sample.asked_ns, sample.t_ns)]
    assert begun_ns < ticks[0]
    assert ticks == sorted(ticks)
    assert ticks[-1] < time.perf_counter_ns()
    assert "sesame" not in (run.path / "samples.jsonl").read_text()


@pytest.mark.parametrize(
    ("routes", "failure"),
    [({}, "HTTPException: HTTP 404"), ({"/metrics": Answer("", 503)}, "HTTPException: HTTP 503")],
)
def test_a_look_that_fails_is_a_line_too(
    routes: dict[str, Answer], failure: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    server = FakeServer(routes=routes)

    async def work() -> None:
        async with serving(server), sampling(run.path, source(server.url)):
            await lines_of(run.path / "samples.jsonl", 1)

    asyncio.run(work())
    assert read_samples(run)[0].failure == failure


def test_nobody_there_is_a_line_too(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    nobody = source("http://127.0.0.1:9")
    sample_until(run.path / "samples.jsonl", 1, run.path, nobody, devices=False)
    assert (read_samples(run)[0].failure or "").startswith("ConnectionRefusedError")
    assert not (run.path / "telemetry.jsonl").exists()


def test_our_own_process_is_in_the_telemetry(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    sample_until(run.path / "telemetry.jsonl", 2, run.path, None, pid=os.getpid())
    readings = read_telemetry(run)
    (own, *_) = [reading for reading in readings if reading.source == "process"]
    assert own.device == str(os.getpid())
    assert isinstance(own.facts["rss_bytes"], int | float)
    assert any(reading.source == "machine" for reading in readings)
    assert not (run.path / "samples.jsonl").exists()


def test_the_sampler_ends_with_the_one_who_started_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    script = (
        "import asyncio\nfrom pathlib import Path\n"
        "from leadline.metrics.sampling import sampling\n"
        "async def main():\n"
        f"    async with sampling(Path({str(run.path)!r}), None): await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    path = run.path / "telemetry.jsonl"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        asyncio.run(asyncio.wait_for(lines_of(path, 1), 60))
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    size = -1
    while size != path.stat().st_size:  # grows each second as long as it lives
        assert time.monotonic() < deadline
        size = path.stat().st_size
        time.sleep(2.5)


def test_a_sampler_is_gone_also_when_its_end_is_not_waited_for(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    async def work(begun: asyncio.Event) -> None:
        async with sampling(run.path, None):
            begun.set()
            await asyncio.sleep(60)

    asyncio.run(cancel_begun(work, 0))
    assert not [child for child in psutil.Process().children() if child.is_running()]


def test_a_sampler_ends_when_nobody_is_left_to_hear_that_it_is_ready(tmp_path: Path) -> None:
    plan = {"run": str(make_run(tmp_path).path), "metrics": None, "devices": True}
    plan |= {"pid": os.getpid(), "interval_s": 0.05, "timeout_s": 1.0}
    sampler = subprocess.Popen(
        [sys.executable, "-m", "leadline.metrics.sampler"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert sampler.stdin
    assert sampler.stdout
    sampler.stdout.close()
    sampler.stdin.write(json.dumps(plan).encode() + b"\n")
    sampler.stdin.close()
    sampler.wait(20)


def test_before_and_after_of_one_request_is_no_sample(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    line = json.dumps({"at": "", "before": {}, "after": {}})
    (run.path / "scrapes.jsonl").write_text(f"{line}\n")
    assert read_samples(run) == []


def test_a_summary_has_peaks_and_growth() -> None:
    samples = [
        make_sample(1, running=1, waiting=0, kv_usage=0.1, preemptions=5, cached_tokens=100),
        make_sample(2, "TimeoutError: timed out"),
        make_sample(3, running=9, waiting=4, kv_usage=0.95, preemptions=6, cached_tokens=100),
        make_sample(4, running=2, waiting=0, kv_usage=0.2, preemptions=8, cached_tokens=164),
    ]
    found = summarise_server(samples)
    assert found is not None
    assert (found.samples, found.failed) == (4, 1)
    assert (found.highest_running, found.highest_waiting, found.highest_kv_usage) == (9, 4, 0.95)
    assert found.grown == {"preemptions": 3, "cached_tokens": 64}


def test_what_a_server_does_not_show_is_unknown() -> None:
    found = summarise_server([make_sample(1, running=1)])
    assert found is not None
    assert found.highest_kv_usage is None
    assert found.grown == {}
    assert summarise_server([]) is None


def test_a_load_has_the_samples_within_it_and_one_on_either_side() -> None:
    samples = [make_sample(t_ns) for t_ns in (0, 10, 20, 30, 40, 50)]
    first, last = (
        make_record(make_exchange(clock=make_clock(0).model_copy(update=update)))
        for update in ({"start_ns": 15, "end_ns": 22}, {"start_ns": 18, "end_ns": 32})
    )
    assert [sample.t_ns for sample in during([first, last], samples)] == [10, 20, 30, 40]
    assert [sample.t_ns for sample in during([first], samples[:2])] == [10]
    assert during([], samples) == []


def test_a_look_that_was_asked_before_the_end_is_not_the_one_after() -> None:
    """Its counters may be of before the end, whenever its answer was there."""
    samples = [make_sample(t_ns) for t_ns in (0, 10, 20, 33, 40, 50)]
    samples[3] = samples[3].model_copy(update={"asked_ns": 31})
    clock = make_clock(0).model_copy(update={"start_ns": 15, "end_ns": 32})
    found = during([make_record(make_exchange(clock=clock))], samples)
    assert [sample.t_ns for sample in found] == [10, 20, 33, 40]


def test_each_origin_is_cut_for_itself() -> None:
    samples = [
        make_sample(t_ns).model_copy(update={"deployment": name})
        for t_ns in (0, 10, 20)
        for name in ("x", "y")
    ]
    clock = make_clock(0).model_copy(update={"start_ns": 12, "end_ns": 15})
    found = during([make_record(make_exchange(clock=clock))], samples)
    assert [(s.deployment, s.t_ns) for s in found] == [("x", 10), ("x", 20), ("y", 10), ("y", 20)]


def test_a_sampler_ends_whose_parent_was_killed_before_it_was_ready(tmp_path: Path) -> None:
    """Its word that it is ready then finds nobody: its threads must not go on for ever."""
    plan = {"run": str(tmp_path), "metrics": None, "devices": True, "pid": None, "interval_s": 0.1}
    listening, speaking = os.pipe()
    os.close(listening)
    sampler = subprocess.Popen(
        [sys.executable, "-m", "leadline.metrics.sampler"],
        stdin=subprocess.PIPE,
        stdout=speaking,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    os.close(speaking)
    try:
        sampler.communicate(json.dumps(plan) + "\n", timeout=20)
    finally:
        sampler.kill()
        sampler.wait()
    assert sampler.returncode > 0
