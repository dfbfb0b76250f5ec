"""Everything about a campaign that can be known to be wrong before time is spent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from leadline.campaign.containers import Contained, contain
from leadline.campaign.draw import require_load
from leadline.campaign.offline import plan_script, require_offline
from leadline.campaign.serving import plan_launch, require_endpoint
from leadline.errors import SpecError
from leadline.prompts.corpus import Corpus, load_corpus
from leadline.spec import Campaign, ContainerTarget, EndpointTarget, OfflineTarget, select_cells


class Checked(NamedTuple):
    corpora: dict[str | tuple[str, ...], Corpus]
    containers: dict[str, Contained]
    """Of each deployment variant whose target is one."""


def check_campaign(campaign: Campaign) -> Checked:
    containers: dict[str, Contained] = {}
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
    corpora = {reference: load_corpus(reference) for reference in references}
    return Checked(corpora, containers)


def choose_cells(campaign: Campaign, only: Sequence[str]) -> frozenset[str]:
    cells = list(campaign.cells())
    if only and campaign.search:
        raise SpecError(
            "what a search asks follows from its answers, and is not chosen before",
            where="--only",
            cure="leave --only out, or the deployment out of the campaign",
        )
    return select_cells(cells, only) if only else frozenset(cell.key for cell in cells)
