"""What a start of a campaign would do: which cells, in which order, for how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leadline.campaign.check import Checked, check_campaign, choose_cells
from leadline.campaign.ledger import Ledger
from leadline.campaign.planning import count_devices, plan_cells, require_countable
from leadline.campaign.work import RunOptions
from leadline.errors import LeadlineError
from leadline.journal import Run, find_unfinished, list_runs
from leadline.plan.campaign_plans import CellPlan
from leadline.plan.estimate import Estimate, Seen, estimate_run
from leadline.spec import Campaign, Deployment, Turn, order_work, parse_campaign


@dataclass(frozen=True)
class Forecast:
    campaign: Campaign
    options: RunOptions
    checked: Checked
    plans: dict[str, CellPlan]
    """Of every cell of the campaign."""
    chosen: frozenset[str]
    devices: dict[str, int | None]
    """Of each deployment variant."""
    resumed: Run | None
    turns: tuple[Turn, ...]
    """Trials that are owed, in their order."""
    estimate: Estimate

    @property
    def refused(self) -> list[CellPlan]:
        """Chosen cells that the plan rules out, and nobody wants tried."""
        if self.options.try_infeasible:
            return []
        return [p for key, p in self.plans.items() if key in self.chosen and p.refusal]


def forecast_run(campaign: Campaign, options: RunOptions) -> Forecast:
    """Raises ``LeadlineError`` for whatever the run itself would refuse before its first step."""
    checked = check_campaign(campaign)
    chosen = choose_cells(campaign, options.only)
    plans = plan_cells(campaign)
    devices = count_devices(plans.values())
    require_countable(campaign.budget, campaign.cells(), devices)
    unfinished = find_unfinished(options.runs_root, campaign.name, campaign.digest())
    resumed = None if options.fresh else unfinished
    ledger = Ledger()
    if resumed:
        ledger.recall(resumed, try_infeasible=options.try_infeasible)
    barred = {key for key, p in plans.items() if p.refusal and not options.try_infeasible}
    meant = [c for c in campaign.cells() if c.key in chosen - barred]
    owed = {(cell.key, trial) for cell in meant for trial in ledger.missing_trials(cell)}
    order = [] if campaign.search else order_work(campaign, chosen)
    turns = [turn for turn in order if (turn.cell.key, turn.trial) in owed]
    counts = {cell.key: sum(key == cell.key for key, _ in owed) for cell in meant}
    seen = _see(campaign, ledger, options.runs_root)
    estimate = estimate_run(campaign, plans.values(), counts, seen)
    return Forecast(
        campaign, options, checked, plans, chosen, devices, resumed, tuple(turns), estimate
    )


def _see(campaign: Campaign, own: Ledger, runs_root: Path) -> dict[str, Seen]:
    """Of each deployment, by this run's requests; else by those of the last run that had an equal
    one.
    """
    seen: dict[str, Seen] = {}
    settings = {cell.deployment: cell.settings for cell in campaign.cells()}
    for ledger, known in [(own, settings), *_earlier(campaign.name, runs_root)]:
        for key, model in ledger.models.items():
            if key not in seen and model.probes and known.get(key) == settings.get(key):
                seen[key] = Seen(model, ledger.starts_s.get(key))
    return seen


def _earlier(name: str, runs_root: Path) -> Iterator[tuple[Ledger, dict[str, Deployment]]]:
    """Earlier runs of the campaign, newest first; a damaged one says nothing."""
    for path in reversed([path for path in list_runs(runs_root) if path.parent.name == name]):
        try:
            text = (path / "campaign.yaml").read_text(encoding="utf-8")
            campaign = parse_campaign(text, source=str(path))
            ledger = Ledger()
            ledger.recall(Run(path))
        except (LeadlineError, OSError):
            continue
        yield ledger, {cell.deployment: cell.settings for cell in campaign.cells()}
