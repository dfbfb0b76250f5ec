"""From a deployment to a server that is up, known and answering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from leadline.campaign.containers import Contained
from leadline.campaign.platforms import open_services
from leadline.deploy import process
from leadline.deploy.endpoint import api_key, reach
from leadline.deploy.process import free_port
from leadline.deploy.target import OnPhase, Target, deployed
from leadline.engines.engine import Engine, LaunchRequest, load_engine
from leadline.engines.installed import find_program
from leadline.errors import EngineError, LoadError, SpecError
from leadline.journal import Redactor
from leadline.launch import Launch
from leadline.load.server import Server
from leadline.prompts.chat import verify_against
from leadline.prompts.tokenizer import Encode, LocalTokenizer, load_tokenizer
from leadline.records import EngineWords
from leadline.spec import Deployment, EndpointTarget, ProcessTarget
from leadline.units import parse_tokens

# A look at a handful of processes, so seldom that it cannot disturb what is measured.
_GUARD_S = 0.5
_LAST_WORDS_S = 3.0
# Words, numbers, line ends and indentation: where tokenizers differ.
SAMPLE = "The quick brown fox's 12,345 jumps over\n\n    the lazy dog: 3.14 times!\n"


@dataclass(frozen=True)
class Served:
    """A ready server and what we know of it."""

    server: Server
    engine: Engine
    encode: Encode
    window_tokens: int | None
    target: Target | None
    """``None`` for a server that somebody else runs."""
    pool_tokens: int | None = None
    """What the KV cache holds, where it can bound one request although the window does not."""
    place: Mapping[str, Any] = field(default_factory=dict)
    """Where it runs: the container or pod, and the digest of its image."""
    words: EngineWords = field(default_factory=EngineWords)
    waiting: list[dict[str, float]] = field(default_factory=list)
    """Gauges seen while the last request had waited for most of its time limit."""

    @property
    def block_tokens(self) -> int | None:
        """Tokens of one block of its prefix cache, if it tells."""
        said = self.words.settings.get(self.engine.block_setting or "", "")
        return int(said) if said.isdigit() else self.engine.block_tokens

    async def wait_end(self) -> str:
        """How the server ended that we started, or a process of its own that it needs.

        It gets a moment more: one that notices ends its answers itself, in better words.
        """
        while not (status := self.target and self.target.exit_status()):  # noqa: ASYNC110
            await asyncio.sleep(_GUARD_S)
        await asyncio.sleep(_LAST_WORDS_S)
        return status

    def max_input_tokens(self, output_tokens: int) -> int | None:
        if self.window_tokens is None:
            return None
        return self.engine.max_input_tokens(self.window_tokens, output_tokens, self.pool_tokens)


@asynccontextmanager
async def serving(
    session: aiohttp.ClientSession,
    deployment: Deployment,
    log: Path,
    timeout_s: float,
    redact: Redactor,
    on_phase: OnPhase,
    container: Contained | None = None,
    owner: str = "",
) -> AsyncIterator[Served]:
    """The deployment's server for the length of the block; what we started is stopped after it.

    ``container`` is what starts a deployment that runs in one; ``owner`` the run's id.

    Raises ``StartError`` or another ``LeadlineError`` if it does not come up as it should.
    """
    if isinstance(deployment.target, EndpointTarget):
        yield await _find(session, deployment, deployment.target)
        return
    engine = load_engine(deployment.engine_name or "")
    port = getattr(deployment.target, "port", None) or free_port()
    target: Target
    if container:
        service = container.service.of_run(owner)
        target = open_services(container.target, redact).target(service, owner)
        launch = service.launch(port)
    else:
        target, launch = process.ProcessTarget(redact, owner), plan_launch(deployment, port)
    async with deployed(target, launch, log, timeout_s, on_phase) as endpoint:
        served = await _know(Server(session, endpoint), engine, deployment, target)
        yield replace(served, place=target.facts)


def plan_launch(deployment: Deployment, port: int) -> Launch:
    """What would start this deployment. ``LeadlineError`` if Leadline cannot, with the cure."""
    if not isinstance(deployment.target, ProcessTarget):
        raise SpecError(
            f"Leadline plans {deployment.target.kind} targets but cannot start them yet",
            where="deployments",
            cure="use target: process, or give the address of a running server",
        )
    engine = load_engine(deployment.engine_name or "")
    if engine.launch is None:
        raise SpecError(
            f"Leadline cannot start {engine.name} itself yet, only talk to a running server",
            where="deployments",
            cure="start it yourself and give its address as target: http://HOST:PORT",
        )
    return engine.launch(
        LaunchRequest(
            deployment.model or "",
            port,
            deployment.settings,
            deployment.env,
            deployment.target.executable or find_program(deployment.engine or ""),
        )
    )


def require_endpoint(deployment: Deployment, target: EndpointTarget) -> None:
    """``SpecError`` for what can be known to be wrong without asking the server."""
    if deployment.engine_name:
        load_engine(deployment.engine_name)
    if target.tokenizer:
        load_tokenizer(target.tokenizer)
    api_key(target)


async def _find(
    session: aiohttp.ClientSession, deployment: Deployment, target: EndpointTarget
) -> Served:
    server = Server(session, reach(target, deployment.model or ""))
    await server.require_model()
    name = deployment.engine_name
    engine = load_engine(name) if name else await server.recognise()
    return await _know(server, engine, deployment, None)


async def _know(
    server: Server, engine: Engine, deployment: Deployment, target: Target | None
) -> Served:
    await server.require_model()
    return Served(
        server=server,
        engine=engine,
        encode=await choose_encoder(server, engine, deployment),
        window_tokens=await server.window(engine) or _window_setting(deployment, engine),
        target=target,
        pool_tokens=await server.pool(engine),
    )


async def choose_encoder(server: Server, engine: Engine, deployment: Deployment) -> Encode:
    """A local tokenizer that is known and gives the server's own ids, else the server's own.

    ``EngineError`` if the one that was given by name does not. A server that does not answer is
    not asked: SGLang 0.5.6 says 500 if tokenizer_config.json sets no model_max_length.
    """
    given = deployment.target.tokenizer if isinstance(deployment.target, EndpointTarget) else None
    folder = given or _tokenizer_folder(deployment)
    if folder is None:
        return await server.encoder(engine)
    local = load_tokenizer(folder)
    try:
        theirs = await server.encoder(engine)
        verify_against(local.encode(SAMPLE), await theirs(SAMPLE))
    except LoadError:
        return local
    except EngineError:
        if given:
            raise
        return theirs
    return local


async def adopt_tokenizer(encode: Encode, others: Iterable[Deployment]) -> Encode:
    """That of another deployment, where it gives this server's ids: only then both get the same
    prompts, and can be compared.
    """
    if not isinstance(encode, LocalTokenizer):
        for folder in filter(None, map(_tokenizer_folder, others)):
            local = load_tokenizer(folder)
            with suppress(EngineError, LoadError):
                verify_against(local.encode(SAMPLE), await encode(SAMPLE))
                return local
    return encode


def _tokenizer_folder(deployment: Deployment) -> str | None:
    """The folder of a model that we serve ourselves, if it holds a tokenizer."""
    folder = Path(deployment.model or "").expanduser()
    ours = not isinstance(deployment.target, EndpointTarget)
    return str(folder) if ours and (folder / "tokenizer.json").is_file() else None


def _window_setting(deployment: Deployment, engine: Engine) -> int | None:
    name = engine.window_setting or "max_model_len"
    value = deployment.settings.get(name)
    try:
        return None if value is None else parse_tokens(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise SpecError(str(error), where=f"settings.{name}", cure="correct it") from error
