from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from tests.factory import make_record
from tests.fake_server import (
    CUT,
    DONE,
    HANG,
    Answer,
    FakeServer,
    Step,
    serving,
    sse,
    token,
    usage,
)

from leadline.deploy.process import free_port
from leadline.engines.engine import load_engine
from leadline.launch import Endpoint
from leadline.load import dial
from leadline.load.answer import Answer as Reading
from leadline.load.answer import read_events
from leadline.load.client import (
    ROUTES,
    Patience,
    error_text,
    request_body,
    stream_completion,
)
from leadline.metrics.measures import measure
from leadline.prompts.haystack import Prompt
from leadline.prove.structural import prove_trial
from leadline.records import Exchange

PATIENT = Patience(first_token_s=10, between_tokens_s=10)
HASTY = Patience(first_token_s=0.05, between_tokens_s=0.05)
VLLM = load_engine("vllm")
PROMPT = Prompt(ids=[5, 6, 7], corpus_start=0, needles=(), text="deep blue sea")


async def exchange_with(
    server: FakeServer, patience: Patience = PATIENT, engine: Any = VLLM, **options: Any
) -> Exchange:
    async with serving(server):
        endpoint = Endpoint(server.url, "tiny", {"Authorization": "Bearer key"})
        body = request_body(endpoint, engine, PROMPT, 9, form="ids", cold=True, salt="pepper")
        return await stream_completion(endpoint, engine, ROUTES["ids"], body, patience, **options)


def ask(*script: Step, patience: Patience = PATIENT, engine: Any = VLLM) -> Exchange:
    return uvloop.run(exchange_with(FakeServer(script), patience, engine))


async def send_body(
    endpoint: Endpoint, body: bytes = b"{}", patience: Patience = PATIENT
) -> Exchange:
    return await stream_completion(endpoint, VLLM, ROUTES["ids"], body, patience)


def problem(exchange: Exchange) -> tuple[str, str]:
    assert exchange.failure is not None
    return exchange.failure.kind, exchange.failure.message


def counts(exchange: Exchange) -> list[tuple[str, int | None]]:
    return [(event.text, event.completion_tokens) for event in exchange.events]


# --- the request ----------------------------------------------------------------------------


def body_for(engine: str, **options: Any) -> dict[str, Any]:
    endpoint = Endpoint("http://h", "tiny")
    facts: Any = {"form": "ids", "cold": True, "salt": "pepper", **options}
    body: dict[str, Any] = orjson.loads(
        request_body(endpoint, load_engine(engine), PROMPT, 9, **facts)
    )
    return body


PEPPER_SHA256 = "8cbbcf29d9cef89675c5f5c1dcfe827d"
PLAIN = {
    "model": "tiny",
    "prompt": [5, 6, 7],
    "max_tokens": 9,
    "temperature": 0,
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.mark.parametrize(
    ("engine", "cold", "more"),
    [
        ("openai", True, {}),
        ("llamacpp", True, {"timings_per_token": True, "cache_prompt": False}),
        ("llamacpp", False, {"timings_per_token": True}),
        (
            "vllm",
            True,
            {
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
                "cache_salt": PEPPER_SHA256,
            },
        ),
        (
            "vllm",
            False,
            {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        (
            "sglang",
            True,
            {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
    ],
)
def test_each_engine_gets_the_fields_that_it_knows(
    engine: str, cold: bool, more: dict[str, Any]
) -> None:
    assert body_for(engine, cold=cold, salt="pepper" if cold else None) == PLAIN | more


def test_text_and_chat_travel_as_text_on_the_route_of_their_form() -> None:
    assert body_for("openai", form="text")["prompt"] == "deep blue sea"
    chat = body_for("openai", form="chat")
    assert chat["messages"] == [{"role": "user", "content": "deep blue sea"}]
    assert "prompt" not in chat
    assert ROUTES == {
        "ids": "/v1/completions",
        "text": "/v1/completions",
        "chat": "/v1/chat/completions",
    }


def test_the_request_reaches_the_server_with_its_credentials() -> None:
    server = FakeServer([token("a", 1, "length"), usage(3, 1), DONE])
    uvloop.run(exchange_with(server))
    assert server.bodies[0]["prompt"] == [5, 6, 7]
    assert server.headers[0]["Authorization"] == "Bearer key"
    assert server.headers[0]["Content-Type"] == "application/json"


def test_a_body_of_many_megabytes_is_sent_without_a_warning() -> None:
    server = FakeServer([token("a", 1, "length"), usage(700_000, 1), DONE])

    async def send() -> Exchange:
        async with serving(server):
            endpoint = Endpoint(server.url, "tiny")
            prompt = Prompt(ids=[123_456] * 700_000, corpus_start=0, needles=())
            body = request_body(endpoint, VLLM, prompt, 1, form="ids", cold=True, salt="s")
            return await send_body(endpoint, body)

    exchange = uvloop.run(send())
    assert exchange.failure is None
    assert len(server.bodies[0]["prompt"]) == 700_000
    clock = exchange.clock
    assert clock.written_ns is not None
    assert clock.start_ns < clock.written_ns <= exchange.events[0].t_ns


# --- what a sound stream adds up to ---------------------------------------------------------


def test_a_sound_stream_is_read_whole() -> None:
    last = usage(3, 2, prompt_tokens_details={"cached_tokens": 0})
    exchange = ask(token(" a", 1), token(" b", 2, "length"), last, DONE)
    assert exchange.failure is None
    assert exchange.status == 200
    assert exchange.text == " a b"
    assert counts(exchange) == [(" a", 1), (" b", 2)]
    assert exchange.finish_reason == "length"
    assert exchange.usage == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert exchange.terminated


def test_several_tokens_in_one_chunk_are_several_events_of_one_tick() -> None:
    exchange = ask(token("a", 1) + token("b", 2) + token("c", 3, "stop"), usage(3, 3), DONE)
    assert counts(exchange) == [("a", 1), ("b", 2), ("c", 3)]
    assert len({event.t_ns for event in exchange.events}) == 1


@pytest.mark.parametrize("at", [1, 3, 6, 20, -1])
def test_an_event_split_over_chunks_has_the_tick_of_its_end(at: int) -> None:
    event = token("whole", 1)
    server = FakeServer([event[:at], 0.03, event[at:], token("", 1, "stop"), usage(3, 1), DONE])
    exchange = uvloop.run(exchange_with(server))
    assert exchange.text == "whole"
    # The line is complete with its first line end.
    completing = server.sent[0 if at == -1 else 1][0]
    assert exchange.events[0].t_ns >= completing
    if at == -1:
        assert exchange.events[0].t_ns < server.sent[1][0]


def test_a_character_split_over_chunks_is_not_broken() -> None:
    event = token("Grüße €", 1, "stop")
    middle = event.index("ß".encode()) + 1
    assert ask(event[:middle], 0.01, event[middle:], usage(3, 1), DONE).text == "Grüße €"


def test_an_event_without_text_keeps_its_place() -> None:
    exchange = ask(token("", 1), token("ab", 2, "stop"), usage(3, 2), DONE)
    assert counts(exchange) == [("", 1), ("ab", 2)]


def test_usage_and_reason_in_the_last_choice_are_read_too() -> None:
    """As llama.cpp sends them."""
    timings = {"prompt_n": 3, "predicted_n": 2}
    last = token("", reason="stop", usage={"prompt_tokens": 3}, timings=timings)
    exchange = ask(
        token("a", timings={"predicted_n": 1}), last, DONE, engine=load_engine("llamacpp")
    )
    assert exchange.usage == {"prompt_tokens": 3}
    assert exchange.server == timings
    assert counts(exchange) == [("a", 1), ("", 2)]


def chat_delta(reason: str | None = None, **delta: Any) -> bytes:
    return sse(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])


def test_the_text_of_a_chat_is_read_with_its_reasoning() -> None:
    exchange = ask(
        chat_delta(role="assistant", content=""),
        chat_delta(reasoning_content="hm, "),
        chat_delta(reasoning="so "),
        chat_delta(content="42"),
        chat_delta(reason="stop"),
        usage(3, 4),
        DONE,
    )
    assert exchange.failure is None
    assert exchange.text == "hm, so 42"
    assert exchange.finish_reason == "stop"


def test_a_null_usage_in_every_chunk_does_not_hide_the_last() -> None:
    """As SGLang sends them."""
    exchange = ask(token("a", usage=None), token("", reason="stop", usage=None), usage(3, 1), DONE)
    assert exchange.usage == {"prompt_tokens": 3, "completion_tokens": 1}


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_both_line_ends_are_understood(end: bytes) -> None:
    pieces = [piece.replace(b"\n\n", end) for piece in (token("a", 1, "stop"), usage(3, 1), DONE)]
    exchange = ask(*pieces)
    assert exchange.failure is None
    assert exchange.text == "a"


def test_a_last_event_without_a_line_end_is_read() -> None:
    exchange = ask(token("a", 1, "stop"), usage(3, 1), DONE.strip())
    assert exchange.failure is None
    assert exchange.terminated


def test_fields_other_than_data_mean_nothing() -> None:
    extra = b": comment\nevent: message\nid: 7\nretry: 5\n\n"
    assert ask(extra, token("a", 1, "stop"), extra, usage(3, 1), DONE).text == "a"


@given(data=st.data())
def test_however_the_stream_is_cut_into_chunks_the_events_are_the_same(data: st.DataObject) -> None:
    pieces = [b": ping\n\n", token("ä", 1), token("b\n", 2, "stop"), usage(3, 2), DONE]
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    bounds = [0, *cuts, len(stream)]
    chunks = [(n, stream[a:b]) for n, (a, b) in enumerate(pairwise(bounds))]
    answer = read_events(chunks, VLLM)
    assert [(event.text, event.completion_tokens) for event in answer.events] == [
        ("ä", 1),
        ("b\n", 2),
    ]
    assert answer.usage == {"prompt_tokens": 3, "completion_tokens": 2}
    assert answer.terminated
    assert answer.problem() is None


ODD_EVENTS = st.sampled_from(
    [
        token("x", 3),
        token("", 3),
        token("ß\n", 3),
        token("x", 3, "length"),
        token("x"),
        usage(3, 3),
        chat_delta(content="hm"),
        sse(error={"message": "no"}),
        sse(error=None, choices=[{"text": "x"}], usage={"completion_tokens": 3}),
        sse(choices=[{"text": None}], usage={"completion_tokens": None}),
        sse(choices=[{"text": "a"}, {"text": "b"}], usage={"completion_tokens": 2}),
        sse(choices=[{"text": 5}]),
        b"data: oops\n\n",
        b"data:\n\n",
        b"data: 7\n\n",
        DONE,
    ]
)


@given(odd=st.lists(ODD_EVENTS, max_size=12), engine=st.sampled_from(["vllm", "openai"]))
def test_read_at_once_or_one_by_one_the_answer_is_the_same(odd: list[bytes], engine: str) -> None:
    pieces = [token("a", 1), token("b", 2), *odd, token("z", 9, "stop"), usage(3, 9), DONE]
    chunks = list(enumerate(pieces))
    at_once = read_events(chunks, load_engine(engine))
    one_by_one = Reading(load_engine(engine))
    for t_ns, piece in chunks:
        one_by_one.take(t_ns, piece[len(b"data:") :].strip())
    assert vars(at_once) == vars(one_by_one)
    assert at_once.problem() == one_by_one.problem()


# --- the clock ------------------------------------------------------------------------------


def test_ticks_only_go_forward() -> None:
    exchange = ask(0.01, token("a", 1), 0.01, token("b", 2, "length"), usage(3, 2), DONE)
    clock = exchange.clock
    assert clock.written_ns is not None
    assert clock.headers_ns is not None
    ticks = [
        clock.start_ns,
        clock.written_ns,
        clock.headers_ns,
        *(event.t_ns for event in exchange.events),
        clock.end_ns,
    ]
    assert ticks == sorted(ticks)


def test_times_agree_with_the_send_log_of_the_server() -> None:
    pauses = [0.04, 0.02, 0.03, 0.01]
    script: list[Step] = []
    for number, pause in enumerate(pauses, start=1):
        script += [pause, token("x", number, "length" if number == len(pauses) else None)]
    server = FakeServer([*script, usage(3, 4), DONE])
    exchange = uvloop.run(exchange_with(server))
    measures = measure(exchange)
    sent = [tick for tick, piece in server.sent if b'"text"' in piece]
    assert len(exchange.events) == len(sent) == 4
    for event, tick in zip(exchange.events, sent, strict=True):
        assert 0 <= (event.t_ns - tick) / 1e9 < 0.5
    assert measures.ttft_s is not None
    assert measures.ttft_s > pauses[0] - 0.002  # an event loop's timer is a millisecond exact
    gaps = [(b - a) / 1e9 for a, b in pairwise(sent)]
    assert measures.itl_s == pytest.approx(gaps, abs=0.5)
    assert sum(measures.itl_s) == pytest.approx(sum(gaps), abs=0.5)
    assert all(gap > pause - 0.025 for gap, pause in zip(measures.itl_s, pauses[1:], strict=True))


def test_every_chunk_with_an_event_is_told_as_it_comes() -> None:
    told: list[int] = []
    server = FakeServer(
        [b": ping\n\n", 0.01, token("a", 1), 0.01, token("b", 2, "stop"), 0.01, DONE]
    )
    uvloop.run(exchange_with(server, on_chunk=told.append))
    assert told == [1, 2, 3]


# --- patience -------------------------------------------------------------------------------


def test_no_first_token_at_all_is_a_timeout() -> None:
    begun = time.perf_counter()
    exchange = ask(HANG, patience=HASTY)
    assert time.perf_counter() - begun < 2
    assert problem(exchange) == ("timeout", "no first token within 0.05 s")
    assert exchange.status == 200
    assert exchange.events == ()


async def ask_raw(words: bytes, patience: Patience) -> Exchange:
    """What a listener gets us that says these words and then waits for our end."""
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        if words:
            writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        over.set()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    endpoint = Endpoint(f"http://127.0.0.1:{port}", "m")
    exchange = await send_body(endpoint, patience=patience)
    await over.wait()
    listener.close()
    return exchange


def test_headers_that_never_come_are_a_timeout() -> None:
    exchange = uvloop.run(ask_raw(b"", HASTY))
    assert problem(exchange) == ("timeout", "no first token within 0.05 s")
    assert exchange.status is None


@pytest.mark.parametrize("ping", [b": keep-alive\n\n", b"\n", b": prefill data: 12 %\n\n"])
def test_keep_alives_during_the_prefill_are_no_progress(ping: bytes) -> None:
    script: Sequence[Step] = [piece for _ in range(20) for piece in (ping, 0.01)]
    exchange = ask(*script, token("late", 1), DONE, patience=HASTY)
    assert problem(exchange) == ("timeout", "no first token within 0.05 s")


def test_keep_alives_do_not_shorten_the_prefill_either() -> None:
    patience = Patience(first_token_s=5, between_tokens_s=0.2)
    script: Sequence[Step] = [piece for _ in range(5) for piece in (b": ping\n\n", 0.05)]
    assert ask(*script, token("a", 1, "stop"), usage(3, 1), DONE, patience=patience).failure is None


def test_silence_after_the_first_token_is_a_stall() -> None:
    patience = Patience(first_token_s=10, between_tokens_s=0.05)
    exchange = ask(b": ping\n\n", 0.01, token("a", 1), 0.01, token("b", 2), HANG, patience=patience)
    assert problem(exchange) == ("stalled", "no further chunk within 0.05 s after 2 chunks")
    assert exchange.text == "ab"


def test_keep_alives_do_not_hide_a_stall() -> None:
    patience = Patience(first_token_s=10, between_tokens_s=0.05)
    script: Sequence[Step] = [piece for _ in range(20) for piece in (b": ping\n\n", 0.01)]
    exchange = ask(token("a", 1), *script, token("b", 2, "stop"), DONE, patience=patience)
    assert problem(exchange) == ("stalled", "no further chunk within 0.05 s after 1 chunks")


def test_an_event_in_two_chunks_is_progress() -> None:
    patience = Patience(first_token_s=10, between_tokens_s=0.2)
    event = token("x", 1)
    script: Sequence[Step] = [
        piece for _ in range(6) for piece in (event[:3], 0.01, event[3:], 0.04)
    ]
    exchange = ask(*script, token("", 1, "stop"), usage(3, 1), DONE, patience=patience)
    assert exchange.failure is None


def test_a_long_stream_of_short_gaps_is_never_cut() -> None:
    patience = Patience(first_token_s=0.3, between_tokens_s=0.3)
    script = [piece for n in range(1, 41) for piece in (0.01, token("x", n))]
    exchange = ask(*script, token("", 40, "stop"), usage(3, 40), DONE, patience=patience)
    assert exchange.failure is None
    assert len(exchange.events) == 41


# --- what can go wrong ----------------------------------------------------------------------


def test_an_error_inside_a_200_stream_is_a_failure() -> None:
    """As SGLang answers a prompt that is too long."""
    text = "The input (9000 tokens) is longer than the model's context length (8192 tokens)."
    exchange = ask(sse(error={"object": "error", "message": text, "code": 400}), DONE)
    assert exchange.status == 200
    assert problem(exchange) == ("stream_error", text)


def test_an_error_after_tokens_keeps_the_tokens() -> None:
    exchange = ask(token("a", 1), sse(error={"message": "EngineCore died"}), DONE)
    assert problem(exchange) == ("stream_error", "EngineCore died")
    assert exchange.text == "a"


@pytest.mark.parametrize("script", [(HANG,), (token("a", 1), HANG)])
def test_an_answer_of_a_lost_server_is_not_waited_for(script: tuple[Step, ...]) -> None:
    """What has come is kept, and the reason is that of those who look after the server."""

    async def run() -> Exchange:
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.2, lost.set_result, "its scheduler is gone")
        return await exchange_with(FakeServer(script), lost=lost)

    exchange = uvloop.run(run())
    assert problem(exchange) == ("disconnected", "its scheduler is gone")
    assert exchange.text == "a" * (len(script) - 1)
    assert exchange.clock.end_ns - exchange.clock.start_ns < 5e9


def test_a_server_that_is_lost_after_its_answer_changes_nothing() -> None:
    async def run() -> Exchange:
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        script = (token("a", 1, "length"), usage(3, 1), DONE)
        exchange = await exchange_with(FakeServer(script), lost=lost)
        lost.set_result("too late")
        return exchange

    assert uvloop.run(run()).failure is None


def test_an_error_as_plain_text_is_told() -> None:
    assert problem(ask(sse(error="out of memory"))) == ("stream_error", "out of memory")


def test_a_stream_cut_in_the_middle_is_disconnected_and_keeps_its_tokens() -> None:
    exchange = ask(token("a", 1), token("b", 2), CUT)
    kind, _ = problem(exchange)
    assert kind == "disconnected"
    assert exchange.status == 200
    assert exchange.text == "ab"
    assert not exchange.terminated


def test_a_connection_cut_before_any_token_is_disconnected() -> None:
    exchange = ask(CUT)
    assert problem(exchange)[0] == "disconnected"
    assert exchange.events == ()


def test_a_stream_without_its_end_marker_is_disconnected() -> None:
    exchange = ask(token("a", 1, "stop"), usage(3, 1))
    assert problem(exchange) == ("disconnected", "the stream ended without its end marker")


def test_a_stream_that_ends_inside_an_event_is_malformed() -> None:
    kind, message = problem(ask(token("a", 1), b'data: {"choices": [{"te'))
    assert (kind, message) == ("malformed", 'not JSON: {"choices": [{"te')


@pytest.mark.parametrize(
    "script",
    [
        (),
        (DONE,),
        (usage(3, 1), DONE),
        (b"<html><body>It works!</body></html>",),
    ],
)
def test_an_answer_without_events_is_malformed(script: tuple[bytes, ...]) -> None:
    expected = ("malformed", "the answer holds no event of a token stream")
    assert problem(ask(*script)) == expected


def test_a_server_that_ignores_the_wish_for_a_stream_is_told_apart() -> None:
    whole = b'{"choices": [{"text": "not streamed", "finish_reason": "stop"}], "usage": {}}'
    expected = ("malformed", "the server ignores `stream`: it answered all at once")
    assert problem(ask(whole)) == expected


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"text": 5}]},
        {"choices": [{"text": ["a"]}]},
        {"choices": [{"text": "a", "finish_reason": {"type": "stop"}}]},
        {"choices": [{"text": "a"}], "usage": [3]},
        {"choices": [{"text": "a"}], "usage": "3 tokens"},
    ],
)
def test_an_event_of_another_shape_is_malformed_not_a_traceback(event: dict[str, Any]) -> None:
    kind, message = problem(ask(sse(**event), DONE))
    assert kind == "malformed"
    assert message.startswith("not an event of the completions API: ")


@pytest.mark.parametrize("payload", [b"7", b"null", b"[1]", b'"text"', b'{"choices": 3}'])
def test_events_of_no_known_shape_are_passed_over(payload: bytes) -> None:
    exchange = ask(b"data: " + payload + b"\n\n", token("a", 1, "stop"), usage(3, 1), DONE)
    assert exchange.text == "a"


def test_not_json_is_malformed_and_quoted() -> None:
    assert problem(ask(b"data: oops\n\n", DONE)) == ("malformed", "not JSON: oops")


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            400,
            {"object": "error", "message": "maximum context length is 8192", "code": 400},
            "HTTP 400: maximum context length is 8192",
        ),
        (
            400,
            {"error": {"message": "request (20000 tokens) exceeds", "n_ctx": 8192}},
            "HTTP 400: request (20000 tokens) exceeds",
        ),
        (401, {"error": "Unauthorized"}, "HTTP 401: Unauthorized"),
        (404, {"detail": "Not Found"}, "HTTP 404: Not Found"),
        (404, "404 page not found\n", "HTTP 404: 404 page not found"),
        (500, "", "HTTP 500: (empty answer)"),
        (
            502,
            "<html><h1>502 Bad Gateway</h1></html>",
            "HTTP 502: <html><h1>502 Bad Gateway</h1></html>",
        ),
        (
            422,
            {"detail": [{"msg": "field required"}]},
            'HTTP 422: {"detail":[{"msg":"field required"}]}',
        ),
        (500, [1], "HTTP 500: [1]"),
    ],
)
def test_a_refusal_has_the_servers_own_words(status: int, body: Any, message: str) -> None:
    exchange = uvloop.run(exchange_with(FakeServer(refusal=Answer(body, status))))
    assert exchange.status == status
    assert problem(exchange) == ("refused", message)
    assert exchange.events == ()


def test_a_refusal_that_echoes_the_prompt_is_shortened() -> None:
    exchange = uvloop.run(exchange_with(FakeServer(refusal=Answer("x" * 100_000, 400))))
    assert len(problem(exchange)[1]) < 5000


def test_a_web_page_instead_of_a_server_is_malformed() -> None:
    page = Answer("<!doctype html><title>Welcome to nginx!</title>")
    exchange = uvloop.run(exchange_with(FakeServer(refusal=page)))
    assert problem(exchange)[0] == "malformed"


def test_a_refused_connection_is_unreachable() -> None:
    async def run() -> Exchange:
        return await send_body(Endpoint(f"http://127.0.0.1:{free_port()}", "m"))

    exchange = uvloop.run(run())
    kind, message = problem(exchange)
    assert kind == "unreachable"
    assert "Cannot connect to host 127.0.0.1" in message
    assert exchange.status is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EMFILE, "too many open files: raise `ulimit -n`"),
        (errno.EADDRNOTAVAIL, "no local port"),
    ],
)
def test_what_this_machine_does_not_grant_is_not_blamed_on_the_server(
    monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "as the system says it")

    monkeypatch.setattr(dial, "_begin_connecting", refuse)
    exchange = uvloop.run(send_body(Endpoint("http://127.0.0.1:1", "m")))
    kind, message = problem(exchange)
    assert kind == "unreachable"
    assert words in message


def test_a_connection_that_is_never_made_is_unreachable_not_a_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dial, "_CONNECT_S", 0.05)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # One waits to be accepted; whoever comes after it is not answered.
        with socket.create_connection(listener.getsockname()):
            exchange = uvloop.run(send_body(Endpoint(url, "m")))
    assert problem(exchange) == ("unreachable", f"Connection timeout to host {url}")


def test_what_does_not_speak_http_is_a_failure_not_a_traceback() -> None:
    exchange = uvloop.run(ask_raw(b"SSH-2.0-OpenSSH_9.2\r\n", PATIENT))
    assert problem(exchange)[0] == "disconnected"
    assert exchange.status is None


def test_sglangs_bogus_token_is_not_passed() -> None:
    """A prompt that fits the context but not the KV pool: HTTP 200 and one token."""
    exchange = ask(token(" holder", reason="abort"), DONE, engine=load_engine("sglang"))
    kind, message = problem(exchange)
    assert kind == "aborted"
    assert message.startswith("HTTP 200, but finish_reason abort")
    assert prove_trial(make_record(exchange), load_engine("sglang")) == []


# --- error texts ----------------------------------------------------------------------------


@given(st.text())
def test_any_error_body_gives_some_text(body: str) -> None:
    assert error_text(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"error": {"message": "m"}}', "m"),
        ('{"message": "m"}', "m"),
        ('{"detail": "m"}', "m"),
        ('{"error": "m"}', "m"),
        ('{"other": "m"}', '{"other": "m"}'),
        ("  plain  ", "plain"),
        ("", "(empty answer)"),
    ],
)
def test_the_message_is_found_where_servers_put_it(body: str, text: str) -> None:
    assert error_text(body) == text
