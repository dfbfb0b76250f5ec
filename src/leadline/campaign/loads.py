"""A cell with a load, or with a sweep of them: prompts first, then warm-up, then the load itself.

Nothing is parsed or journaled while a load runs; what has ended is journaled even when the load is
interrupted. An interrupted cell is run again as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from leadline.campaign.cell import CellRun
from leadline.campaign.draw import Asked, draw_requests
from leadline.campaign.request import Request
from leadline.campaign.sampled import sampled
from leadline.campaign.wave import Wave
from leadline.load.client import Patience
from leadline.load.origin import Origin, resolve
from leadline.metrics.load_verdict import LoadVerdict, judge_load
from leadline.metrics.sweep import SweepStep, next_level
from leadline.records import Failure, Purpose, Record
from leadline.spec import Load
from leadline.units import show_rate, show_seconds, show_tokens

_BETWEEN_TOKENS_S = 120.0


class LoadRun(CellRun):
    async def measure(self, tokens: int) -> bool:
        load = self.cell.workload.load
        assert load is not None  # noqa: S101  (else it is a cell of trials)
        origin = await resolve(self.sender.served.server.endpoint.url)
        if load.sweep is None:
            records = (await self._run_load(origin, load, 1, tokens))[1]
        else:
            records = await self._sweep(origin, load, tokens)
        self.work.journal.event("cell_loaded", cell=self.cell.key)
        self.work.settled.add(self.cell.key)
        failures = [r.exchange.failure for r in records if r.exchange.failure]
        return await self.fail(_commonest(failures), tokens) if failures else True

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
        seed = f"{work.seed}/{step}" if step > 1 else str(work.seed)
        asked = draw_requests(self.cell.workload, load, tokens, seed)
        work.watcher.phase(name, f"building {len(asked)} prompts")
        patience = self._patience(load, asked)
        warm = await self._wave(
            origin, patience, asked[: load.warmup_requests], step, "load_warmup"
        )
        main = await self._wave(origin, patience, asked, step, "load")
        facts = {"cell": name, "attempt": self.sender.attempt, "step": step}
        work.journal.event("load_started", **facts, requests=len(asked), load=load.model_dump())
        work.watcher.phase(name, f"warming up, then {load}, {len(asked)} requests")
        strain = None
        try:
            if warm.requests:
                await warm.run(load.users or len(warm.requests), ())
            with sampled(self.sender.served, self.sender.deployment, work.journal.path):
                strain = await main.run(load.users, [request.at_s for request in asked])
        finally:
            records = main.collect()
            work.journal.records([*warm.collect(), *records])
        work.journal.event("load_ended", **facts, strain=strain.model_dump())
        verdict = judge_load(records, load, len(asked), strain)
        work.watcher.trial_ended(name, step, summarise_load(verdict), None)
        return verdict, records

    async def _wave(
        self,
        origin: Origin,
        patience: Patience,
        asked: Sequence[Asked],
        step: int,
        purpose: Purpose,
    ) -> Wave:
        workload, prompts = self.cell.workload, self.sender.prompts
        corpus, form = self.work.corpora[workload.corpus], workload.prompt_as
        seed = f"{self.work.seed}/{purpose}/{step}"
        lengths = [request.input_tokens for request in asked]
        places = await prompts.lay_out(corpus, lengths, seed)
        if purpose == "load" and None in places:
            self._warn_of_overlap(lengths)
        requests = [
            Request(
                purpose=purpose,
                cell=self.cell.key,
                trial=number,
                step=step,
                prompt=await prompts.build(
                    form, corpus, one.input_tokens, f"{seed}/{number}", needles=0, near=near
                ),
                corpus=corpus,
                output_tokens=one.output_tokens,
                form=form,
                cold=workload.cold,
                full_length=True,
            )
            for number, (one, near) in enumerate(zip(asked, places, strict=True), start=1)
        ]
        return Wave(self.sender, origin, patience, requests)

    def _patience(self, load: Load, asked: Sequence[Asked]) -> Patience:
        """As the campaign says; else so long that all requests could be read before, in turn."""
        timeouts = self.work.campaign.timeouts
        alone = self.sender.patience(max(request.input_tokens for request in asked))
        ahead = min(load.users or len(asked), len(asked))
        return Patience(
            timeouts.first_token_s or alone.first_token_s * ahead,
            timeouts.between_tokens_s or max(_BETWEEN_TOKENS_S, alone.first_token_s),
        )

    def _warn_of_overlap(self, lengths: Sequence[int]) -> None:
        text = (
            f"{self.cell.key}: the corpus is too short for {len(lengths)} prompts of "
            f"{show_tokens(sum(lengths))} tokens in all without overlap; they start at different "
            "places and share text further on"
        )
        self.work.warn(self.sender.deployment, text)


def summarise_load(verdict: LoadVerdict) -> str:
    """One line on one load."""
    ttft = f", TTFT p99 {show_seconds(verdict.ttft_s.p99)}" if verdict.ttft_s else ""
    rate = verdict.output_tokens_per_s
    tokens = f", {show_rate(rate)} output tokens/s" if rate else ""
    answered = f"{verdict.answered} of {verdict.requests} answered"
    return f"{verdict.load}: {answered}{ttft}{tokens}"


def _commonest(failures: Sequence[Failure]) -> Failure:
    kinds = Counter(failure.kind for failure in failures)
    kind = kinds.most_common(1)[0][0]
    return next(failure for failure in failures if failure.kind == kind)
