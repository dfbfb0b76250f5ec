"""``run_campaign``: check, open or resume the run directory, then one deployment after another."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from leadline.campaign.budget import BudgetReachedError, Meter
from leadline.campaign.deployment import DeploymentRun
from leadline.campaign.environment import describe_environment, describe_file
from leadline.campaign.forecast import Forecast
from leadline.campaign.interleaved import take_turns
from leadline.campaign.offline import OfflineRun
from leadline.campaign.platforms import distinct_platforms, open_services
from leadline.campaign.recall import finish_findings
from leadline.campaign.search import run_searches
from leadline.campaign.watch import Watcher
from leadline.campaign.work import Work
from leadline.deploy.leftovers import end_leftovers
from leadline.engines.llamacpp import model_file
from leadline.errors import DeployError
from leadline.journal import Journal, Redactor, Run, create_run
from leadline.load.server import open_session
from leadline.plan.campaign_plans import CellPlan
from leadline.plan.estimate import describe_estimate
from leadline.plan.local_memory import PLAN_SCHEMA, LocalPlan
from leadline.prompts.needles import answer_tokens
from leadline.spec import (
    Cell,
    ContainerTarget,
    Deployment,
    OfflineTarget,
    ProcessTarget,
)
from leadline.verdict.spent import read_spent


async def run_campaign(
    forecast: Forecast, campaign_text: str, watcher: Watcher, redact: Redactor
) -> Path:
    """Run or resume the campaign that was forecast; returns the run directory.

    A cell that fails is a result. Raises ``LeadlineError`` only for what concerns all of them: a
    run directory that cannot be written, or that another process writes.
    """
    campaign = forecast.campaign
    path = forecast.resumed.path if forecast.resumed else _create(forecast, campaign_text, redact)
    journal = Journal(path, redact)
    try:
        async with open_session() as session:
            work = Work(
                campaign=campaign,
                options=forecast.options,
                journal=journal,
                watcher=watcher,
                session=session,
                corpora=forecast.checked.corpora,
                containers=forecast.checked.containers,
                seed=int(Run(path).facts["seed"]),
                owner=name_owner(Run(path).facts),
                meter=Meter(campaign.budget, read_spent(Run(path)), forecast.devices),
                chosen=forecast.chosen if forecast.options.only else None,
            )
            work.recall(Run(path), try_infeasible=work.options.try_infeasible)
            _begin(work, forecast)
            await _remove_leftovers(work, Run(path))
            finish_findings(work, Run(path))
            try:
                whole = await (run_searches(work) if campaign.search else _run_cells(work))
            except BudgetReachedError as reached:
                work.stop(reached)
                whole = False
            if whole:
                journal.event("run_finished")
    finally:
        journal.close()
    return path


async def _run_cells(work: Work) -> bool:
    """Whether nothing is owed any more."""
    starts = work.campaign.starts().items()
    runs = [_stage(cells)(work, key, cells) for key, cells in starts]
    if work.campaign.order == "interleaved":
        await take_turns([run for run in runs if not isinstance(run, OfflineRun)])
    for run in runs:
        await run.run()
    return all(run.is_complete for run in runs)


def name_owner(facts: dict[str, Any]) -> str:
    """Two runs of one machine may have the same id, in different folders; never the same owner."""
    digest = hashlib.sha256(f"{facts['started']} {facts['digest']} {facts['seed']}".encode())
    return f"{facts['id']}-{digest.hexdigest()[:6]}"


async def _remove_leftovers(work: Work, run: Run) -> None:
    """What a killed Leadline left running of this very run."""
    if not work.attempts:
        return
    segments = [name for event in run.events() for name in event.get("shared_memory", ())]
    for name in await asyncio.to_thread(end_leftovers, work.owner, segments):
        work.journal.event("leftover_removed", process=name)
    for target in distinct_platforms(work.containers.values()):
        with suppress(DeployError):  # none answers: each deployment will say so
            services = open_services(target, work.journal.redact)
            for name in await services.remove_owned(work.owner):
                work.journal.event("leftover_removed", container=name)


def _create(forecast: Forecast, text: str, redact: Redactor) -> Path:
    campaign = forecast.campaign
    seed = secrets.randbits(32) if campaign.seed is None else campaign.seed
    facts = {"campaign": campaign.name, "digest": campaign.digest(), "seed": seed}
    return create_run(forecast.options.runs_root, campaign.name, facts, text, redact)


def _begin(work: Work, forecast: Forecast) -> None:
    resumed = forecast.resumed is not None
    deployments = {cell.deployment: cell.settings for cell in work.campaign.cells()}
    budget = work.campaign.budget.model_dump(exclude_none=True, exclude_defaults=True)
    foretold = describe_estimate(forecast.estimate, work.campaign.budget)
    facts: dict[str, Any] = {"budget": budget, "estimate": foretold}
    if work.options.only:
        facts["chosen"] = sorted(forecast.chosen)
    work.journal.event("run_resumed" if resumed else "run_started", **facts)
    if not (work.journal.path / "environment.json").exists():
        work.journal.write("environment.json", _environment(work, deployments))
    _heed_plans(work, forecast.plans)
    _warn_of_short_answers(work)
    plans = {key: plan.model_dump() for key, plan in work.plans.items()}
    work.journal.write("plan.json", {"schema": PLAN_SCHEMA, "deployments": plans})
    cells = work.campaign.cells()
    owed = None if work.campaign.search else sum(len(work.owed_trials(cell)) for cell in cells)
    work.watcher.run_started(work.campaign.name, str(work.journal.path), owed, resumed)


def _heed_plans(work: Work, plans: dict[str, CellPlan]) -> None:
    for key, entry in plans.items():
        if isinstance(entry.plan, LocalPlan):
            work.plans[entry.cell.deployment] = entry.plan
        if entry.refusal and not (work.options.try_infeasible or work.campaign.search):
            work.refusals[key] = entry.refusal
        if entry.risk:
            work.warn(entry.cell.deployment, f"{key}: {entry.risk}")


def _warn_of_short_answers(work: Work) -> None:
    for cell in work.campaign.cells():
        needles, room = cell.workload.needles, cell.workload.longest_output
        if needles and not cell.is_load and room < (needed := answer_tokens(needles)):
            text = (
                f"{cell.key}: {room} output tokens may end a chatty answer before its passkey; "
                f"recall is only fair with {needed} or more"
            )
            work.warn(cell.deployment, text)


def _environment(work: Work, deployments: dict[str, Deployment]) -> dict[str, Any]:
    models = {
        key: describe_file(Path(model_file(item.model or "")).expanduser())
        for key, item in deployments.items()
        if isinstance(item.target, ProcessTarget | ContainerTarget)
    }
    corpora = {
        name if isinstance(name, str) else " + ".join(name): {
            "sha256": corpus.sha256,
            "source": corpus.source,
            "licence": corpus.licence,
            "chars": len(corpus.text),
        }
        for name, corpus in work.corpora.items()
    }
    return {**describe_environment(), "models": models, "corpora": corpora}


def _stage(cells: list[Cell]) -> type[DeploymentRun]:
    return OfflineRun if isinstance(cells[0].settings.target, OfflineTarget) else DeploymentRun
