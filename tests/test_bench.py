"""``leadline bench`` from the command line to the report, against a server with a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.fake_server import (
    CUT,
    DONE,
    Answer,
    FakeServer,
    Step,
    models,
    serving_apart,
    sse,
    token,
    usage,
)
from tests.prompts.tokenizers_for_tests import real_text, save

from leadline.campaign.wave import Wave
from leadline.cli import main
from leadline.journal import Run
from leadline.metrics import trust

PROMPT_TOKENS = 20
SOUND: Sequence[Step] = (
    0.01, token("a", 1), 0.01, token("b", 2) + token("c", 3), 0.01, token("d", 4, "length"),
    usage(PROMPT_TOKENS, 4), DONE,
)  # fmt: skip


_LIMITS = (
    "MOST_CPU_SHARE", "MOST_LAG_S", "MOST_LATE_S", "MOST_TTFT_ERROR_S", "MOST_ITL_ERROR_S",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEADLINE_API_KEY", raising=False)
    Path("sea.txt").write_text("deep blue sea\n" * 2000, encoding="utf-8")
    for limit in _LIMITS:
        monkeypatch.setattr(trust, limit, 60)  # the machine of a test may be busy


def server(script: Sequence[Step] = SOUND, refusal: Answer | None = None) -> FakeServer:
    routes = {
        "/v1/models": models("tiny"),
        "/version": Answer({"version": "0.12.0"}),
        "/tokenize": Answer({"tokens": list(range(300))}),
    }
    return FakeServer(script=script, refusal=refusal, routes=routes)


def bench(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], *options: str, code: int = 0
) -> dict[str, Any]:
    """The one load of the report, or what was said instead of one."""
    argv = ["bench", "--model", "tiny", "--corpus", "sea.txt", "--input-tokens", "20"]
    argv += ["--output-tokens", "4", "--json", *options]
    with serving_apart(fake), pytest.raises(SystemExit) as end:
        main([*argv, "--url", fake.url])
    printed = capsys.readouterr()
    assert end.value.code == code, printed.err
    if not printed.out:
        return {"stderr": printed.err}
    (cell,) = json.loads(printed.out)["cells"]
    return {**(cell["load"] or {}), **{name: cell[name] for name in _OF_THE_CELL}}


_OF_THE_CELL = ("cell", "status", "cause", "reason", "gates", "sweep", "cache")


def test_a_closed_loop_is_measured_and_its_warm_up_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = server()
    found = bench(fake, capsys, "--concurrency", "3", "--requests", "9")
    assert (found["status"], found["sent"], found["answered"]) == ("pass", 9, 9)
    assert len(fake.bodies) >= 9 + 3
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        times = found[name]
        assert times["n"] == 9
        assert 0 < times["p50"] <= times["p90"] <= times["p99"] <= times["high"] < 1
    # Two events come in one chunk; on a busy machine the client may find more of them together.
    assert 9 * 2 <= found["itl_s"]["n"] <= 9 * 3
    assert 9 <= found["chunk_gaps_s"]["n"] <= 9 * 2
    assert found["late_s"] is None
    assert found["output_tokens_per_s"] == pytest.approx(9 * 4 / found["wall_s"])
    assert found["goodput_per_s"] is None
    assert found["strain"]["cpu_share"] > 0


def test_every_prompt_is_its_own_and_of_full_length(capsys: pytest.CaptureFixture[str]) -> None:
    fake = server()
    bench(fake, capsys, "--concurrency", "2", "--requests", "4", "--seed", "5")
    _probe, *bodies = (body for body in fake.bodies if "max_tokens" in body)
    assert {len(body["prompt"]) for body in bodies} == {PROMPT_TOKENS}
    assert len({body["cache_salt"] for body in bodies}) == len(bodies) == 4 + 2
    assert all(body["ignore_eos"] for body in bodies)


def test_an_open_loop_keeps_intended_and_real_times(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--rate", "50", "--arrivals", "constant", "--requests", "10")
    found = bench(server(), capsys, *options, "--ttft-goal", "5", "--itl-goal", "5")
    assert found["late_s"]["n"] == 10
    assert found["goodput_per_s"] == pytest.approx(found["requests_per_s"])
    (path,) = Path("runs/bench").iterdir()
    records = [record for record in Run(path).records() if record.purpose == "load"]
    clocks = [record.exchange.clock for record in records]
    intended = [(clock.intended_ns - clocks[0].intended_ns) / 1e9 for clock in clocks]
    assert intended == pytest.approx([number / 50 for number in range(10)], abs=1e-6)
    assert all(clock.start_ns >= clock.intended_ns for clock in clocks)


@pytest.mark.parametrize("driver", [("--concurrency", "3"), ("--rate", "60")])
def test_several_client_processes_are_one_load(
    driver: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    fake = server()
    options = (*driver, "--requests", "8", "--warmup", "0", "--processes", "2")
    found = bench(fake, capsys, *options)
    assert (found["sent"], found["answered"]) == (8, 8)
    assert found["load"]["processes"] == 2
    (path,) = Path("runs/bench").iterdir()
    records = [record for record in Run(path).records() if record.purpose == "load"]
    assert sorted(record.trial for record in records) == list(range(1, 9))
    starts = [record.exchange.clock.start_ns for record in records]
    assert starts == sorted(starts)


def test_an_engine_without_a_route_of_its_own_is_told_before_any_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = server()
    found = bench(fake, capsys, "--concurrency", "1", "--api", "native", code=2)
    assert "vllm has no route of its own" in found["reason"]
    assert not [body for body in fake.bodies if "max_tokens" in body]


def test_native_routes_take_no_chat(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--concurrency", "1", "--api", "native", "--prompt-as", "chat")
    assert "native routes take no chat" in bench(server(), capsys, *options, code=3)["stderr"]


def test_a_trace_gives_times_and_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"timestamp": t, "input_length": 20, "output_length": 4} for t in (0, 30, 60)]
    Path("trace.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = bench(server(), capsys, "--trace", "trace.jsonl")
    assert (found["sent"], found["answered"]) == (3, 3)
    assert found["wall_s"] > 0.06


def test_nothing_within_the_goal_is_no_goodput(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench(server(), capsys, "--concurrency", "1", "--requests", "2", "--itl-goal", "0.001")
    assert found["goodput_per_s"] == 0


class Changing(FakeServer):
    """Sound for the warm-up, then another script."""

    def __init__(self, later: Sequence[Step], sound: int = 1) -> None:
        super().__init__(SOUND, routes=server().routes)
        self.later = later
        self.sound = sound

    async def completions(self, request: Any) -> Any:
        if len([body for body in self.bodies if "max_tokens" in body]) >= self.sound:
            self.script = self.later
        return await super().completions(request)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ((token("holder", reason="abort"), DONE), "aborted"),
        ((sse(error={"message": "too long"}), DONE), "stream_error"),
        ((token("a", 1), CUT), "disconnected"),
        ((token("a", 1, "length"), usage(PROMPT_TOKENS, 1), DONE), "short"),
        ((token("a", 4, "length"), usage(PROMPT_TOKENS - 1, 4), DONE), "wrong-length"),
        ((b'{"choices": [{"text": "all at once", "finish_reason": "length"}]}',), "malformed"),
        ((token("a", 1), 0.5, token("b", 4, "length"), DONE), "stalled"),
    ],
)
def test_no_trap_counts_as_a_success(
    script: Sequence[Step], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--concurrency", "1", "--requests", "2", "--between-tokens-s", "0.2")
    found = bench(Changing(script), capsys, *options, code=2)
    assert found["status"] == "fail"
    assert found["failures"] == {kind: 2}
    assert found["answered"] == 0
    assert found["ttft_s"] is None


def test_a_server_that_refuses_every_request_is_told_in_its_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = server(refusal=Answer({"error": {"message": "overloaded"}}, 503))
    found = bench(fake, capsys, "--concurrency", "1", code=2)
    assert found["status"] == "fail"
    (path,) = Path("runs/bench").iterdir()
    (finding,) = Run(path).findings()
    assert any("HTTP 503: overloaded" in line for line in finding.evidence)


@pytest.mark.parametrize(
    "options", [(), ("--concurrency", "1", "--rate", "2"), ("--concurrency", "0")]
)
def test_a_load_that_cannot_be_meant_is_wrong_use(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cure:" in bench(server(), capsys, *options, code=3)["stderr"]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("MOST_CPU_SHARE", "it used "),
        ("MOST_LAG_S", "its event loop lagged by "),
        ("MOST_LATE_S", "it sent "),
    ],
)
def test_a_client_that_is_the_bottleneck_makes_the_result_inconclusive(
    limit: str,
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trust, limit, -1)
    monkeypatch.setattr(trust, "DISTORTING_SHARE", 0)
    monkeypatch.setattr(trust, "MERGING_SHARE", -1)
    found = bench(server(), capsys, "--rate", "50", "--requests", "3", code=1)
    assert found["status"] == "inconclusive"
    assert found["reason"].startswith(f"the client was the bottleneck: {reason}")


@pytest.mark.parametrize("driver", [("--concurrency", "2"), ("--rate", "20")])
def test_the_clients_own_error_is_measured_first_and_shown(
    driver: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = bench(server(), capsys, *driver, "--requests", "4", "--self-check")
    check = found["self_check"]
    assert (check["failures"], check["output_tokens"]) == (0, 4)
    assert (check["users"], check["rate"]) == ((2, 0) if "2" in driver else (0, 20))
    with pytest.raises(SystemExit):
        main(["report", "last"])
    assert "own error of TTFT" in " ".join(capsys.readouterr().out.split())
    (path,) = Path("runs/bench").iterdir()
    assert all("own error of TTFT" in page.read_text() for page in path.glob("load-*"))


def test_an_instrument_with_too_large_an_error_makes_the_result_inconclusive(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "MOST_TTFT_ERROR_S", -1)
    monkeypatch.setattr(trust, "DISTORTING_SHARE", 0)
    options = ("--concurrency", "1", "--requests", "2", "--self-check")
    found = bench(server(), capsys, *options, code=1)
    assert (found["status"], found["cause"]) == ("inconclusive", "client-bound")
    assert "its own error of TTFT" in found["reason"]


def test_report_and_runs_know_a_load(capsys: pytest.CaptureFixture[str]) -> None:
    first = bench(server(), capsys, "--concurrency", "1", "--requests", "3", "--ttft-goal", "5")
    with pytest.raises(SystemExit) as end:
        main(["report", "last", "--json"])
    assert end.value.code == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell["load"] == {name: first[name] for name in cell["load"]} | {"reason": ""}
    with pytest.raises(SystemExit):
        main(["report", "last"])
    shown = capsys.readouterr().out
    assert "TTFT" in shown
    assert "1 warm-up requests" in shown
    (path,) = Path("runs/bench").iterdir()
    for name in ("report.md", "report.html"):
        page = (path / name).read_text(encoding="utf-8")
        assert "ITL, per token" in page
        assert "Only loads were run" in page
    with pytest.raises(SystemExit):
        main(["runs", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["state"], row["cells"]) == ("finished", "1 pass")


def test_an_interrupted_load_keeps_what_was_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Wave, "run", _run_two_and_stop)
        bench(server(), capsys, "--concurrency", "1", "--requests", "5", code=130)
    with pytest.raises(SystemExit) as end:
        main(["report", "last", "--json"])
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert end.value.code == 1
    assert (cell["status"], cell["load"]["answered"]) == ("inconclusive", 2)
    assert cell["reason"] == "interrupted after 2 of 5 requests"


_run_all = Wave.run


async def _run_two_and_stop(wave: Wave, users: int | None, *others: Any) -> None:
    if wave.requests[0].purpose == "load_warmup":
        await _run_all(wave, users, *others)
        return
    wave.requests = wave.requests[:2]
    await _run_all(wave, users, *others)
    raise asyncio.CancelledError


def test_the_server_is_sampled_while_the_load_runs(capsys: pytest.CaptureFixture[str]) -> None:
    fake = server()
    fake.routes["/metrics"] = Answer('vllm:num_requests_running{engine="0"} 8\n')
    found = bench(fake, capsys, "--concurrency", "1", "--requests", "3")
    assert found["server"]["highest_running"] == 8
    assert found["server"]["samples"] >= 2
    (path,) = Path("runs/bench").iterdir()
    sources = {line["source"] for line in Run(path).lines("telemetry")}
    assert "machine" in sources
    (page,) = path.glob("load-*.html")
    assert page.read_text().count("<svg") == 6


# --- lengths --------------------------------------------------------------------------------


def test_lengths_are_taken_in_turn_and_drawn_between_limits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = Echoing()
    options = ("--concurrency", "2", "--requests", "6", "--warmup", "0")
    found = bench(counts, capsys, *options, "--input-tokens", "10,30,20")
    assert (found["status"], found["answered"]) == ("pass", 6)
    _probe, *bodies = (body for body in counts.bodies if "max_tokens" in body)
    sent = [len(body["prompt"]) for body in bodies]
    assert sorted(sent) == [10, 10, 20, 20, 30, 30]

    drawn = Echoing()
    found = bench(drawn, capsys, *options, "--input-tokens", "10..40", "--output-tokens", "3..5")
    assert found["status"] == "pass"
    _probe, *bodies = (body for body in drawn.bodies if "max_tokens" in body)
    assert all(10 <= len(body["prompt"]) <= 40 for body in bodies)
    assert all(3 <= body["max_tokens"] <= 5 for body in bodies)
    assert len({len(body["prompt"]) for body in bodies}) > 1


def test_the_prefixes_of_a_trace_are_not_mixed_with_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = {"timestamp": 0, "input_length": 20, "output_length": 4, "hash_ids": [1]}
    Path("trace.jsonl").write_text(json.dumps(line))
    replay = ("--trace", "trace.jsonl")
    said = bench(server(), capsys, *replay, "--shared-prefix", "9", code=3)["stderr"]
    assert "the trace has prefixes of its own" in said
    said = bench(server(), capsys, *replay, "--trace-block-tokens", "16", code=3)["stderr"]
    assert "has 1 hash_ids; blocks of 16 tokens need 2" in said
    found = bench(server(), capsys, *replay, "--no-trace-prefixes")
    assert (found["status"], found["cache"]) == ("pass", None)


class Echoing(FakeServer):
    """Answers with as many tokens as asked for, and counts the prompt right."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(routes=server().routes)
        self.seconds = seconds

    async def completions(self, request: Any) -> Any:
        body = json.loads(await request.read())
        count, prompt = body["max_tokens"], len(body["prompt"])
        tokens = [token("a", n + 1, "length" if n + 1 == count else None) for n in range(count)]
        one = FakeServer((self.seconds, *tokens, usage(prompt, count), DONE), bodies=self.bodies)
        return await one.completions(request)


# --- warm caches ----------------------------------------------------------------------------

BLOCK = 16


class Caching(Echoing):
    """Keeps all it has read, in blocks, apart for each salt; or forgets it when told."""

    def __init__(self, forgets: bool = False) -> None:
        super().__init__()
        self.routes["/tokenize"] = Answer({"detail": "none"}, 404)
        self.forgets = forgets
        self.seen: set[tuple[str, bytes]] = set()

    async def completions(self, request: Any) -> Any:
        body = json.loads(await request.read())
        ids, count = body["prompt"], body["max_tokens"]
        ends = range(BLOCK, len(ids) + 1, BLOCK)
        blocks = [(body.get("cache_salt", ""), repr(ids[:end]).encode()) for end in ends]
        most = (len(ids) - 1) // BLOCK  # the last token is always computed
        cached = next((n for n in range(most) if blocks[n] not in self.seen), most)
        self.seen.update(blocks)
        tokens = [token("a", n + 1, "length" if n + 1 == count else None) for n in range(count)]
        details = {"cached_tokens": 0 if self.forgets else cached * BLOCK}
        said = usage(len(ids), count, prompt_tokens_details=details)
        one = FakeServer((0.001, *tokens, said, DONE), bodies=self.bodies)
        return await one.completions(request)


def warm_bench(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], *options: str, code: int = 0
) -> dict[str, Any]:
    tokenizer = save("llama3", Path("tokenizer").absolute()).file
    Path("sea.txt").write_text(real_text(), encoding="utf-8")  # where no two places are the same
    argv = ("--tokenizer", str(tokenizer), "--block-tokens", str(BLOCK))
    return bench(fake, capsys, *argv, "--requests", "6", *options, code=code)


@pytest.mark.parametrize(
    "asked",
    [
        ("--shared-prefix", "400"),
        ("--shared-prefix", "50%", "--groups", "2"),
        ("--hit-rate", "60%"),
        ("--turns", "3"),
    ],
)
def test_a_warm_study_states_what_the_cache_should_find_and_found(
    asked: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Caching()
    found = warm_bench(fake, capsys, "--concurrency", "2", "--input-tokens", "600,900", *asked)
    cache = found["cache"]
    assert (found["status"], cache["differing"], cache["witness"]) == ("pass", 0, "each request")
    assert cache["cached_tokens"] == cache["expected_tokens"] > 0
    with pytest.raises(SystemExit):
        main(["report", "last"])
    assert "by each request: as asked" in " ".join(capsys.readouterr().out.split())
    (path,) = Path("runs/bench").iterdir()
    pages = [path / "report.md", *path.glob("load-*.md")]
    assert all("as asked" in page.read_text(encoding="utf-8") for page in pages)


def test_a_replayed_trace_is_found_in_the_cache_as_on_its_day(
    capsys: pytest.CaptureFixture[str],
) -> None:
    days = [(0, 200, [0, 1, 2, 3]), (80, 192, [0, 1, 7]), (160, 100, [8, 9]), (240, 64, [0])]
    lines = [
        {"timestamp": at, "input_length": tokens, "output_length": 4, "hash_ids": ids}
        for at, tokens, ids in days
    ]
    Path("trace.jsonl").write_text("\n".join(map(json.dumps, lines)))
    fake = Caching()
    tokenizer = save("llama3", Path("tokenizer").absolute()).file
    Path("sea.txt").write_text(real_text(), encoding="utf-8")
    options = ("--trace", "trace.jsonl", "--trace-block-tokens", "64", "--block-tokens", str(BLOCK))
    found = bench(fake, capsys, "--tokenizer", str(tokenizer), *options)
    cache = found["cache"]
    # By hand: 128 tokens of the second request, and 48 of the last: its last block of 16 holds
    # the token that is always computed.
    assert cache["cached_tokens"] == cache["replayed_tokens"] == 128 + 48
    assert (found["status"], cache["witness"], cache["differing"]) == ("pass", "each request", 0)
    with pytest.raises(SystemExit):
        main(["report", "last"])
    assert "the trace has 31.65%" in " ".join(capsys.readouterr().out.split())


def test_a_cache_that_is_not_as_warm_as_asked_is_inconclusive(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ("--concurrency", "2", "--input-tokens", "600", "--shared-prefix", "400")
    found = warm_bench(Caching(forgets=True), capsys, *asked, code=1)
    assert (found["status"], found["cause"]) == ("inconclusive", "warm-cache")
    assert found["cache"]["differing"] == 6
    assert "0 prompt tokens came from the cache" in found["reason"]


def test_text_is_not_shared_without_a_tokenizer_that_is_known_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--concurrency", "1", "--shared-prefix", "9", "--block-tokens", "16")
    found = bench(server(), capsys, *options, code=2)
    assert "exact only with a tokenizer known here" in found["reason"]


# --- sweeps ---------------------------------------------------------------------------------


class OneAtATime(Echoing):
    """Answers one request after the other, so that every user more makes all wait longer."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.service_s = seconds
        self.turn: asyncio.Lock | None = None

    async def completions(self, request: Any) -> Any:
        self.turn = self.turn or asyncio.Lock()
        async with self.turn:
            await asyncio.sleep(self.service_s)
            return await super().completions(request)


def test_a_sweep_finds_the_largest_load_within_the_goals_and_its_neighbour(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--sweep", "users=1..16", "--requests", "16", "--warmup", "0")
    # Alone 50 ms; with n users a request waits for n - 1 others.
    found = bench(OneAtATime(0.05), capsys, *options, "--ttft-goal", "0.32", "--goal-share", "0.7")
    sweep = found["sweep"]
    levels = [step["level"] for step in sweep["steps"]]
    assert levels == sorted(levels)
    assert levels[:3] == [1, 2, 4]
    assert 4 <= sweep["largest"] < sweep["next_failing"] <= 8
    assert sweep["next_failing"] - sweep["largest"] == 1
    assert sweep["saturated_at"] is not None
    assert sweep["saturated_at"] < levels[-1]
    assert found["load"]["users"] == sweep["largest"]
    with pytest.raises(SystemExit) as end:
        main(["report", "last"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"{sweep['largest']:g} users: 70% or more" in shown
    assert "largest load" in shown


def test_a_sweep_over_a_list_measures_exactly_these(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--sweep", "rate=20,40", "--requests", "4", "--arrivals", "constant")
    found = bench(Echoing(), capsys, *options, "--e2e-goal", "9")
    assert [step["level"] for step in found["sweep"]["steps"]] == [20, 40]
    assert (found["sweep"]["largest"], found["sweep"]["next_failing"]) == (40, None)


def test_a_sweep_of_which_no_load_is_within_the_goals_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--sweep", "users=1..8", "--requests", "2", "--ttft-goal", "0.001")
    found = bench(Echoing(seconds=0.05), capsys, *options, code=1)
    assert (found["status"], found["cause"]) == ("fail", "goals")
    assert [step["level"] for step in found["sweep"]["steps"]] == [1]


@pytest.mark.parametrize("sweep", ["8", "users=", "users=8..1", "threads=1,2", "users=2,1"])
def test_a_sweep_that_cannot_be_meant_is_wrong_use(
    sweep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cure:" in bench(server(), capsys, "--sweep", sweep, code=3)["stderr"]


# --- beside loads ---------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "warned"), [("23", True), ("24", False)])
def test_an_answer_too_short_for_its_passkey_is_warned_of(
    room: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Echoing()
    argv = ["prove", "--model", "tiny", "--corpus", "sea.txt", "--input-tokens", "900", "--json"]
    fake.routes["/tokenize"] = Answer({"tokens": list(range(300))})
    with serving_apart(fake), pytest.raises(SystemExit):
        main([*argv, "--output-tokens", room, "--no-limit-probes", "--url", fake.url])
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert any("before its passkey" in text for text in warnings) == warned
