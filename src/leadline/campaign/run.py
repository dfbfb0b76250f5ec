"""``run_campaign``: check, open or resume the run directory, then one deployment after another."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from leadline.campaign.deployment import DeploymentRun
from leadline.campaign.draw import require_load
from leadline.campaign.environment import describe_environment, describe_file
from leadline.campaign.planning import plan_local
from leadline.campaign.serving import plan_launch, require_endpoint
from leadline.campaign.watch import Watcher
from leadline.campaign.work import RunOptions, Work
from leadline.engines.llamacpp import model_file
from leadline.journal import Journal, Redactor, Run, create_run, find_unfinished
from leadline.load.server import open_session
from leadline.plan.local_memory import PLAN_SCHEMA
from leadline.prompts.corpus import Corpus, load_corpus
from leadline.prompts.needles import answer_tokens
from leadline.spec import Campaign, Cell, Deployment, EndpointTarget, ProcessTarget


async def run_campaign(
    campaign: Campaign, campaign_text: str, options: RunOptions, watcher: Watcher, redact: Redactor
) -> Path:
    """Run or resume a campaign; returns the run directory.

    A cell that fails is a result. Raises ``LeadlineError`` only for what concerns all of them:
    a spec that cannot be meant, a missing corpus, a run directory that cannot be written.
    """
    corpora = _check(campaign)
    path, resumed = _open_run(campaign, campaign_text, options, redact)
    journal = Journal(path, redact)
    try:
        async with open_session() as session:
            seed = int(Run(path).facts["seed"])
            work = Work(campaign, options, journal, watcher, session, corpora, seed)
            work.recall(Run(path))
            _begin(work, resumed=resumed)
            for key, cells in _by_deployment(campaign).items():
                await DeploymentRun(work, key, cells).run()
        journal.event("run_finished")
    finally:
        journal.close()
    return path


def _check(campaign: Campaign) -> dict[str | tuple[str, ...], Corpus]:
    """Everything that can be known to be wrong before time is spent."""
    for deployment in {cell.deployment: cell.settings for cell in campaign.cells()}.values():
        if isinstance(deployment.target, EndpointTarget):
            require_endpoint(deployment, deployment.target)
        else:
            plan_launch(deployment, port=1)
    for cell in campaign.cells():
        require_load(cell)
    references = {cell.workload.corpus for cell in campaign.cells()} | {campaign.workload.corpus}
    return {reference: load_corpus(reference) for reference in references}


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
    owed = sum(len(work.owed_trials(cell)) for cell in work.campaign.cells())
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
        if isinstance(item.target, ProcessTarget)
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


def _by_deployment(campaign: Campaign) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in campaign.cells():
        groups.setdefault(cell.deployment, []).append(cell)
    return groups
