from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.fake_server import Answer, FakeServer, models, serving

from leadline.deploy.process import free_port
from leadline.engines.engine import load_engine
from leadline.errors import AccessError, EngineError, LeadlineError, LoadError
from leadline.launch import Endpoint
from leadline.load import server as module
from leadline.load.server import Server, open_session


def ask(
    routes: dict[str, Answer],
    question: Callable[[Server], Awaitable[Any]],
    model: str = "tiny",
    fake: FakeServer | None = None,
) -> Any:
    fake = fake or FakeServer()
    fake.routes = routes

    async def run() -> Any:
        async with serving(fake), open_session() as session:
            endpoint = Endpoint(fake.url, model, {"Authorization": "Bearer key"})
            return await question(Server(session, endpoint))

    return asyncio.run(run())


def refusal(
    routes: dict[str, Answer], question: Callable[[Server], Awaitable[Any]], kind: type[Any]
) -> LeadlineError:
    with pytest.raises(kind) as caught:
        ask(routes, question)
    error: LeadlineError = caught.value
    return error


# --- models ---------------------------------------------------------------------------------


def test_the_served_models_are_listed_and_the_key_is_sent() -> None:
    fake = FakeServer()
    assert ask({"/v1/models": models("a", "b")}, Server.served_models, fake=fake) == ["a", "b"]
    assert fake.headers[0]["Authorization"] == "Bearer key"


def test_a_model_that_is_served_is_accepted() -> None:
    ask({"/v1/models": models("other", "tiny")}, Server.require_model)


def test_a_model_that_is_not_served_names_those_that_are() -> None:
    error = refusal({"/v1/models": models("a", "b")}, Server.require_model, AccessError)
    assert error.what == "the server does not serve 'tiny'"
    assert error.cure == "use one of: a, b"
    assert error.exit_code == 3


def test_a_server_without_models_is_said_to_have_none() -> None:
    error = refusal({"/v1/models": models()}, Server.require_model, AccessError)
    assert error.cure == "use one of: (it serves none)"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_callers_to_mend(status: int) -> None:
    routes = {"/v1/models": Answer({"error": "Unauthorized"}, status)}
    error = refusal(routes, Server.served_models, AccessError)
    assert error.what == f"the server refuses the API key (HTTP {status})"
    assert "LEADLINE_API_KEY" in error.cure
    assert error.exit_code == 3


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer("<html>Welcome to nginx!</html>"), 200),
        (Answer({"detail": "Not Found"}, 404), 404),
        (Answer({"models": []}), 200),
        (Answer({"data": "tiny"}), 200),
        (Answer(["tiny"]), 200),
        (Answer("", 500), 500),
    ],
)
def test_what_is_no_openai_server_is_said_so(answer: Answer, status: int) -> None:
    error = refusal({"/v1/models": answer}, Server.served_models, EngineError)
    assert error.what == f"/v1/models answered HTTP {status}, not a list of models"
    assert error.cure == "give the base address of an OpenAI-compatible server, without /v1"
    assert error.exit_code == 2


def test_an_unreachable_server_is_said_so() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    async def run() -> None:
        async with open_session() as session:
            await Server(session, Endpoint(url, "m")).served_models()

    with pytest.raises(LoadError) as caught:
        asyncio.run(run())
    assert caught.value.what.startswith("no answer from the server: Cannot connect to host")
    assert caught.value.where == f"{url}/v1/models"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("question", "what"),
    [
        (Server.served_models, "no answer from the server: TimeoutError"),
        (
            lambda server: server.encoder(load_engine("vllm")),
            "the server has no /tokenize to count exactly with",
        ),
    ],
)
def test_a_server_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, question: Callable[[Server], Awaitable[Any]], what: str
) -> None:
    monkeypatch.setattr(module, "_QUESTION_S", 0.05)

    monkeypatch.setattr(module, "_TOKENIZE_S", 0.05)

    async def run() -> None:
        over = asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            over.set()

        listener = await asyncio.start_server(mute, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            async with open_session() as session:
                await question(Server(session, Endpoint(url, "m")))
        finally:
            await over.wait()
            listener.close()

    with pytest.raises(LoadError) as caught:
        asyncio.run(run())
    assert caught.value.what == what


# --- engine and window ----------------------------------------------------------------------

LLAMACPP_PROPS = Answer({"default_generation_settings": {"n_ctx": 8192}, "model_path": "m.gguf"})


@pytest.mark.parametrize(
    ("routes", "engine"),
    [
        ({"/props": LLAMACPP_PROPS}, "llamacpp"),
        ({"/version": Answer({"version": "0.12.0"})}, "vllm"),
        ({"/get_server_info": Answer({"version": "0.5.6.post2"})}, "sglang"),
        ({}, "openai"),
        ({"/version": Answer("", 401)}, "openai"),
    ],
)
def test_the_engine_is_recognised_by_its_own_route(routes: dict[str, Answer], engine: str) -> None:
    assert ask(routes, Server.recognise).name == engine


@pytest.mark.parametrize(
    ("engine", "routes", "window"),
    [
        ("llamacpp", {"/props": LLAMACPP_PROPS}, 8192),
        ("llamacpp", {"/v1/models": models("tiny", meta={"n_ctx": 4096})}, 4096),
        ("vllm", {"/v1/models": models("tiny", max_model_len=1_048_576)}, 1_048_576),
        ("sglang", {"/v1/models": models("tiny", max_model_len=131_072)}, 131_072),
        ("openai", {"/v1/models": models("tiny", max_model_len=7)}, 7),
        ("openai", {"/v1/models": models("tiny", meta={"n_ctx": 8})}, 8),
        ("openai", {"/v1/models": models("tiny", context_length=9)}, 9),
        ("openai", {"/v1/models": models("tiny")}, None),
        ("vllm", {}, None),
        ("vllm", {"/v1/models": models("tiny", max_model_len="8192")}, None),
        ("vllm", {"/v1/models": Answer("<html>")}, None),
    ],
)
def test_the_window_is_read_where_each_engine_tells_it(
    engine: str, routes: dict[str, Answer], window: int | None
) -> None:
    assert ask(routes, lambda server: server.window(load_engine(engine))) == window


def test_the_window_is_that_of_our_model_where_several_are_served() -> None:
    several = [{"id": "other", "max_model_len": 100}, {"id": "tiny", "max_model_len": 200}]
    routes = {"/v1/models": Answer({"data": several})}
    assert ask(routes, lambda server: server.window(load_engine("vllm"))) == 200


# --- tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "body"),
    [
        ("llamacpp", {"content": "deep sea"}),
        ("vllm", {"prompt": "deep sea", "model": "tiny", "add_special_tokens": False}),
        ("sglang", {"prompt": "deep sea", "model": "tiny", "add_special_tokens": False}),
        ("openai", {"prompt": "deep sea", "model": "tiny", "add_special_tokens": False}),
    ],
)
def test_each_engine_is_asked_in_its_dialect(engine: str, body: dict[str, Any]) -> None:
    fake = FakeServer()

    async def encode(server: Server) -> list[int]:
        return await (await server.encoder(load_engine(engine)))("deep sea")

    routes = {"/tokenize": Answer({"tokens": [4, 5], "count": 2})}
    assert ask(routes, encode, fake=fake) == [4, 5]
    assert fake.bodies[-1] == body


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"detail": "Not Found"}, 404),
        Answer("Internal Server Error", 500),
        Answer("<html>"),
        Answer({"tokens": []}),
        Answer({"tokens": "4 5"}),
        Answer({"tokens": [{"id": 4}]}),
        Answer({"ids": [4]}),
    ],
)
def test_a_server_without_a_tokenizer_is_said_so_with_the_cure(answer: Answer) -> None:
    engine = load_engine("openai")
    error = refusal({"/tokenize": answer}, lambda server: server.encoder(engine), LoadError)
    assert error.what == "the server has no /tokenize to count exactly with"
    assert error.cure == (
        "give the model's tokenizer with --tokenizer DIR (campaign: target.tokenizer)"
    )


def test_a_tokenizer_that_stops_answering_is_an_error() -> None:
    fake = FakeServer()

    async def encode(server: Server) -> None:
        encoder = await server.encoder(load_engine("vllm"))
        fake.routes = {}
        with pytest.raises(LoadError, match="/tokenize stopped answering"):
            await encoder("deep sea")

    ask({"/tokenize": Answer({"tokens": [4]})}, encode, fake=fake)


def test_a_text_of_megabytes_is_tokenised_in_blocks() -> None:
    fake = FakeServer()
    text = "deep blue sea\n" * 180_000

    async def encode(server: Server) -> list[int]:
        encoder = await server.encoder(load_engine("llamacpp"))
        return await encoder(text)

    ids = ask({"/tokenize": Answer({"tokens": [4]})}, encode, fake=fake)
    blocks = [body["content"] for body in fake.bodies[1:]]
    assert "".join(blocks) == text
    assert ids == [4] * len(blocks) == [4, 4, 4]


# --- counters -------------------------------------------------------------------------------


def test_counters_are_read_under_their_canonical_names() -> None:
    text = (
        "# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total 12\n"
        "# TYPE llamacpp:prompt_tokens_cached_total counter\n"
        "llamacpp:prompt_tokens_cached_total 3\n"
    )
    found = ask({"/metrics": Answer(text)}, lambda server: server.counters(load_engine("llamacpp")))
    assert found == {"prompt_tokens": 12, "cached_tokens": 3}


@pytest.mark.parametrize(
    "answer", [Answer("", 404), Answer("<html>not metrics</html>"), Answer({"a": 1}), Answer("")]
)
def test_a_server_without_counters_has_none(answer: Answer) -> None:
    routes = {"/metrics": answer}
    assert ask(routes, lambda server: server.counters(load_engine("vllm"))) == {}


def test_a_server_of_no_known_engine_is_not_scraped() -> None:
    fake = FakeServer()
    assert ask({}, lambda server: server.counters(load_engine("openai")), fake=fake) == {}
    assert fake.headers == []


@pytest.mark.parametrize(("name", "asked"), [("sglang", 1), ("vllm", 0)])
def test_the_cache_is_flushed_where_the_engine_has_a_way_to(name: str, asked: int) -> None:
    fake = FakeServer()
    ask({}, lambda server: server.flush(load_engine(name)), fake=fake)
    assert len(fake.headers) == asked
