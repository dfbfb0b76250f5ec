"""A cell of single requests: predict, then run the owed trials one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from leadline.campaign.cell import CellRun
from leadline.campaign.prompting import Way
from leadline.campaign.request import Request, summarise
from leadline.campaign.sampled import sampled
from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.records import Record
from leadline.spec import Cell


@dataclass(frozen=True)
class TrialsRun(CellRun):
    only: int | None = None
    """This trial alone, where several deployments take turns."""

    async def measure(self, tokens: int) -> bool:
        if self.only in (None, 1):
            self._predict(tokens)
        async with sampled(self.sender.served, self.sender.deployment, self.work.journal.path):
            return await self._run_trials(tokens)

    async def _run_trials(self, tokens: int) -> bool:
        owed = self.work.owed_trials(self.cell)
        for trial in owed if self.only is None else {self.only} & set(owed):
            self.work.require(self.sender.deployment, tokens, self.cell.workload.longest_output)
            record = await self._run_trial(trial, tokens)
            if failure := record.exchange.failure:
                return await self.fail(failure, tokens)
            self._note_short(record)
        return True

    def _predict(self, tokens: int) -> None:
        prediction = self.work.model(self.sender.deployment).predict(tokens)
        self.work.journal.event(
            "cell_predicted",
            cell=self.cell.key,
            input_tokens=tokens,
            ttft_s=prediction._asdict() if prediction else None,
        )

    async def _run_trial(self, trial: int, tokens: int) -> Record:
        work, workload = self.work, self.cell.workload
        prediction = work.model(self.sender.deployment).predict(tokens)
        work.watcher.trial_started(self.cell.key, trial, workload.repeats, tokens, prediction)
        corpus = work.corpora[workload.corpus]
        # Not of the deployment: engines that are compared get the same prompts.
        seed = f"{work.seed}/{tokens}/{workload.longest_output}/{trial}"
        way = Way(workload.prompt_as, workload.api)
        prompt = await self.sender.prompts.build(way, corpus, tokens, seed, workload.needles)
        record = await self.sender.send(
            Request(
                purpose="trial",
                cell=self.cell.key,
                trial=trial,
                prompt=prompt,
                corpus=corpus,
                output_tokens=workload.longest_output,
                way=way,
                cold=workload.cold,
            )
        )
        work.done.add((self.cell.key, trial))
        work.watcher.trial_ended(
            self.cell.key, trial, summarise(record.exchange), self._remaining_s()
        )
        return record

    def _note_short(self, record: Record) -> None:
        """An answer that is cut and does not say so fails by its proof; here is why, once."""
        answered = (record.exchange.usage or {}).get("completion_tokens")
        if record.trial > 1 or record.exchange.finish_reason != "length" or answered is None:
            return
        if answered < record.sent.output_tokens:
            evidence = Evidence(
                input_tokens=record.sent.input_tokens,
                output_tokens=record.sent.output_tokens,
                window_tokens=self.sender.served.window_tokens,
                pool_tokens=self.sender.served.pool_tokens,
                answered_tokens=answered,
            )
            self.work.fail(explain(evidence).model_copy(update=self.place()))

    def _remaining_s(self) -> float | None:
        """Predicted time for all trials that this deployment still owes; loads are not known."""
        total = 0.0
        for cell in self.siblings:
            seconds = None if cell.is_load else self._trial_s(cell)
            if seconds is None:
                return None
            total += seconds * len(self.work.owed_trials(cell))
        return total

    def _trial_s(self, cell: Cell) -> float | None:
        output_tokens = cell.workload.longest_output
        asked = cell.workload.longest_input
        longest = self.sender.served.max_input_tokens(output_tokens)
        tokens = longest if asked == "max" else asked
        return self.work.predict_s(self.sender.deployment, tokens, output_tokens)
