"""What a running server says of itself: models, window, tokens, counters, readiness."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any

import aiohttp
import orjson

from leadline.engines.engine import Engine, TokenizeRoute, engine_names, load_engine, pick
from leadline.errors import AccessError, EngineError, LoadError
from leadline.launch import Endpoint
from leadline.metrics.scrape import read_counters, read_labels
from leadline.prompts.tokenizer import Encode, text_blocks

_OK = 200
_UNAUTHORISED = (401, 403)
_QUESTION_S = 30.0
_TOKENIZE_S = 120.0  # for a block of a million characters, on a busy machine
_PROBE_TEXT = "The quick brown fox jumps over the lazy dog."


def open_session() -> aiohttp.ClientSession:
    """A session for questions, none of which is measured; each has its own time limit."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        # A kept connection that the server closes while we pause would look like its failure.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
    )


class Server:
    """A server and the means to ask it things."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint) -> None:
        self.session = session
        self.endpoint = endpoint

    async def served_models(self) -> list[str]:
        """Ids of the models served.

        Raises ``LoadError`` if unreachable, ``AccessError`` if the key is refused, ``EngineError``
        if the answer is not the OpenAI API's.
        """
        status, answer = await self._get("/v1/models")
        if status in _UNAUTHORISED:
            raise AccessError(
                f"the server refuses the API key (HTTP {status})",
                where=self.endpoint.url,
                cure="put the right key into LEADLINE_API_KEY, or name its variable with "
                "--api-key-env (campaign: target.api_key_env)",
            )
        models = pick(answer, "data")
        if status != _OK or not isinstance(models, list):
            raise EngineError(
                f"/v1/models answered HTTP {status}, not a list of models",
                where=self.endpoint.url,
                cure="give the base address of an OpenAI-compatible server, without /v1",
            )
        return [str(pick(model, "id")) for model in models]

    async def require_model(self) -> None:
        """``AccessError`` naming the served models if ours is not among them."""
        models = await self.served_models()
        if self.endpoint.model not in models:
            raise AccessError(
                f"the server does not serve {self.endpoint.model!r}",
                where=self.endpoint.url,
                cure=f"use one of: {', '.join(models) or '(it serves none)'}",
            )

    async def recognise(self) -> Engine:
        """The engine behind the address, by the route that only it answers."""
        for name in engine_names():
            engine = load_engine(name)
            if engine.signature_path and (await self._get(engine.signature_path))[0] == _OK:
                return engine
        return load_engine("openai")

    async def window(self, engine: Engine) -> int | None:
        """The context window in tokens, if the server tells it."""
        return await self._first_number(engine.window_paths)

    async def pool(self, engine: Engine) -> int | None:
        """Tokens that the KV cache holds, where they can bound a request and the server tells."""
        return await self._first_number(engine.pool_paths)

    async def _first_number(self, places: tuple[tuple[str, str], ...]) -> int | None:
        for route, path in places:
            _, answer = await self._get(route)
            number = pick(self._ours_first(answer), path)
            if isinstance(number, int):
                return number
        return None

    def _ours_first(self, answer: Any) -> Any:
        """Where the answer lists models, the one we talk to is its first."""
        models = pick(answer, "data")
        if not isinstance(models, list):
            return answer
        ours = sorted(models, key=lambda model: pick(model, "id") != self.endpoint.model)
        return {"data": ours}

    async def encoder(self, engine: Engine) -> Encode:
        """The server's own tokenizer. ``LoadError`` with the cure if it offers none."""
        for route in engine.tokenize:
            if await self._encode(route, _PROBE_TEXT):
                return self._encode_blocks(route)
        raise LoadError(
            "the server has no /tokenize to count exactly with",
            where=self.endpoint.url,
            cure="give the model's tokenizer with --tokenizer DIR (campaign: target.tokenizer)",
        )

    async def counters(self, engine: Engine) -> dict[str, float]:
        """The engine's own counters by canonical name; empty where it shows none."""
        if not engine.counters:
            return {}
        found = read_counters(await self._metrics(engine), engine.counters)
        return dict.fromkeys(engine.unborn_counters, 0.0) | found if found else {}

    async def flush(self, engine: Engine) -> None:
        """Empty the prefix cache; whether that worked, the proof of each request tells."""
        if engine.flush_path:
            await self._get_text(engine.flush_path)

    async def gauges(self, engine: Engine) -> dict[str, float]:
        """Requests running and waiting and the like, by canonical name."""
        return read_counters(await self._metrics(engine), engine.gauges) if engine.gauges else {}

    async def settings(self, engine: Engine) -> dict[str, str]:
        """Settings that the engine shows among its metrics, under our names."""
        if engine.resolved is None:
            return {}
        labels = read_labels(await self._metrics(engine), engine.resolved.metric)
        names = engine.resolved.metric_names
        return {names[name]: value for name, value in labels.items() if name in names}

    async def _metrics(self, engine: Engine) -> str:
        if engine.metrics_path is None:
            return ""
        status, body = await self._get_text(engine.metrics_path)
        return body if status == _OK else ""

    def _encode_blocks(self, route: TokenizeRoute) -> Encode:
        async def encode(text: str) -> list[int]:
            ids: list[int] = []
            for block in text_blocks(text):
                found = await self._encode(route, block)
                if found is None:
                    raise LoadError(
                        "/tokenize stopped answering", where=self.endpoint.url, cure="see its log"
                    )
                ids += found
            return ids

        return encode

    async def _encode(self, route: TokenizeRoute, text: str) -> list[int] | None:
        body = {route.text_field: text, **route.fields}
        if route.model_field:
            body[route.model_field] = self.endpoint.model
        try:
            async with (
                asyncio.timeout(_TOKENIZE_S),
                self.session.post(
                    self.endpoint.url + route.path,
                    data=BytesIO(orjson.dumps(body)),
                    headers={"Content-Type": "application/json", **self.endpoint.headers},
                ) as response,
            ):
                answer = orjson.loads(await response.read()) if response.status == _OK else None
        except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError):
            return None
        ids = pick(answer, route.ids_path)
        return ids if isinstance(ids, list) and all(isinstance(i, int) for i in ids) else None

    async def _get(self, path: str) -> tuple[int, Any]:
        status, body = await self._get_text(path)
        try:
            return status, orjson.loads(body)
        except orjson.JSONDecodeError:
            return status, None

    async def _get_text(self, path: str) -> tuple[int, str]:
        try:
            async with (
                asyncio.timeout(_QUESTION_S),
                self.session.get(
                    self.endpoint.url + path, headers=self.endpoint.headers
                ) as response,
            ):
                return response.status, (await response.read()).decode(errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise LoadError(
                f"no answer from the server: {str(error) or type(error).__name__}",
                where=self.endpoint.url + path,
                cure="check the address, and that the server is up (curl URL/v1/models)",
            ) from error
