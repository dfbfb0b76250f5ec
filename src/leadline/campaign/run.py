"""``run_campaign``: check, open or resume the run directory, then one deployment after another."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from leadline.campaign.containers import Contained, contain
from leadline.campaign.deployment import DeploymentRun
from leadline.campaign.draw import require_load
from leadline.campaign.environment import describe_environment, describe_file
from leadline.campaign.interleaved import take_turns
from leadline.campaign.offline import OfflineRun, plan_script, require_offline
from leadline.campaign.planning import plan_local
from leadline.campaign.platforms import distinct_platforms, open_services
from leadline.campaign.search import run_searches
from leadline.campaign.serving import plan_launch, require_endpoint
from leadline.campaign.watch import Watcher
from leadline.campaign.work import RunOptions, Work
from leadline.engines.llamacpp import model_file
from leadline.errors import DeployError
from leadline.journal import Journal, Redactor, Run, create_run, find_unfinished
from leadline.load.server import open_session
from leadline.plan.local_memory import PLAN_SCHEMA
from leadline.prompts.corpus import Corpus, load_corpus
from leadline.prompts.needles import answer_tokens
from leadline.spec import (
    Campaign,
    Cell,
    ContainerTarget,
    Deployment,
    EndpointTarget,
    OfflineTarget,
    ProcessTarget,
)


async def run_campaign(
    campaign: Campaign, campaign_text: str, options: RunOptions, watcher: Watcher, redact: Redactor
) -> Path:
    """Run or resume a campaign; returns the run directory.

    A cell that fails is a result. Raises ``LeadlineError`` only for what concerns all of them:
    a spec that cannot be meant, a missing corpus, a run directory that cannot be written.
    """
    corpora, containers = _check(campaign)
    path, resumed = _open_run(campaign, campaign_text, options, redact)
    journal = Journal(path, redact)
    try:
        async with open_session() as session:
            seed = int(Run(path).facts["seed"])
            work = Work(campaign, options, journal, watcher, session, corpora, seed)
            work.containers, work.owner = containers, name_owner(Run(path).facts)
            work.recall(Run(path))
            await _remove_leftovers(work)
            _begin(work, resumed=resumed)
            await (run_searches(work) if campaign.search else _run_cells(work))
        journal.event("run_finished")
    finally:
        journal.close()
    return path


async def _run_cells(work: Work) -> None:
    starts = work.campaign.starts().items()
    runs = [_stage(cells)(work, key, cells) for key, cells in starts]
    if work.campaign.order == "interleaved":
        await take_turns([run for run in runs if not isinstance(run, OfflineRun)])
    for run in runs:
        await run.run()


Corpora = dict[str | tuple[str, ...], Corpus]


def _check(campaign: Campaign) -> tuple[Corpora, dict[str, Contained]]:
    """Everything that can be known to be wrong before time is spent."""
    containers = {}
    for key, cells in campaign.starts().items():
        deployment = cells[0].settings
        if isinstance(deployment.target, EndpointTarget):
            require_endpoint(deployment, deployment.target)
        elif isinstance(deployment.target, OfflineTarget):
            plan_script(deployment, deployment.target, Path("load.py"))
        elif isinstance(deployment.target, ContainerTarget):
            containers[key] = contain(campaign, key, cells)
        else:
            plan_launch(deployment, port=1)
    for cell in campaign.cells():
        require_load(cell)
        require_offline(cell)
    references = {cell.workload.corpus for cell in campaign.cells()} | {campaign.workload.corpus}
    return {reference: load_corpus(reference) for reference in references}, containers


def name_owner(facts: dict[str, Any]) -> str:
    """Two runs of one machine may have the same id, in different folders; never the same owner."""
    digest = hashlib.sha256(f"{facts['started']} {facts['digest']} {facts['seed']}".encode())
    return f"{facts['id']}-{digest.hexdigest()[:6]}"


async def _remove_leftovers(work: Work) -> None:
    """What a killed Leadline left running of this very run."""
    platforms = distinct_platforms(work.containers.values()) if work.attempts else []
    for target in platforms:
        with suppress(DeployError):  # none answers: each deployment will say so
            services = open_services(target, work.journal.redact)
            for name in await services.remove_owned(work.owner):
                work.journal.event("leftover_removed", container=name)


def _open_run(
    campaign: Campaign, text: str, options: RunOptions, redact: Redactor
) -> tuple[Path, bool]:
    digest = campaign.digest()
    unfinished = find_unfinished(options.runs_root, campaign.name, digest)
    if unfinished and not options.fresh:
        return unfinished.path, True
    seed = secrets.randbits(32) if campaign.seed is None else campaign.seed
    facts = {"campaign": campaign.name, "digest": digest, "seed": seed}
    return create_run(options.runs_root, campaign.name, facts, text, redact), False


def _begin(work: Work, *, resumed: bool) -> None:
    deployments = {cell.deployment: cell.settings for cell in work.campaign.cells()}
    work.journal.event("run_resumed" if resumed else "run_started")
    if not resumed:
        work.journal.write("environment.json", _environment(work, deployments))
    work.plans = {key: plan for key, item in deployments.items() if (plan := plan_local(item))}
    if not resumed:
        _warn_of_short_answers(work)
    plans = {key: plan.model_dump() for key, plan in work.plans.items()}
    work.journal.write("plan.json", {"schema": PLAN_SCHEMA, "deployments": plans})
    cells = work.campaign.cells()
    owed = None if work.campaign.search else sum(len(work.owed_trials(cell)) for cell in cells)
    work.watcher.run_started(work.campaign.name, str(work.journal.path), owed, resumed)


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
