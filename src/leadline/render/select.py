"""Which deployments of a campaign are rendered, each planned at its longest prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leadline.errors import SpecError
from leadline.plan.campaign_plans import Refusal, plan_cell
from leadline.plan.hardware import parse_hardware
from leadline.render.service import Service, describe_service
from leadline.spec import Campaign, Cell

Refused = dict[str, str]
"""Deployment to the plan's reason."""


def describe_services(
    campaign: Campaign, names: Sequence[str], *, try_infeasible: bool
) -> tuple[list[Service], Refused]:
    """A service for each deployment variant; those that the plan rules out apart.

    Raises ``SpecError`` for a name that is not there, ``PlanError`` where a plan lacks a fact.
    """
    services: list[Service] = []
    refused: Refused = {}
    for key, cells in _variants(campaign, names):
        service, refusal = describe_variant(campaign, key, cells)
        if refusal and not try_infeasible:
            refused[key] = f"{refusal.reason}; {refusal.cure}"
            continue
        services.append(service)
    return services, refused


def describe_variant(
    campaign: Campaign, key: str, cells: Sequence[Cell]
) -> tuple[Service, Refusal | None]:
    """One deployment variant, planned at its longest prompt."""
    plans = [(plan_cell(campaign, cell), cell) for cell in cells]
    plan, cell = max(plans, key=lambda pair: pair[0].limits.input_tokens)
    service = describe_service(
        campaign.name,
        key,
        cell.settings,
        plan,
        parse_hardware(str(campaign.hardware)),
        output_tokens=cell.workload.longest_output,
        image=getattr(cell.settings.target, "image", None),
    )
    found = plan.binding
    return service, Refusal(found.code, found.reason, found.cure) if found else None


def _variants(campaign: Campaign, names: Sequence[str]) -> Iterator[tuple[str, list[Cell]]]:
    cells = list(campaign.cells())
    known = {cell.deployment.split("/")[0] for cell in cells}
    for name in names:
        if name not in known:
            raise SpecError(
                f"no deployment {name!r} in the campaign",
                where="--deployment",
                cure=f"known: {', '.join(sorted(known))}",
            )
    for key, group in campaign.starts().items():
        if not names or key.split("/")[0] in names:
            yield key, group
