"""The plan of every cell before anything is started, and probes from earlier runs to sharpen it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leadline.engines.llamacpp import model_file, read_settings
from leadline.errors import PlanError
from leadline.journal import Run
from leadline.metrics.measures import measure
from leadline.plan.deployment import plan_deployment
from leadline.plan.local_memory import LocalPlan, plan_llamacpp
from leadline.plan.schema import Plan
from leadline.spec import Campaign, Cell, Deployment, ProcessTarget

Probes = tuple[tuple[int, float], ...]
"""(prompt tokens, seconds to the first token) of cold prompts."""

_LOCAL_ENGINE = "llamacpp"


@dataclass(frozen=True)
class CellPlan:
    cell: Cell
    plan: Plan | LocalPlan

    @property
    def device_hours(self) -> float:
        """Expected busy device hours of all repeats; 0 where time is not planned."""
        time = self.plan.time if isinstance(self.plan, Plan) else None
        return time.gpu_hours * self.cell.workload.repeats if time else 0.0


def plan_cells(campaign: Campaign, probes: Probes = ()) -> Iterator[CellPlan]:
    """One plan a cell. ``PlanError`` names the cell whose facts are missing."""
    for cell in campaign.cells():
        yield CellPlan(cell, _plan_cell(campaign, cell, probes))


def plan_local(deployment: Deployment) -> LocalPlan:
    """What the file of a local model says of its memory, before it is started."""
    if isinstance(deployment.target, ProcessTarget) and deployment.engine_name == _LOCAL_ENGINE:
        path = Path(model_file(deployment.model or "")).expanduser()
        return plan_llamacpp(path, read_settings(deployment.settings))
    return LocalPlan(verdict="unknown", reason="a server that somebody else runs is not planned")


def read_probes(run: Run, deployment: str | None = None) -> Probes:
    """Cold, answered trials of an earlier run, as (tokens, TTFT)."""
    found = []
    for record in run.records():
        ttft_s = measure(record.exchange).ttft_s
        mine = deployment in (None, record.deployment)
        if mine and record.purpose == "trial" and record.exchange.failure is None and ttft_s:
            found.append((record.sent.input_tokens, ttft_s))
    return tuple(found)


def _plan_cell(campaign: Campaign, cell: Cell, probes: Probes) -> Plan | LocalPlan:
    deployment = cell.settings
    if deployment.engine is None or deployment.engine_name == _LOCAL_ENGINE:
        return plan_local(deployment)
    if campaign.hardware is None:
        raise PlanError(
            "the campaign names no hardware",
            where=cell.key,
            cure="add hardware: 8xH200 (or what you have) to the campaign",
        )
    try:
        return plan_deployment(
            deployment.model or "",
            campaign.hardware,
            deployment.engine,
            settings=deployment.settings,
            env=deployment.env,
            input_tokens=cell.workload.input_tokens,
            output_tokens=cell.workload.output_tokens,
            probes=probes,
        )
    except PlanError as error:
        raise PlanError(error.what, where=f"{cell.key}: {error.where}", cure=error.cure) from error
