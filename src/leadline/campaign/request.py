"""One request of a campaign: sent, journaled, learned from; judged only later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from leadline.campaign.prompting import PromptBuilder, Way
from leadline.campaign.serving import Served
from leadline.campaign.work import Work
from leadline.errors import LeadlineError
from leadline.journal import utc_now
from leadline.load.client import Patience, request_body, route_for, stream_completion
from leadline.metrics.measures import measure
from leadline.metrics.scrape import growth
from leadline.prompts.corpus import Corpus
from leadline.prompts.haystack import Prompt
from leadline.records import Exchange, Purpose, Record, Sent
from leadline.units import show_rate, show_seconds, show_tokens

_UNKNOWN_PATIENCE_S = 600.0
# Only a request that has waited this share of its time limit is looked after: a measured one is
# left alone.
_LATE_SHARE = 0.4
_LOOKS = 3


@dataclass(frozen=True)
class Request:
    purpose: Purpose
    cell: str
    trial: int
    prompt: Prompt
    corpus: Corpus
    output_tokens: int
    way: Way
    cold: bool = True
    shares: str = ""
    """Requests of one such name may have a cached prefix in common, and with no others."""
    cached_tokens: tuple[int, int] | None = None
    """See ``Sent``."""
    replayed_tokens: int | None = None
    """See ``Sent``."""
    full_length: bool = False
    """The model never ends early, so that every request of a load costs what was asked for."""
    step: int = 0
    """Of a load."""
    more: bool = False
    """The same user sends the next one of the load too, when this has ended."""


@dataclass(frozen=True)
class Sender:
    """Sends to one start of one deployment."""

    work: Work
    served: Served
    deployment: str
    attempt: int
    prompts: PromptBuilder

    async def send(self, request: Request) -> Record:
        """The journal has the record before anybody judges it."""
        if request.cold:
            await self.flush()
        before = await self.counters()
        patience = self.patience(request.prompt.tokens)
        async with self._watching(patience) as lost:
            exchange = await stream_completion(
                self.served.server.endpoint,
                self.served.engine,
                route_for(self.served.engine, *request.way),
                self.body(request),
                patience,
                self.work.watcher.chunk,
                api=request.way.api,
                lost=lost,
            )
        after = await self.counters() if exchange.failure is None else None
        seen_twice = before is not None and after is not None
        record = self.record(
            request, exchange, growth(before or {}, after or {}) if seen_twice else {}
        )
        self.work.journal.record(record)
        facts = {"cell": record.cell, "trial": record.trial, "attempt": record.attempt}
        self.work.journal.scrape({"at": utc_now(), **facts, "before": before, "after": after})
        self.work.learn(record)
        return record

    def body(self, request: Request) -> bytes:
        place = f"{request.cell}-{request.step or ''}-{request.purpose}-{request.trial}"
        scope = request.shares or (place if request.cold else "")
        return request_body(
            self.served.server.endpoint,
            self.served.engine,
            request.prompt,
            request.output_tokens,
            form=request.way.form,
            cold=request.cold,
            salt=f"{self.work.seed}-{scope}-{self.attempt}" if scope else None,
            full_length=request.full_length,
            api=request.way.api,
        )

    def record(self, request: Request, exchange: Exchange, counters: dict[str, float]) -> Record:
        sent = Sent(
            input_tokens=request.prompt.tokens,
            prompt_as=request.way.form,
            output_tokens=request.output_tokens,
            ids_sha256=request.prompt.ids_sha256,
            corpus_sha256=request.corpus.sha256,
            corpus_start=request.prompt.corpus_start,
            needles=request.prompt.needles,
            cached_tokens=request.cached_tokens,
            replayed_tokens=request.replayed_tokens,
        )
        return Record(
            cell=request.cell,
            deployment=self.deployment,
            trial=request.trial,
            attempt=self.attempt,
            purpose=request.purpose,
            step=request.step,
            sent=sent,
            exchange=exchange,
            counters=counters,
        )

    def patience(self, tokens: int) -> Patience:
        """For a request that is alone: the campaign's own limits, else from the predictions."""
        timeouts = self.work.campaign.timeouts
        model = self.work.model(self.deployment)
        first = timeouts.first_token_s or model.first_token_patience_s(tokens)
        between = timeouts.between_tokens_s or model.between_tokens_patience_s()
        return Patience(first or _UNKNOWN_PATIENCE_S, between)

    @asynccontextmanager
    async def _watching(self, patience: Patience) -> AsyncIterator[asyncio.Future[str]]:
        """Look at the engine's gauges while the request has waited long, before it is given up.

        What is yielded is set once the server has lost what could still answer.
        """
        self.served.waiting.clear()
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        looking = asyncio.create_task(self._look(patience.first_token_s))
        guarding = asyncio.create_task(self._guard(lost))
        try:
            yield lost
        finally:
            looking.cancel()
            guarding.cancel()
            await asyncio.wait({looking, guarding})

    async def _guard(self, lost: asyncio.Future[str]) -> None:
        lost.set_result(f"the server ended: {await self.served.wait_end()}")

    async def _look(self, first_token_s: float) -> None:
        await asyncio.sleep(first_token_s * _LATE_SHARE)
        pause_s = first_token_s * (1 - _LATE_SHARE) / (2 * _LOOKS + 1)
        for _ in range(_LOOKS):
            try:
                async with asyncio.timeout(pause_s):  # a spinning engine may not answer at all
                    gauges = await self.served.server.gauges(self.served.engine)
            except (LeadlineError, TimeoutError):
                self.served.waiting.append({})
            else:
                self.served.waiting.extend([gauges] if gauges else [])
            await asyncio.sleep(pause_s)

    async def flush(self) -> None:
        """On a server of our own only: others may live from the cache of theirs.

        Given up when the server has lost what could do it: SGLang without its scheduler takes the
        request and never answers.
        """
        if not self.served.target:
            return
        flushing = asyncio.create_task(self.served.server.flush(self.served.engine))
        ending = asyncio.create_task(self.served.wait_end())
        try:
            await asyncio.wait({flushing, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            flushing.cancel()
            ending.cancel()
            await asyncio.wait({flushing, ending})
        with suppress(LeadlineError, asyncio.CancelledError):
            flushing.result()

    async def counters(self) -> dict[str, float] | None:
        try:
            return await self.served.server.counters(self.served.engine)
        except LeadlineError:
            return None  # too busy or too dead to be scraped: the cold proof has a witness less


def summarise(exchange: Exchange) -> str:
    """One line on one request."""
    if exchange.failure:
        return f"{exchange.failure.kind}: {exchange.failure.message}"
    measures = measure(exchange)
    ttft = show_seconds(measures.ttft_s) if measures.ttft_s else "–"
    rate = measures.decode_tokens_per_s
    decode = f", decode {show_rate(rate)} tokens/s" if rate else ""
    return f"{show_tokens(measures.prompt_tokens or 0)} tokens counted, TTFT {ttft}{decode}"
