"""All cells of one deployment, on as many starts of it as failures make necessary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from leadline.campaign.failures import (
    CapacityError,
    LostError,
    WarmupError,
    explain_start,
    gather_evidence,
)
from leadline.campaign.loads import LoadRun
from leadline.campaign.prompting import PromptBuilder, Way
from leadline.campaign.request import Request, Sender, summarise
from leadline.campaign.serving import Served, adopt_tokenizer, serving
from leadline.campaign.trials import TrialsRun
from leadline.campaign.words import find_unusable, hear
from leadline.campaign.work import Work
from leadline.deploy.health import is_reachable
from leadline.diagnose.explain import explain
from leadline.errors import AccessError, JournalError, LeadlineError, SpecError
from leadline.plan.campaign_plans import Refusal
from leadline.records import Purpose
from leadline.spec import Cell, EndpointTarget

_WARMUP_TOKENS = 256
_WARMUP_OUTPUT = 8
_RESUME = "then run the same command again: it resumes what is owed"


class DeploymentRun:
    def __init__(self, work: Work, key: str, cells: list[Cell]) -> None:
        self.work = work
        self.key = key
        self.limits_key = f"{key}/limits"
        self.cells = cells
        self.deployment = cells[0].settings
        self.attempt = work.attempts.get(key, 0)
        self.container = work.containers.get(key)

    async def run(self) -> None:
        """Every owed cell gets a result; nothing that happens here stops the campaign."""
        self.rule_out()
        plan = self.work.plans.get(self.key)
        for text in plan.warnings if plan and self._owed() else ():
            self.work.warn(self.key, text)
        while self._owed() or self.limits_owed():
            if self.key in self.work.lost:
                return
            try:
                await self._attempt()
            except JournalError:
                raise
            except LeadlineError as error:
                await self.note_not_up(error)

    @property
    def _start_limit_s(self) -> float:
        timeouts = self.work.campaign.timeouts
        if self.container is None:
            return timeouts.limit_start()
        return timeouts.limit_start(self.container.service.start_limit_s)

    async def _attempt(self) -> None:
        """One start: until all is done, or a fresh one is needed."""
        self.work.require(self.key, *self._first_lengths(), starting=True)
        async with self.up() as sender:
            await self._work_off(sender)

    @property
    def chosen_cells(self) -> list[Cell]:
        return [cell for cell in self.cells if self.work.is_chosen(cell)]

    def _owed(self) -> list[Cell]:
        return [cell for cell in self.cells if self.work.owed_trials(cell)]

    def limits_owed(self) -> bool:
        """With the last of its cells: who asks for some of them did not ask for these."""
        left = [cell for cell in self.cells if self.work.missing_trials(cell)]
        return self.limits_missing() and all(map(self.work.is_chosen, left or self.cells))

    def limits_missing(self) -> bool:
        """Nothing is asked of a deployment that the plan rules out whole."""
        possible = [cell for cell in self.cells if cell.key not in self.work.refusals]
        wanted = any(cell.workload.limit_probes and not cell.is_load for cell in possible)
        made = (self.limits_key, "over_limit") in self.work.probed
        return wanted and not made and self.limits_key not in self.work.settled

    @property
    def is_complete(self) -> bool:
        return not any(map(self.work.missing_trials, self.cells)) and not self.limits_missing()

    def _first_lengths(self) -> tuple[int | None, int]:
        """Of the trial that comes first: who has no time for it need not start a server."""
        lengths = [(c.workload.longest_input, c.workload.longest_output) for c in self._owed()[:1]]
        tokens, output_tokens = lengths[0] if lengths else ("max", 0)
        return (tokens if isinstance(tokens, int) else None), output_tokens

    def rule_out(self) -> None:
        """What the plan knows not to work is a result, and not started."""
        refused = {c.key: self.work.refusals.get(c.key) for c in self._owed()}
        for cell, refusal in refused.items():
            if refusal:
                self.work.settled.add(cell)
                self.work.journal.event(
                    "cell_infeasible",
                    cell=cell,
                    cause=refusal.cause,
                    reason=refusal.reason,
                    remedy=refusal.cure,
                )
        reasons = {refusal for refusal in refused.values() if refusal}
        for refusal in reasons:
            self._tell_refused(refusal, [cell for cell in refused if refused[cell] == refusal])

    def _tell_refused(self, refusal: Refusal, cells: list[str]) -> None:
        everything = all(cell.key in self.work.refusals for cell in self.cells)
        what = f"{self.key}: not started" if everything else f"{', '.join(cells)}: not tried"
        title = f"{what}, the plan says it cannot work: {refusal.reason}"
        self.work.watcher.problem(title, f"  cure: {refusal.cure}; or --try-infeasible")

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Sender]:
        self.attempt += 1
        journal, watcher = self.work.journal, self.work.watcher
        begun = asyncio.get_running_loop().time()
        async with (
            self._counted(),
            serving(
                self.work.session,
                self.deployment,
                journal.log_path(self.key, self.attempt),
                self._start_limit_s,
                journal.redact,
                lambda phase: watcher.phase(self.key, phase),
                self.container,
                self.work.owner,
            ) as served,
        ):
            self._note_ready(served, asyncio.get_running_loop().time() - begun)
            heard = await self._hear(served)
            others = (cells[0].settings for cells in self.work.campaign.starts().values())
            heard = replace(heard, encode=await adopt_tokenizer(heard.encode, others))
            prompts = PromptBuilder(self.work, heard, self.key)
            yield Sender(self.work, heard, self.key, self.attempt, prompts)

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        """A start from its first step to its end, whatever becomes of it."""
        work, facts = self.work, {"deployment": self.key, "attempt": self.attempt}
        devices = work.meter.devices.get(self.key)
        work.journal.event("deployment_starting", **facts, devices=devices)
        work.watcher.phase(self.key, "starting")
        with work.meter.up(self.key):
            try:
                yield
            finally:
                work.journal.event("deployment_ended", **facts)

    def _note_ready(self, served: Served, start_s: float) -> None:
        self.work.journal.event(
            "deployment_ready",
            deployment=self.key,
            attempt=self.attempt,
            engine=served.engine.name,
            model=served.server.endpoint.model,
            url=served.server.endpoint.url,
            window_tokens=served.window_tokens,
            edge_tokens=served.max_input_tokens(self.work.campaign.workload.longest_output),
            start_s=start_s if served.target else None,
            **served.place,
        )

    async def _hear(self, served: Served) -> Served:
        """What the engine says of itself; ``CapacityError`` if it says that it cannot serve."""
        work, log = self.work, self.work.journal.log_path(self.key, self.attempt)
        plan = work.plans.get(self.key)
        heard = await hear(served, self.deployment, log, work.campaign.hardware, plan)
        facts = {"deployment": self.key, "attempt": self.attempt}
        said = heard.words.model_dump(mode="json", round_trip=True)  # nothing derived
        work.journal.event("engine_words", **facts, **said)
        finding = find_unusable(heard.words)
        if finding and not work.options.try_infeasible:
            raise CapacityError(finding)
        return heard

    async def note_not_up(self, error: LeadlineError) -> None:
        """No server: every owed cell fails with the cause, or waits until it is back."""
        place: dict[str, str | int] = {"deployment": self.key, "attempt": self.attempt}
        if isinstance(error, LostError) or await self._is_away(error):
            self.work.lost.add(self.key)
            cell = error.cell if isinstance(error, LostError) else ""
            self.work.journal.event("deployment_lost", **place, cell=cell)
            finding = explain_start(error).model_copy(update={**place, "cell": cell})
            self.work.fail(finding.model_copy(update={"remedy": f"{finding.remedy}; {_RESUME}"}))
            return
        settles = [cell.key for cell in self._owed()]
        limits = [self.limits_key] if self.limits_owed() else []
        self.work.fail_deployment(explain_start(error).model_copy(update=place), settles, limits)

    async def _is_away(self, error: LeadlineError) -> bool:
        target = self.deployment.target
        if not isinstance(target, EndpointTarget) or isinstance(error, AccessError):
            return False
        return not await is_reachable(target.url, 0.0)

    async def _work_off(self, sender: Sender) -> None:
        """Cells in order, then the limits; returns early when a fresh start is needed."""
        await self.warm_up(sender)
        for cell in self._owed():
            stage = LoadRun if cell.is_load else TrialsRun
            if not await stage(sender, cell, self.cells).run():
                return
        if self.limits_owed():
            await self.probe_limits(sender)

    async def warm_up(self, sender: Sender) -> None:
        """A generated token, the last condition of readiness, and the first probe of speed."""
        self.work.watcher.phase(self.key, "generating a first token")
        room = sender.served.max_input_tokens(_WARMUP_OUTPUT) or _WARMUP_TOKENS
        tokens = min(_WARMUP_TOKENS, max(1, room // 2))
        for way in dict.fromkeys(Way(c.workload.prompt_as, c.workload.api) for c in self.cells):
            while not await self._send_first(sender, way, tokens):
                pass  # once more, without what has proved to be wrong

    async def _send_first(self, sender: Sender, way: Way, tokens: int) -> bool:
        request = await self._request(sender, "warmup", way, tokens, _WARMUP_OUTPUT)
        record = await sender.send(request)
        if failure := record.exchange.failure:
            evidence = await gather_evidence(sender.served, failure, tokens, _WARMUP_OUTPUT)
            raise WarmupError(explain(evidence))
        return sender.prompts.learn(way, request.prompt, record)

    async def probe_limits(self, sender: Sender) -> None:
        """One prompt of exactly the longest length, unless a cell is that, and one too long."""
        self.work.settled.add(self.limits_key)
        output_tokens = self.work.campaign.workload.longest_output
        edge_tokens = sender.served.max_input_tokens(output_tokens)
        window_tokens = sender.served.window_tokens
        if window_tokens is None or edge_tokens is None:
            self._skip_limits("the server does not tell its context window")
            return
        singles = [cell.workload for cell in self.cells if not cell.is_load]
        proven = any(workload.longest_input in ("max", edge_tokens) for workload in singles)
        probed = self.work.probed
        try:
            if not proven and (self.limits_key, "edge") not in probed:
                await self._probe(sender, "edge", edge_tokens, output_tokens)
            if (self.limits_key, "over_limit") not in probed:
                await self._probe(sender, "over_limit", window_tokens + 1, 1)
        except SpecError as error:
            self._skip_limits(error.what)

    async def _probe(
        self, sender: Sender, purpose: Purpose, tokens: int, output_tokens: int
    ) -> None:
        workload = self.work.campaign.workload
        way = Way(workload.prompt_as, workload.api)
        request = await self._request(sender, purpose, way, tokens, output_tokens)
        label = f"{self.key}: {'at the limit' if purpose == 'edge' else 'over the limit'}"
        self.work.require(self.key, tokens if purpose == "edge" else None, output_tokens)
        prediction = self.work.model(self.key).predict(tokens) if purpose == "edge" else None
        self.work.watcher.trial_started(label, 1, 1, tokens, prediction)
        record = await sender.send(request)
        self.work.watcher.trial_ended(label, 1, summarise(record.exchange), None)

    async def _request(
        self, sender: Sender, purpose: Purpose, way: Way, tokens: int, output_tokens: int
    ) -> Request:
        corpus = self.work.corpora[self.work.campaign.workload.corpus]
        seed = f"{self.work.seed}/{purpose}/{self.attempt}"
        prompt = await sender.prompts.build(way, corpus, tokens, seed, needles=0)
        return Request(
            purpose=purpose,
            cell=self.limits_key,
            trial=self.attempt,
            prompt=prompt,
            corpus=corpus,
            output_tokens=output_tokens,
            way=way,
        )

    def _skip_limits(self, reason: str) -> None:
        self.work.journal.event("limit_probe_skipped", deployment=self.key, reason=reason)
