"""One cell on one start of its deployment: predict, run the owed trials, explain a failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leadline.campaign.failures import describe_error, gather_evidence
from leadline.campaign.request import Request, Sender, summarise
from leadline.campaign.work import Work
from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.errors import LoadError, SpecError
from leadline.records import Failure, Record
from leadline.spec import Cell

# After these the server is in an unknown state; one that we started is started afresh.
_UNSETTLING = ("disconnected", "unreachable", "timeout", "stalled", "malformed")


@dataclass(frozen=True)
class CellRun:
    sender: Sender
    cell: Cell
    siblings: Sequence[Cell]
    """All cells of the deployment, for the estimate of what is left."""

    @property
    def work(self) -> Work:
        return self.sender.work

    async def run(self) -> bool:
        """All owed trials; ``False`` when the server must be started afresh."""
        try:
            tokens = self._input_tokens()
            self._predict(tokens)
            for trial in self.work.owed_trials(self.cell):
                record = await self._run_trial(trial, tokens)
                if failure := record.exchange.failure:
                    return await self._fail(failure, tokens)
                self._note_short(record)
        except SpecError as error:
            self._cannot_build(error)
        except LoadError as error:  # the server did not even tokenise
            self._note_failed()
            return await self._fail(Failure(kind="unreachable", message=str(error)), tokens=0)
        return True

    def _input_tokens(self) -> int:
        asked = self.cell.workload.input_tokens
        if asked != "max":
            return asked
        longest = self.sender.served.max_input_tokens(self.cell.workload.output_tokens)
        if longest is None:
            raise SpecError(
                "'max' cannot be resolved: the server does not tell its context window",
                where=self.cell.key,
                cure="give settings.max_model_len, or a number of tokens",
            )
        return longest

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
        seed = f"{work.seed}/{tokens}/{workload.output_tokens}/{trial}"
        prompt = await self.sender.build(workload.prompt_as, corpus, tokens, seed, workload.needles)
        record = await self.sender.send(
            Request(
                purpose="trial",
                cell=self.cell.key,
                trial=trial,
                prompt=prompt,
                corpus=corpus,
                output_tokens=workload.output_tokens,
                form=workload.prompt_as,
                cold=workload.cold,
            )
        )
        work.done.add((self.cell.key, trial))
        work.watcher.trial_ended(
            self.cell.key, trial, summarise(record.exchange), self._remaining_s()
        )
        return record

    async def _fail(self, failure: Failure, tokens: int) -> bool:
        output_tokens = self.cell.workload.output_tokens
        evidence = await gather_evidence(self.sender.served, failure, tokens, output_tokens)
        self.work.settled.add(self.cell.key)
        self.work.fail(explain(evidence).model_copy(update=self._place()))
        unsettled = evidence.exit_status or failure.kind in _UNSETTLING
        return self.sender.served.target is None or not unsettled

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
            self.work.fail(explain(evidence).model_copy(update=self._place()))

    def _note_failed(self) -> None:
        """For a cell that fails without a record of its own."""
        self.work.journal.event("cell_failed", cell=self.cell.key, attempt=self.sender.attempt)

    def _cannot_build(self, error: SpecError) -> None:
        self.work.settled.add(self.cell.key)
        self._note_failed()
        self.work.fail(
            describe_error(error, "PROMPT001", "prompt").model_copy(update=self._place())
        )

    def _place(self) -> dict[str, str | int]:
        return {
            "deployment": self.sender.deployment,
            "cell": self.cell.key,
            "attempt": self.sender.attempt,
        }

    def _remaining_s(self) -> float | None:
        """Predicted time for all trials that this deployment still owes."""
        total = 0.0
        for cell in self.siblings:
            seconds = self._trial_s(cell)
            if seconds is None:
                return None
            total += seconds * len(self.work.owed_trials(cell))
        return total

    def _trial_s(self, cell: Cell) -> float | None:
        model = self.work.model(self.sender.deployment)
        output_tokens = cell.workload.output_tokens
        asked = cell.workload.input_tokens
        longest = self.sender.served.max_input_tokens(output_tokens)
        tokens = longest if asked == "max" else asked
        prediction = model.predict(tokens) if tokens else None
        return prediction.expected + model.predict_decode_s(output_tokens) if prediction else None
