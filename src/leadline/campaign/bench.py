"""A load on a server that somebody else runs: prompts first, then warm-up, then the load itself.

Nothing is parsed or journaled while the load runs; what has ended is journaled even when the load
is interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leadline.campaign.environment import describe_environment
from leadline.campaign.sampled import sampled
from leadline.campaign.serving import Served, require_endpoint, serving
from leadline.errors import LoadError, SpecError
from leadline.journal import Journal, Redactor, create_run
from leadline.load import arrivals
from leadline.load.answer import read_exchange
from leadline.load.client import ROUTES, Patience, request_body
from leadline.load.origin import Origin, request_head, resolve
from leadline.load.runner import Job, Shot, run_closed, run_open
from leadline.load.server import open_session
from leadline.load.strain import no_collection
from leadline.metrics.load_verdict import LoadSettings
from leadline.prompts.corpus import Corpus, load_corpus
from leadline.prompts.haystack import Prompt, build_prompt
from leadline.prompts.text import build_text_prompt
from leadline.records import Purpose, Record, Sent, Strain
from leadline.spec import Deployment, EndpointTarget

_CELL = "load"
_DEPLOYMENT = "server"


@dataclass
class Bench:
    """One load while it is being made ready and run."""

    settings: LoadSettings
    served: Served
    origin: Origin
    corpus: Corpus
    corpus_sha256: str
    overhead_tokens: int = 0
    """What the server adds to a prompt by itself, learned from the first request."""
    sent: dict[int, Sent] = field(default_factory=dict)
    shots: list[Shot] = field(default_factory=list)

    async def warm_up(self) -> list[Record]:
        """Requests that are not counted; the first one tells what the server adds to a prompt."""
        first = await self._load_closed([await self._job(0, *self._lengths(), "warmup")], "warmup")
        self._learn_overhead(first[0])
        numbers = range(1, self.settings.warmup)
        jobs = [await self._job(number, *self._lengths(), "warmup") for number in numbers]
        return first + await self._load_closed(jobs, "warmup")

    async def prepare(self) -> tuple[list[Job], list[float]]:
        """Every request as bytes, and when to send each; all before the first is sent."""
        lines = self._trace()
        lengths = [(line.input_tokens, line.output_tokens) for line in lines]
        lengths = lengths or [self._lengths()] * self.settings.requests
        jobs = [await self._job(n, *pair, "trial") for n, pair in enumerate(lengths)]
        return jobs, [line.at_s for line in lines] or draw_arrivals(self.settings)

    async def run(self, jobs: list[Job], arrivals_s: list[float]) -> Strain:
        patience = self._patience()
        if users := self.settings.concurrency:
            return await run_closed(self.origin, jobs, users, patience, self.shots.append)
        return await run_open(self.origin, jobs, arrivals_s, patience, self.shots.append)

    def collect(self, purpose: Purpose) -> list[Record]:
        """The records of all that has ended, in the order of sending."""
        with no_collection():
            records = [self._record(shot, purpose) for shot in self.shots]
        self.shots.clear()
        return sorted(records, key=lambda record: record.trial)

    async def _load_closed(self, jobs: list[Job], purpose: Purpose) -> list[Record]:
        users = self.settings.concurrency or len(jobs)
        await run_closed(self.origin, jobs, users, self._patience(), self.shots.append)
        return self.collect(purpose)

    def _learn_overhead(self, record: Record) -> None:
        """``LoadError`` with the server's words if it does not even answer one request."""
        if failure := record.exchange.failure:
            raise LoadError(
                f"the first request failed: {failure.kind}: {failure.message}",
                where=self.settings.url,
                cure="see the server's log; `leadline prove` explains most such failures",
            )
        counted = (record.exchange.usage or {}).get("prompt_tokens")
        if isinstance(counted, int) and self.settings.prompt_as != "ids":
            self.overhead_tokens = counted - record.sent.input_tokens

    def _lengths(self) -> tuple[int, int]:
        return self.settings.input_tokens, self.settings.output_tokens

    def _patience(self) -> Patience:
        return Patience(self.settings.first_token_s, self.settings.between_tokens_s)

    def _trace(self) -> list[arrivals.TraceLine]:
        if self.settings.trace is None:
            return []
        return arrivals.read_trace(Path(self.settings.trace))[: self.settings.requests]

    async def _job(
        self, number: int, input_tokens: int, output_tokens: int, purpose: Purpose
    ) -> Job:
        seed = f"{self.settings.seed}/{purpose}/{number}"
        prompt = await self._prompt(input_tokens, seed)
        endpoint, form = self.served.server.endpoint, self.settings.prompt_as
        body = request_body(
            endpoint,
            self.served.engine,
            prompt,
            output_tokens,
            form=form,
            cold=True,
            salt=seed,
            full_length=True,
        )
        self.sent[number] = Sent(
            input_tokens=len(prompt.ids) + self.overhead_tokens,
            prompt_as=form,
            output_tokens=output_tokens,
            ids_sha256=prompt.ids_sha256,
            corpus_sha256=self.corpus_sha256,
            corpus_start=prompt.corpus_start,
        )
        return Job(
            number, request_head(self.origin, ROUTES[form], endpoint.headers, len(body)), body
        )

    async def _prompt(self, tokens: int, seed: str) -> Prompt:
        inside = max(1, tokens - self.overhead_tokens)
        build = build_prompt if self.settings.prompt_as == "ids" else build_text_prompt
        return await build(self.corpus, self.served.encode, inside, seed, 0)

    def _record(self, shot: Shot, purpose: Purpose) -> Record:
        return Record.model_construct(
            cell=_CELL,
            deployment=_DEPLOYMENT,
            trial=shot.job.number,
            attempt=1,
            purpose=purpose,
            sent=self.sent[shot.job.number],
            exchange=read_exchange(shot.stream, self.served.engine, shot.intended_ns),
            counters={},
        )


async def run_bench(settings: LoadSettings, runs_root: Path, redact: Redactor) -> Path:
    """Run a load; returns the run directory.

    Nothing is written for a server that is not there: ``LoadError`` or ``AccessError``.
    """
    corpus = load_corpus(settings.corpus)
    deployment = _deployment(settings)
    async with (
        open_session() as session,
        serving(session, deployment, Path(), 0, redact, lambda _: None) as served,
    ):
        bench = Bench(
            settings, served, await resolve(served.server.endpoint.url), corpus, corpus.sha256
        )
        warm = await bench.warm_up()
        jobs, arrivals_s = await bench.prepare()
        facts = {"campaign": "bench", "kind": "load", "seed": settings.seed}
        text = settings.model_dump_json(indent=2)
        journal = Journal(create_run(runs_root, "bench", facts, text, redact), redact)
        try:
            journal.write("environment.json", describe_environment())
            journal.event("load_started", engine=served.engine.name, warmup=len(warm))
            with sampled(served, _DEPLOYMENT, journal.path):
                await _run(bench, jobs, arrivals_s, journal, warm)
        finally:
            journal.close()
    return journal.path


def _deployment(settings: LoadSettings) -> Deployment:
    target = EndpointTarget(
        url=settings.url, api_key_env=settings.api_key_env, tokenizer=settings.tokenizer
    )
    require_endpoint(Deployment(engine=settings.engine, target=target), target)
    return Deployment(engine=settings.engine, model=settings.model, target=target)


async def _run(
    bench: Bench, jobs: list[Job], arrivals_s: list[float], journal: Journal, warm: list[Record]
) -> None:
    strain = None
    try:
        strain = await bench.run(jobs, arrivals_s)
    finally:
        for record in [*warm, *bench.collect("trial")]:
            journal.record(record)
        if strain:
            journal.event("load_ended", strain=strain.model_dump())
            journal.event("run_finished")


def draw_arrivals(settings: LoadSettings) -> list[float]:
    """When each request is sent, in seconds; nothing for a closed loop."""
    rate, count = settings.rate, settings.requests
    if rate is None:
        return []
    if settings.arrivals == "constant":
        return arrivals.constant(rate, count)
    if settings.arrivals == "bursts":
        return arrivals.bursts(rate, settings.burst, count)
    if settings.arrivals == "ramp":
        return arrivals.ramp(rate, settings.last_rate or rate, count)
    return arrivals.poisson(rate, count, f"{settings.seed}/arrivals")


def read_settings(given: dict[str, Any]) -> LoadSettings:
    """Settings from those that were given, the rest from what they imply.

    ``SpecError`` unless exactly one thing drives the load.
    """
    if sum(name in given for name in ("concurrency", "rate", "trace")) != 1:
        raise SpecError(
            "a load is driven by one of --concurrency, --rate and --trace",
            where="leadline bench",
            cure="--concurrency 8 for users who wait for their answers, --rate 2 for those who "
            "do not",
        )
    implied = {"warmup": min(given.get("concurrency", 4), 64), "requests": 100}
    if "trace" in given:
        implied["requests"] = len(arrivals.read_trace(Path(given["trace"])))
    return LoadSettings.model_validate(implied | given)
