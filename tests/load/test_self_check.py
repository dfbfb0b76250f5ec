"""The client measures its own error against a server of known truth."""

from __future__ import annotations

import json
import urllib.request

import numpy as np
import pytest
import uvloop

from leadline.errors import LoadError
from leadline.load.self_check import Line, check_instrument, compare, quantile, serving
from leadline.records import Clock, Event, Exchange


def test_a_closed_loop_is_checked_over_several_processes() -> None:
    check = uvloop.run(check_instrument(users=4, output_tokens=5, itl_s=0.01, processes=2))
    assert (check.requests, check.failures, check.processes) == (8, 0, 2)
    assert check.output_tokens == 5
    assert 0 < check.ttft_error_p50_s <= check.ttft_error_p99_s
    assert check.events_per_s > 0


def test_an_open_loop_is_checked_at_its_rate() -> None:
    check = uvloop.run(check_instrument(rate=5, output_tokens=3, itl_s=0.005))
    assert (check.requests, check.failures, check.processes) == (20, 0, 1)
    assert check.rate == 5


def exchange_of(*ticks: int) -> Exchange:
    events = [Event(tick, "0" if not n else "x", n + 1) for n, tick in enumerate(ticks)]
    clock = Clock(wall_start="", start_ns=1_000, end_ns=ticks[-1])
    return Exchange(clock=clock, status=200, events=tuple(events), terminated=True)


def test_an_error_is_what_the_client_adds() -> None:
    line = Line(stream=0, arrived_ns=1_200, sent_ns=[5_000, 9_000], gone_ns=[5_010, 9_020])
    errors = compare([exchange_of(5_100, 9_400)], {0: line})
    ns = 1e-9
    assert errors.ttft_s == pytest.approx([(4_100 - 3_800) * ns])
    assert errors.e2e_s == pytest.approx([(8_400 - 7_800) * ns])
    assert errors.itl_s == pytest.approx([300 * ns])
    assert errors.truth_s == pytest.approx([10 * ns, 20 * ns])


def test_tokens_that_came_at_one_tick_have_the_error_of_each_and_no_gap_is_reported() -> None:
    line = Line(stream=0, arrived_ns=0, sent_ns=[5_000, 9_000, 9_500], gone_ns=[5_000] * 3)
    errors = compare([exchange_of(5_100, 9_600, 9_600)], {0: line})
    ns = 1e-9
    assert errors.itl_s == pytest.approx([500 * ns, -500 * ns])
    assert errors.reported_itl_s == pytest.approx([4_500 * ns])
    assert errors.true_itl_s == pytest.approx([4_000 * ns, 500 * ns])


def test_a_server_whose_load_fails_ends_all_the_same() -> None:
    truths = []

    def fail() -> None:
        with serving(ttft_s=0, itl_s=1, tokens=1) as (url, truth):
            truths.append(truth)
            raise ZeroDivisionError(url)

    with pytest.raises(ZeroDivisionError, match=r"http://127\.0\.0\.1:\d+"):
        fail()
    assert truths == [{}]


def test_a_server_that_does_not_start_is_told() -> None:
    with (
        pytest.raises(LoadError, match="did not start"),
        serving("--port=70000", ttft_s=0, itl_s=1, tokens=1),
    ):
        pass


def test_nothing_measured_is_no_number() -> None:
    assert np.isnan(quantile(np.array([]), 99))


@pytest.mark.parametrize("asks", [False, True])
def test_usage_alone_is_sent_only_to_who_asks_for_it(asks: bool) -> None:
    body = {"prompt": [1], "stream": True}
    body |= {"stream_options": {"include_usage": True}} if asks else {}
    with serving(ttft_s=0.01, itl_s=0.001, tokens=2) as (url, _):
        request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            events = answer.read().decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    choices = [len(json.loads(event.removeprefix("data: "))["choices"]) for event in events[:-2]]
    assert choices == [1, 1, *([0] if asks else [])]


def test_a_stall_is_a_longer_gap_before_every_so_manieth_token() -> None:
    stalls = ("--stall-ms=200", "--stall-every=3")
    with serving(*stalls, ttft_s=0.01, itl_s=0.001, tokens=8) as (url, truth):
        request = urllib.request.Request(f"{url}/v1/completions", b"{}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
    (line,) = truth.values()
    gaps = np.diff(line.sent_ns) * 1e-9
    assert [n + 1 for n, gap in enumerate(gaps) if gap > 0.1] == [3, 6]
