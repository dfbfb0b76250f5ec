"""What this machine and earlier runs add to a plan: local models, measured prefills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from leadline.engines.engine import load_engine
from leadline.engines.llamacpp import model_file, read_settings
from leadline.errors import SpecError
from leadline.journal import Run
from leadline.metrics.measures import measure
from leadline.plan.campaign_plans import CellPlan, plan_campaign
from leadline.plan.local_memory import LocalPlan, plan_llamacpp
from leadline.prove.structural import prove_cold
from leadline.spec import Budget, Campaign, Cell, Deployment, DockerTarget, ProcessTarget

_LOCAL_ENGINE = "llamacpp"


def plan_local(deployment: Deployment) -> LocalPlan | None:
    """What the file of a local model says of its memory; ``None`` for any other deployment."""
    if (
        isinstance(deployment.target, ProcessTarget | DockerTarget)
        and deployment.engine_name == _LOCAL_ENGINE
    ):
        path = Path(model_file(deployment.model or "")).expanduser()
        return plan_llamacpp(path, read_settings(deployment.settings))
    return None


def plan_cells(campaign: Campaign) -> dict[str, CellPlan]:
    """What can be said of every cell before it runs, by its key."""
    known: dict[str, LocalPlan | None] = {}

    def plan_once(deployment: Deployment) -> LocalPlan | None:
        """A model file of gigabytes is not read for each of its cells."""
        key = deployment.model_dump_json()
        if key not in known:
            known[key] = plan_local(deployment)
        return known[key]

    plans = plan_campaign(campaign, plan_local=plan_once)
    return {entry.cell.key: entry for entry in plans}


def count_devices(plans: Iterable[CellPlan]) -> dict[str, int | None]:
    """Devices of each deployment variant."""
    counts: dict[str, int | None] = {}
    for entry in plans:
        counts[entry.cell.deployment] = entry.devices or counts.get(
            entry.cell.deployment, entry.devices
        )
    return counts


def require_countable(
    budget: Budget, cells: Iterable[Cell], devices: Mapping[str, int | None]
) -> None:
    """A cap on what nobody can count would be no cap. Somebody else's server counts as nothing."""
    if budget.device_hours is None and (budget.usd is None or budget.usd_per_device_hour is None):
        return
    for cell in cells:
        if devices.get(cell.deployment) is None and cell.settings.target.kind != "endpoint":
            raise SpecError(
                f"nobody knows how many devices {cell.deployment} takes, so its device hours "
                "cannot be counted",
                where="budget",
                cure="give the campaign's hardware (8xH200) and the engine's version, or limit the "
                "time alone",
            )


def read_probes(run: Run, deployment: str = "") -> tuple[tuple[int, float], ...]:
    """Cold answered trials of one deployment of a run, as (prompt tokens, TTFT in seconds).

    The run's only deployment where none is named. A trial that a cache helped tells nothing.
    """
    trials = [r for r in run.records() if r.purpose == "trial" and r.exchange.failure is None]
    chosen = _choose_deployment({record.deployment for record in trials}, deployment, run)
    engines = {
        event["deployment"]: event["engine"]
        for event in run.events()
        if event.get("event") == "deployment_ready"
    }
    engine = load_engine(engines.get(chosen, "openai"))
    return tuple(
        (record.sent.input_tokens, ttft_s)
        for record in trials
        if record.deployment == chosen and prove_cold(record, engine).outcome != "fail"
        if (ttft_s := measure(record.exchange).ttft_s)
    )


def _choose_deployment(names: set[str], asked: str, run: Run) -> str:
    if asked in names:
        return asked
    if asked or len(names) > 1:
        raise SpecError(
            f"the run holds trials of {', '.join(sorted(names)) or 'nothing'}",
            where=str(run.path),
            cure="name one of its deployments: --calibrate RUN:DEPLOYMENT",
        )
    return next(iter(names), "")
