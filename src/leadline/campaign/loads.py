"""A cell with a load, or with a sweep of them: prompts first, then warm-up, then the load itself.

Nothing is parsed or journaled while a load runs; what has ended is journaled even when the load is
interrupted. An interrupted cell is run again as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from leadline.campaign.cell import CellRun
from leadline.campaign.draw import Asked, draw_requests
from leadline.campaign.prompting import Way
from leadline.campaign.request import Request
from leadline.campaign.sampled import sampled
from leadline.campaign.warm import build_warm
from leadline.campaign.wave import Wave
from leadline.load.client import Patience
from leadline.load.origin import Origin, resolve
from leadline.load.self_check import check_instrument
from leadline.metrics.load_verdict import LoadVerdict, judge_load
from leadline.metrics.sweep import SweepStep, next_level
from leadline.prompts.prompt import Prompt
from leadline.records import Failure, Purpose, Record, SelfCheck
from leadline.spec import Load
from leadline.units import show_rate, show_seconds

_BETWEEN_TOKENS_S = 120.0
# Of the server of known truth.
_FASTEST_ITL_S, _SLOWEST_ITL_S = 0.005, 0.5


class LoadRun(CellRun):
    async def measure(self, tokens: int) -> bool:
        load = self.cell.workload.load
        assert load is not None  # noqa: S101  (else it is a cell of trials)
        origin = await resolve(self.sender.served.server.endpoint.url)
        if load.sweep is None:
            records = (await self._run_load(origin, load, 1, tokens))[1]
        else:
            records = await self._sweep(origin, load, tokens)
        failures = [r.exchange.failure for r in records if r.exchange.failure]
        if failures:
            return await self.fail(_commonest(failures), tokens, event="cell_loaded")
        self.work.journal.event("cell_loaded", cell=self.cell.key)
        self.work.settled.add(self.cell.key)
        return True

    async def _sweep(self, origin: Origin, load: Load, tokens: int) -> list[Record]:
        """Records of the step that killed the server, else nothing: to fail is a step's job."""
        assert load.sweep is not None  # noqa: S101
        steps: list[SweepStep] = []
        while (level := next_level(load.sweep.levels, steps)) is not None:
            verdict, records = await self._run_load(origin, load.at(level), len(steps) + 1, tokens)
            steps.append(SweepStep(level=level, load=verdict))
            if not verdict.answered:
                return records
        return []

    async def _run_load(
        self, origin: Origin, load: Load, step: int, tokens: int
    ) -> tuple[LoadVerdict, list[Record]]:
        work, name = self.work, self.cell.key
        work.meter.require()
        seed = f"{work.seed}/{step}" if step > 1 else str(work.seed)
        asked = draw_requests(self.cell.workload, load, tokens, seed)
        work.watcher.phase(name, f"building {len(asked)} prompts")
        patience = self._patience(load, asked)
        first, requests = await self._requests(load, asked, step)
        warm = Wave(self.sender, origin, patience, first)
        main = Wave(self.sender, origin, patience, requests)
        load = load.model_copy(update={"warmup": len(first)})
        facts = {"cell": name, "attempt": self.sender.attempt, "step": step}
        work.journal.event("load_started", **facts, requests=len(asked), load=load.model_dump())
        check = await self._check_client(load, asked) if load.self_check else None
        if check:
            work.journal.event("instrument_checked", **facts, check=check.model_dump())
        work.watcher.phase(name, f"warming up, then {load}, {len(asked)} requests")
        records: list[Record] = []
        with warm, main:
            try:
                if warm.requests:
                    await warm.run(load.users or len(warm.requests), ())
                async with sampled(self.sender.served, self.sender.deployment, work.journal.path):
                    arrivals_s = _starts_s(asked)
                    strain = await main.run(load.users, arrivals_s, load.processes)
            finally:
                records += main.records()
                work.journal.records([*warm.records(), *records])
        work.journal.event("load_ended", **facts, strain=strain.model_dump())
        verdict = judge_load(records, load, len(asked), strain, self_check=check)
        work.watcher.trial_ended(name, step, summarise_load(verdict), None)
        return verdict, records

    async def _requests(
        self, load: Load, asked: Sequence[Asked], step: int
    ) -> tuple[list[Request], list[Request]]:
        """Those that warm up, and those that count."""
        if self.cell.workload.shared_prefix:
            return await self._warm_requests(load, asked, step)
        alone = [one._replace(more=False) for one in asked[: load.warmup_requests]]
        first = await self._cold_requests("load_warmup", alone, step)
        if self.cell.workload.turns > 1 or asked[0].recorded:
            return first, (await self._warm_requests(load, asked, step))[1]
        return first, await self._cold_requests("load", asked, step)

    async def _cold_requests(
        self, purpose: Purpose, asked: Sequence[Asked], step: int
    ) -> list[Request]:
        """Their prompts have nothing in common."""
        workload, lengths = self.cell.workload, [one.input_tokens for one in asked]
        corpus, seed = self.work.corpora[workload.corpus], f"{self.work.seed}/{purpose}/{step}"
        way = Way(workload.prompt_as, workload.api)
        prompts = await self.sender.prompts.build_apart(way, corpus, lengths, seed, self.cell.key)
        return [
            self._request(purpose, step, number, one, prompt)
            for number, (one, prompt) in enumerate(zip(asked, prompts, strict=True), start=1)
        ]

    async def _warm_requests(
        self, load: Load, asked: Sequence[Asked], step: int
    ) -> tuple[list[Request], list[Request]]:
        """Their prompts share what was asked for, and the first ones make it known."""
        workload = self.cell.workload
        corpus, seed = self.work.corpora[workload.corpus], f"{self.work.seed}/load/{step}"
        warm = await build_warm(self.sender.prompts, workload, load, corpus, asked, seed)
        if warm.warning:
            self.work.warn(self.sender.deployment, f"{self.cell.key}: {warm.warning}")
        shares = f"{self.cell.key}-{step}"
        first = [
            self._request("load_warmup", step, number, asked[0], prompt, shares=shares)
            for number, prompt in enumerate(warm.first, start=1)
        ]
        replayed: Sequence[int | None] = warm.replayed_tokens or [None] * len(asked)
        found = zip(asked, warm.prompts, warm.cached_tokens, replayed, strict=True)
        return first, [
            self._request(
                *("load", step, number, one, prompt),
                shares=shares,
                cached_tokens=cached,
                replayed_tokens=tokens,
            )
            for number, (one, prompt, cached, tokens) in enumerate(found, start=1)
        ]

    def _request(
        self, purpose: Purpose, step: int, number: int, asked: Asked, prompt: Prompt, **warm: Any
    ) -> Request:
        workload = self.cell.workload
        return Request(
            purpose=purpose,
            cell=self.cell.key,
            trial=number,
            step=step,
            prompt=prompt,
            corpus=self.work.corpora[workload.corpus],
            output_tokens=asked.output_tokens,
            way=Way(workload.prompt_as, workload.api),
            cold=workload.cold and not warm,
            full_length=True,
            more=asked.more,
            **warm,
        )

    async def _check_client(self, load: Load, asked: Sequence[Asked]) -> SelfCheck:
        """At the users or the highest mean rate of the load, and the speed of the server so far."""
        self.work.watcher.phase(self.cell.key, "measuring the client's own error")
        output_tokens = max(one.output_tokens for one in asked)
        model = self.work.model(self.sender.deployment)
        itl_s = model.predict_decode_s(output_tokens) / output_tokens
        lasts_s = asked[-1].at_s or 1.0
        rate = max(load.rate or len(asked) / lasts_s, load.last_rate or 0.0)
        return await check_instrument(
            users=load.users or 0,
            rate=0 if load.users else rate,
            output_tokens=output_tokens,
            itl_s=min(max(itl_s, _FASTEST_ITL_S), _SLOWEST_ITL_S),
            processes=load.processes,
        )

    def _patience(self, load: Load, asked: Sequence[Asked]) -> Patience:
        """As the campaign says; else so long that all requests could be read before, in turn."""
        timeouts = self.work.campaign.timeouts
        alone = self.sender.patience(max(request.input_tokens for request in asked))
        ahead = min(load.users or len(asked), len(asked))
        return Patience(
            timeouts.first_token_s or alone.first_token_s * ahead,
            timeouts.between_tokens_s or max(_BETWEEN_TOKENS_S, alone.first_token_s),
        )


def summarise_load(verdict: LoadVerdict) -> str:
    """One line on one load."""
    ttft = f", TTFT p99 {show_seconds(verdict.ttft_s.p99)}" if verdict.ttft_s else ""
    rate = verdict.output_tokens_per_s
    tokens = f", {show_rate(rate)} output tokens/s" if rate else ""
    answered = f"{verdict.answered} of {verdict.requests} answered"
    return f"{verdict.load}: {answered}{ttft}{tokens}"


def _starts_s(asked: Sequence[Asked]) -> list[float]:
    """Of each conversation; nearly always of each request."""
    follows = [False, *(one.more for one in asked)]
    return [one.at_s for one, later in zip(asked, follows, strict=False) if not later]


def _commonest(failures: Sequence[Failure]) -> Failure:
    kinds = Counter(failure.kind for failure in failures)
    kind = kinds.most_common(1)[0][0]
    return next(failure for failure in failures if failure.kind == kind)
