"""What happens on the connection itself, against servers that say exact bytes."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.fake_server import DONE, FakeServer, serving, token, usage

from leadline.engines.engine import load_engine
from leadline.errors import LoadError
from leadline.launch import Endpoint
from leadline.load.client import Patience, stream_completion
from leadline.load.origin import request_head, resolve
from leadline.records import Exchange
from leadline.spec import Api

PATIENT = Patience(first_token_s=10, between_tokens_s=10)
STREAM = token("a", 1) + token("b", 2, "length") + usage(3, 2) + DONE
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class RawServer:
    """Reads one request of known length, then says fixed bytes and closes."""

    def __init__(self, *pieces: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.pieces = pieces
        self.tls = tls
        self.head = b""
        self.body = b""

    async def ask(
        self,
        url: str = "http://127.0.0.1:{}",
        body: bytes = b"{}",
        engine: str = "vllm",
        api: Api = "openai",
    ) -> Exchange:
        gone = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._answer(reader, writer)
            finally:
                writer.close()
                gone.set()

        listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=self.tls)
        port = listener.sockets[0].getsockname()[1]
        async with listener:
            endpoint = Endpoint(url.format(port), "m", {"Authorization": "Bearer key"})
            exchange = await stream_completion(
                endpoint, load_engine(engine), "/v1/completions", body, PATIENT, api=api
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), 1)
        return exchange

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        length = int(self.head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.body = await reader.readexactly(length)
        for piece in self.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)


def head(status: str = "200 OK", *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()


def framed(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


def bytewise(text: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in text]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize(
    "pieces",
    [
        (head("200 OK", f"Content-Length: {len(STREAM)}"), STREAM),
        (head("200 OK", "Transfer-Encoding: chunked"), framed(STREAM), b"0\r\n\r\n"),
        (head(), STREAM),
        (head("100 Continue"), head("200 OK", f"Content-Length: {len(STREAM)}") + STREAM),
        (
            *bytewise(head("200 OK", "Transfer-Encoding: chunked") + framed(STREAM[:40])),
            framed(STREAM[40:]) + b"0\r\n\r\n",
        ),
    ],
    ids=["length", "chunked", "until-close", "interim", "byte-by-byte"],
)
def test_every_framing_of_an_answer_is_read(run: Run, pieces: tuple[bytes, ...]) -> None:
    exchange = run(RawServer(*pieces).ask())
    assert exchange.failure is None
    assert exchange.text == "ab"
    assert exchange.status == 200


@pytest.mark.parametrize(
    "answer",
    [
        head("200 OK", f"Content-Length: {len(STREAM) + 1}") + STREAM,
        head("200 OK", "Transfer-Encoding: chunked") + framed(STREAM),
    ],
)
def test_an_answer_shorter_than_its_framing_promises_is_disconnected(answer: bytes) -> None:
    exchange = uvloop.run(RawServer(answer).ask())
    assert exchange.failure is not None
    assert exchange.failure.kind == "disconnected"
    assert exchange.text == "ab"


def test_an_end_without_an_answer_is_disconnected() -> None:
    exchange = uvloop.run(RawServer().ask())
    assert exchange.failure is not None
    assert exchange.failure.kind == "disconnected"
    assert exchange.failure.message == "the server closed the connection without an answer"


@pytest.mark.parametrize(
    ("status", "field", "message"),
    [
        ("429 Too Many Requests", "Retry-After: 7", "HTTP 429: busy (Retry-After: 7)"),
        ("503 Service Unavailable", "retry-after: 30", "HTTP 503: busy (Retry-After: 30)"),
        ("307 Temporary Redirect", "Location: http://h/", "HTTP 307: busy (Location: http://h/)"),
    ],
)
def test_a_refusal_says_what_the_server_advises_and_is_not_tried_again(
    status: str, field: str, message: str
) -> None:
    server = RawServer(head(status, field, "Content-Length: 4") + b"busy")
    exchange = uvloop.run(server.ask())
    assert exchange.failure is not None
    assert (exchange.failure.kind, exchange.failure.message) == ("refused", message)


def test_the_head_names_the_host_with_its_port_and_the_path_before_the_route() -> None:
    server = RawServer(head("200 OK", f"Content-Length: {len(STREAM)}") + STREAM)
    uvloop.run(server.ask(url="http://localhost:{}/proxy/"))
    lines = server.head.decode().split("\r\n")
    assert lines[0] == "POST /proxy/v1/completions HTTP/1.1"
    assert lines[1].startswith("Host: localhost:")
    assert "Authorization: Bearer key" in lines
    assert "Connection: close" in lines
    assert server.body == b"{}"


def test_the_port_of_the_scheme_is_left_out_and_an_ipv6_host_is_in_brackets() -> None:
    async def authority(url: str) -> str:
        return (await resolve(url)).authority

    assert uvloop.run(authority("http://127.0.0.1")) == "127.0.0.1"
    assert uvloop.run(authority("https://127.0.0.1:443")) == "127.0.0.1"
    assert uvloop.run(authority("https://127.0.0.1:80")) == "127.0.0.1:80"
    assert uvloop.run(authority("http://[::1]:8000")) == "[::1]:8000"


def test_a_header_of_two_lines_is_refused() -> None:
    async def build() -> bytes:
        return request_head(await resolve("http://127.0.0.1:1"), "/", {"A": "b\r\nC: d"}, 0)

    with pytest.raises(LoadError, match="one line"):
        uvloop.run(build())


def test_an_unknown_name_is_unreachable() -> None:
    endpoint = Endpoint("http://no-such-host.invalid:1", "m")
    ask = stream_completion(endpoint, load_engine("vllm"), "/v1/completions", b"{}", PATIENT)
    exchange = uvloop.run(ask)
    assert exchange.failure is not None
    assert exchange.failure.kind == "unreachable"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_the_last_byte_of_a_long_body_is_stamped_when_the_kernel_takes_it(run: Run) -> None:
    server = RawServer(head("200 OK", f"Content-Length: {len(STREAM)}") + STREAM)
    body = bytes(50_000_000)
    exchange = run(server.ask(body=body))
    assert exchange.failure is None
    assert server.body == body
    clock = exchange.clock
    assert clock.start_ns <= clock.connected_ns < clock.written_ns < clock.headers_ns
    assert clock.written_ns - clock.connected_ns > 1_000_000  # no buffer takes 50 MB at once


def test_a_server_that_hears_nothing_more_does_not_hang_a_cancelled_request() -> None:
    async def run() -> None:
        async with serving(FakeServer(["hang"])) as server:
            endpoint = Endpoint(server.url, "m")
            ask = stream_completion(
                endpoint, load_engine("vllm"), "/v1/completions", b"{}", PATIENT
            )
            task = asyncio.ensure_future(ask)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    uvloop.run(run())


# --- TLS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", str(made[0]), "-keyout", str(made[1])),
        ],
        check=True,
        capture_output=True,
    )
    return made


def tls_server(certificate: tuple[Path, Path]) -> RawServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return RawServer(head("200 OK", f"Content-Length: {len(STREAM)}"), STREAM, tls=context)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_tls_is_spoken_and_its_handshake_is_part_of_the_connection(
    run: Run, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    server = tls_server(certificate)
    exchange = run(server.ask(url="https://localhost:{}", body=bytes(3_000_000)))
    assert exchange.failure is None
    assert exchange.text == "ab"
    assert len(server.body) == 3_000_000
    clock = exchange.clock
    assert clock.start_ns < clock.connected_ns < clock.written_ns <= clock.headers_ns


def test_a_certificate_that_nobody_vouches_for_is_unreachable(
    certificate: tuple[Path, Path],
) -> None:
    server = tls_server(certificate)
    exchange = uvloop.run(server.ask(url="https://localhost:{}"))
    assert exchange.failure is not None
    assert exchange.failure.kind == "unreachable"
    assert "certificate" in exchange.failure.message.lower()
    assert server.body == b""


RECORDED = Path(__file__).parents[1] / "data" / "recorded"


def replay(engine: str, name: str, api: Api = "openai") -> Exchange:
    stream = (RECORDED / engine / name).read_bytes()
    server = RawServer(head("200 OK", f"Content-Length: {len(stream)}"), stream)
    return uvloop.run(server.ask(engine=engine.partition("-")[0], api=api))


OWN_ROUTES = [("llamacpp", "stream-native.sse"), ("sglang-0.5.6.post2", "generate.sse")]
STREAMS: list[tuple[str, str, Api]] = [
    *[(path.name, "stream.sse", "openai") for path in sorted(RECORDED.iterdir())],
    *[(engine, name, "native") for engine, name in OWN_ROUTES],
]


@pytest.mark.parametrize(("engine", "name", "api"), STREAMS)
def test_the_recorded_stream_of_a_real_engine_is_read_whole(
    engine: str, name: str, api: Api
) -> None:
    exchange = replay(engine, name, api)
    assert exchange.failure is None
    assert exchange.terminated
    assert exchange.finish_reason == "length"
    assert exchange.usage
    assert (exchange.usage["prompt_tokens"], exchange.usage["completion_tokens"]) == (4, 8)
    assert exchange.text.strip()
    counts = [event.completion_tokens for event in exchange.events]
    if api == "native":
        assert list(dict.fromkeys(counts)) == list(range(1, 9))
        assert exchange.usage["prompt_tokens_details"] == {"cached_tokens": 0}


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("generate-over-window.sse", "stream_error", "longer than the model's context length"),
        ("generate-over-pool.sse", "stream_error", "exceeds the maximum allowed length (4090 "),
    ],
)
def test_what_is_too_long_for_sglangs_own_route_is_a_failure(
    name: str, kind: str, words: str
) -> None:
    """HTTP 200 both times; the second with a token that no model chose."""
    failure = replay("sglang-0.5.6.post2", name, "native").failure
    assert failure is not None
    assert failure.kind == kind
    assert words in failure.message


def test_sglangs_own_route_tells_of_its_cache_and_cuts_an_answer_short() -> None:
    """16 tokens were asked for after 4,086 in a pool of 4,096: 8 came, full length as it says."""
    exchange = replay("sglang-0.5.6.post2", "generate-cut-short.sse", "native")
    assert (exchange.failure, exchange.finish_reason) == (None, "length")
    assert exchange.usage == {
        "prompt_tokens": 4086,
        "completion_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 2648},
    }
    cold = replay("sglang-0.5.6.post2", "generate-cold.sse", "native")
    assert cold.usage
    assert cold.usage["prompt_tokens"] == 596
    assert cold.usage["prompt_tokens_details"] == {"cached_tokens": 0}
