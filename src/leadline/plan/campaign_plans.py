"""Every cell of a campaign file, planned: what would fit, how long each takes, what all cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from leadline.errors import PlanError
from leadline.plan.architecture import load_model
from leadline.plan.deployment import plan_deployment
from leadline.plan.hardware import parse_hardware
from leadline.plan.local_memory import LocalPlan
from leadline.plan.schema import Plan
from leadline.spec import Campaign, Cell, Deployment

Probes = Sequence[tuple[int, float]]
"""(prompt tokens, seconds to the first token) of cold prompts on such a deployment."""

PlanLocal = Callable[[Deployment], LocalPlan | None]
"""Plans what runs on this machine; ``None`` for any other deployment."""


_RISK = "risk_"
"""Codes of what may go wrong, and is tried."""


class Refusal(NamedTuple):
    """Why the plan says that a cell cannot work."""

    cause: str
    reason: str
    cure: str


@dataclass(frozen=True)
class CellPlan:
    """``plan`` is None where a cell cannot be planned; ``reason`` then says why."""

    cell: Cell
    plan: Plan | LocalPlan | None
    reason: str = ""

    @property
    def is_feasible(self) -> bool:
        if isinstance(self.plan, LocalPlan):
            return self.plan.verdict == "fits"
        return self.plan is not None and self.plan.binding is None

    @property
    def refusal(self) -> Refusal | None:
        """Only what is known not to work; a risk is tried, and so is a server that runs."""
        if self.cell.settings.target.kind == "endpoint":
            return None
        if isinstance(self.plan, LocalPlan):
            found = Refusal("oom", self.plan.reason, self.plan.remedy)
            return found if self.plan.verdict == "infeasible" else None
        binding = self.plan.binding if self.plan else None
        if binding is None or binding.code.startswith(_RISK):
            return None
        return Refusal(binding.code, binding.reason, binding.cure)

    @property
    def risk(self) -> str:
        """What may go wrong, in words; empty if nothing is known."""
        binding = self.plan.binding if isinstance(self.plan, Plan) else None
        risky = binding is not None and binding.code.startswith(_RISK)
        return f"{binding.reason}; {binding.cure}" if binding and risky else ""

    @property
    def devices(self) -> int | None:
        """That the deployment takes; ``None`` where nobody knows, or they are somebody else's."""
        given: int | None = getattr(self.cell.settings.target, "devices", None)
        if given is not None:
            return given
        if isinstance(self.plan, LocalPlan):
            return 0  # llama.cpp, planned for the CPU
        return self.plan.gpus if self.plan else None

    @property
    def gpu_hours(self) -> float:
        """Device hours of the cell's repeats, one after the other; 0 where unknown.

        Of a load with prompts of one length: those of its prefills alone, since answers overlap.
        """
        if not isinstance(self.plan, Plan) or self.plan.time is None:
            return 0.0
        workload, time = self.cell.workload, self.plan.time
        if workload.load is None:
            return time.gpu_hours * workload.repeats
        if isinstance(workload.input_tokens, int | str) and not workload.load.trace:
            alone = time.gpu_hours * time.prefill_s.expected / time.request_s
            return alone * workload.load.count
        return 0.0


def plan_campaign(
    campaign: Campaign, *, probes: Probes = (), plan_local: PlanLocal = lambda _: None
) -> tuple[CellPlan, ...]:
    """One entry for each cell, in the campaign's order; what cannot be planned says why."""
    return tuple(
        CellPlan(cell, local)
        if (local := plan_local(cell.settings))
        else _plan(campaign, cell, probes)
        for cell in campaign.cells()
    )


def plan_cell(campaign: Campaign, cell: Cell, probes: Probes = ()) -> Plan:
    """The plan of one cell. Raises ``PlanError`` where a fact is missing."""
    deployment, workload = cell.settings, cell.workload
    model = deployment.model or campaign.model
    missing = {
        "model": not model,
        "hardware": not campaign.hardware,
        "engine": not deployment.engine,
    }
    if lacking := [name for name, lacks in missing.items() if lacks]:
        raise PlanError(
            f"cell {cell.key} has no {' and no '.join(lacking)}",
            where=campaign.name,
            cure="a plan needs the model, the hardware (8xH200) and the engine with its version",
        )
    return plan_deployment(
        load_model(str(model)),
        parse_hardware(str(campaign.hardware)),
        str(deployment.engine),
        settings=deployment.settings,
        env=deployment.env,
        input_tokens=workload.longest_input,
        output_tokens=workload.longest_output,
        probes=probes,
    )


def plan_longest(campaign: Campaign, entry: CellPlan) -> CellPlan:
    """The same cell with the longest prompt that its deployment takes."""
    workload = entry.cell.workload.model_copy(update={"input_tokens": "max"})
    cell = entry.cell.model_copy(update={"workload": workload})
    if isinstance(entry.plan, Plan):
        return _plan(campaign, cell, ())
    return CellPlan(cell, entry.plan, entry.reason)


def sum_gpu_hours(plans: Sequence[CellPlan]) -> float:
    """Device hours of all feasible cells; a lower bound, for starts are not counted."""
    return sum(entry.gpu_hours for entry in plans if entry.is_feasible)


def _plan(campaign: Campaign, cell: Cell, probes: Probes) -> CellPlan:
    try:
        return CellPlan(cell, plan_cell(campaign, cell, probes))
    except PlanError as missing:
        return CellPlan(cell, None, missing.what)
