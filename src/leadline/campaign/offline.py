"""A deployment without a server: a script loads the model, and generates once for each trial."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from leadline.campaign.deployment import DeploymentRun
from leadline.campaign.words import read_log, understand
from leadline.deploy.script import ScriptTarget, scripted
from leadline.deploy.target import StartError
from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.engines.installed import find_python
from leadline.errors import SpecError
from leadline.journal import utc_now
from leadline.launch import Launch
from leadline.records import Clock, Event, Exchange, Failure, FailureKind, Record, Sent
from leadline.render.scripts import vllm_release, write_load
from leadline.spec import Cell, Deployment, OfflineTarget
from leadline.units import parse_tokens, show_seconds

_ROW_S = 3600.0
_NS = 10**9


class _Row(NamedTuple):
    cell: Cell
    trial: int
    tokens: int

    @property
    def output_tokens(self) -> int:
        return self.cell.workload.longest_output


class OfflineRun(DeploymentRun):
    """Like any deployment: what it owes is done on as many starts as failures make necessary."""

    async def _attempt(self) -> None:
        self.work.require(self.key, *self._first_lengths(), starting=True)
        self.attempt += 1
        log = self.work.journal.log_path(self.key, self.attempt)
        rows = list(self._rows())
        launch = await asyncio.to_thread(self._write, rows, log.parent)
        target = ScriptTarget(self.work.journal.redact, self.work.owner)
        async with self._counted(), scripted(target, launch, log, self._show) as script:
            await self._wait_loaded(script, log)
            for row in rows:
                self.work.meter.require()
                if not await self._take(script, row):
                    break

    def limits_missing(self) -> bool:
        return False  # an engine in our own process refuses by an exception, not by a status

    def _rows(self) -> Iterator[_Row]:
        for cell in self._owed():
            asked = cell.workload.longest_input
            window = parse_tokens(str(self.deployment.settings.get("max_model_len", 0)))
            tokens = window - cell.workload.longest_output if asked == "max" else asked
            for trial in self.work.owed_trials(cell):
                yield _Row(cell, trial, tokens)

    def _write(self, rows: list[_Row], folder: Path) -> Launch:
        """The script and the text that its prompts are cut from, beside their log."""
        target = self.deployment.target
        assert isinstance(target, OfflineTarget)  # noqa: S101
        corpus = self.work.corpora[rows[0].cell.workload.corpus]
        text = folder / "corpus.txt"
        text.write_text(corpus.text, encoding="utf-8")
        launch = plan_script(self.deployment, target, folder / "load.py", write=True)
        ladder = [f"{row.tokens}+{row.output_tokens}" for row in rows]
        return Launch(
            argv=(*launch.argv, "--text", str(text), "--ladder", *ladder),
            port=0,
            served_model=launch.served_model,
            env=launch.env,
            phases=launch.phases,
        )

    def _show(self, phase: str) -> None:
        self.work.watcher.phase(self.key, phase)

    async def _wait_loaded(self, script: ScriptTarget, log: Path) -> None:
        told = await script.next_fact(self.work.campaign.timeouts.limit_start())
        if told["status"] != "ok":
            raise script.failed(str(told.get("error")))
        engine = load_engine(self.deployment.engine_name or "")
        facts = {"deployment": self.key, "attempt": self.attempt}
        self.work.journal.event(
            "deployment_ready",
            **facts,
            engine=engine.name,
            model=self.deployment.model,
            window_tokens=parse_tokens(str(self.deployment.settings.get("max_model_len", 0))),
            start_s=told["seconds"],
        )
        lines = await asyncio.to_thread(read_log, log)
        words = understand(engine, lines, {}, self.deployment, self.work.campaign.hardware)
        said = words.model_dump(mode="json", round_trip=True)
        self.work.journal.event("engine_words", **facts, **said)

    async def _take(self, script: ScriptTarget, row: _Row) -> bool:
        """Journal one row as it comes; ``False`` when the script must be started afresh."""
        work, workload = self.work, row.cell.workload
        if row.cell.key in work.settled:
            await script.next_fact(_ROW_S)  # it climbs on after a failure: its own rows first
            return True
        work.watcher.trial_started(row.cell.key, row.trial, workload.repeats, row.tokens, None)
        begun = utc_now()
        try:
            told = await script.next_fact(work.campaign.timeouts.first_token_s or _ROW_S)
        except StartError as error:
            kind: FailureKind = "timeout" if error.cause == "timeout" else "disconnected"
            self._record(row, begun, {}, Failure(kind=kind, message=error.what), script)
            return False
        failed = told["status"] == "failed"
        failure = Failure(kind="aborted", message=str(told["error"])) if failed else None
        self._record(row, begun, told, failure, script)
        return True

    def _record(
        self,
        row: _Row,
        begun: str,
        told: dict[str, Any],
        failure: Failure | None,
        script: ScriptTarget,
    ) -> None:
        work = self.work
        workload = row.cell.workload
        answer = _worst(told, row) if failure is None else 0
        exchange = _exchange(told, answer, begun, failure)
        record = Record(
            cell=row.cell.key,
            deployment=self.key,
            trial=row.trial,
            attempt=self.attempt,
            purpose="trial",
            sent=Sent(
                input_tokens=row.tokens,
                output_tokens=row.output_tokens,
                ids_sha256=told["ids_sha256"][answer] if failure is None else "",
                corpus_sha256=work.corpora[workload.corpus].sha256,
                corpus_start=0,
            ),
            exchange=exchange,
        )
        work.journal.record(record)
        work.done.add((row.cell.key, row.trial))
        seconds = show_seconds(told["seconds"]) if failure is None else "failed"
        work.watcher.trial_ended(row.cell.key, row.trial, seconds, None)
        if failure:
            self._explain(row, failure, script)

    def _explain(self, row: _Row, failure: Failure, script: ScriptTarget) -> None:
        self.work.settled.add(row.cell.key)
        evidence = Evidence(
            exit_status=script.exit_status(),
            log=script.log_tail(),
            failure=failure,
            input_tokens=row.tokens,
            output_tokens=row.output_tokens,
        )
        place = {"deployment": self.key, "cell": row.cell.key, "attempt": self.attempt}
        self.work.fail(explain(evidence).model_copy(update=place))


def require_offline(cell: Cell) -> None:
    """``SpecError`` for what only a server can be asked."""
    if not isinstance(cell.settings.target, OfflineTarget):
        return
    workload = cell.workload
    needless = {
        "load": workload.load is not None,
        "prompt_as": workload.prompt_as != "ids",
        "needles": workload.needles > 0,
    }
    if wrong := [name for name, is_set in needless.items() if is_set]:
        raise SpecError(
            f"an offline deployment cannot do {wrong[0]}",
            where=f"workload.{wrong[0]}",
            cure="write needles: 0, prompt_as: ids and no load, or serve it: target: process",
        )
    if workload.longest_input == "max" and "max_model_len" not in cell.settings.settings:
        raise SpecError(
            "'max' cannot be resolved without a window",
            where=cell.key,
            cure="give settings.max_model_len, or a number of tokens",
        )


def plan_script(
    deployment: Deployment, target: OfflineTarget, script: Path, *, write: bool = False
) -> Launch:
    """What runs the script. ``LeadlineError`` if there is no such engine here, with the cure."""
    pin = deployment.engine or ""
    name, _, version = pin.partition("==")
    engine = load_engine(name)
    model, settings = deployment.model or "", deployment.settings
    batch = target.batch or int(str(settings.get("max_num_seqs") or 1))
    header = f"{model} on {pin}, loaded by `leadline run`."
    text = write_load(
        engine.name, model, settings, deployment.env,
        header=header, release=vllm_release(name, version), ladder=(), batch=batch, output_tokens=1,
    )  # fmt: skip
    if write:
        script.write_text(text, encoding="utf-8")
    assert engine.launch  # noqa: S101  (write_load needs it too)
    served = engine.launch(LaunchRequest(model, 1, settings, deployment.env))
    python = target.executable or find_python(pin)
    return Launch((python, str(script)), 0, served.served_model, served.env, phases=served.phases)


def _worst(told: dict[str, Any], row: _Row) -> int:
    """Of a batch: an answer that is not as asked, if there is one."""
    counts = zip(told["counted_tokens"], told["output_tokens"], strict=True)
    cached = [each or 0 for each in told["cached_tokens"]]
    wrong = [n for n, found in enumerate(counts) if found != (row.tokens, row.output_tokens)]
    return next(iter(wrong), cached.index(max(cached)))


def _exchange(told: dict[str, Any], answer: int, begun: str, failure: Failure | None) -> Exchange:
    if failure:
        return Exchange(clock=Clock(wall_start=begun, start_ns=0, end_ns=0), failure=failure)
    end_ns = int(told["seconds"] * _NS)
    cached = told["cached_tokens"][answer]
    usage = {
        "prompt_tokens": told["counted_tokens"][answer],
        "completion_tokens": told["output_tokens"][answer],
        "prompt_tokens_details": None if cached is None else {"cached_tokens": cached},
    }
    return Exchange(
        clock=Clock(wall_start=begun, start_ns=0, end_ns=end_ns),
        events=(Event(end_ns, told["texts"][answer], told["output_tokens"][answer]),),
        finish_reason=told["finish_reasons"][answer],
        usage=usage,
        server={"batch": told["batch"]},
        streamed=False,
        terminated=True,
    )
