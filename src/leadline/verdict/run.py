"""A whole run, and each of its deployments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from leadline.journal import Run
from leadline.prove.recall import EFFECTIVE_RECALL
from leadline.prove.structural import Proof, prove_edge, prove_over_limit
from leadline.records import EngineWords
from leadline.spec import Campaign, Cell, Deployment, parse_campaign
from leadline.verdict.comparison import compare_cells
from leadline.verdict.facts import Facts
from leadline.verdict.loads import judge_load_cell
from leadline.verdict.schema import CellVerdict, DeploymentVerdict, RunVerdict
from leadline.verdict.searches import judge_searches, list_cells
from leadline.verdict.spent import judge_spending
from leadline.verdict.targets import cost_targets
from leadline.verdict.trials import judge_trials


def judge_run(run: Run) -> RunVerdict:
    """Everything that the journal of one run supports, derived afresh."""
    text = (run.path / "campaign.yaml").read_text(encoding="utf-8")
    campaign = parse_campaign(text, source=str(run.path / "campaign.yaml"))
    facts = Facts(run)
    asked = list_cells(campaign, facts)
    cells = tuple(judge_cell(cell, campaign, facts) for cell in asked)
    settings = {cell.deployment: cell.settings for cell in asked}
    deployments = tuple(
        _judge_deployment(key, item, cells, facts) for key, item in settings.items()
    )
    return RunVerdict(
        run_id=run.facts["id"],
        campaign=campaign.name,
        started=run.facts["started"],
        finished=bool(facts.named("run_finished")),
        seed=run.facts.get("seed"),
        cells=cells,
        deployments=deployments,
        findings=tuple(facts.findings),
        warnings=tuple(facts.warnings()),
        comparisons=compare_cells(campaign, cells),
        target_costs=tuple(cost_targets(campaign, deployments, cells)),
        searches=tuple(judge_searches(campaign, facts, cells)),
        spent=judge_spending(run),
    )


def judge_cell(cell: Cell, campaign: Campaign, facts: Facts) -> CellVerdict:
    return (judge_load_cell if cell.is_load else judge_trials)(cell, campaign, facts)


def _judge_deployment(
    key: str, deployment: Deployment, cells: tuple[CellVerdict, ...], facts: Facts
) -> DeploymentVerdict:
    own = [cell for cell in cells if cell.deployment == key and not cell.is_load]
    ready = facts.last("deployment_ready", deployment=key)
    words = facts.last("engine_words", deployment=key)
    return DeploymentVerdict(
        key=key,
        engine=ready.get("engine"),
        model=ready.get("model"),
        window_tokens=ready.get("window_tokens"),
        start_s=ready.get("start_s"),
        starts=len(facts.named("deployment_ready", deployment=key)),
        limits=tuple(_limit_proofs(key, facts)),
        qualified_tokens=_longest(own, lambda cell: cell.sound),
        effective_tokens=_longest(
            [cell for cell in own if cell.recall],
            lambda cell: cell.recall is not None and cell.recall.share >= EFFECTIVE_RECALL,
        ),
        is_offline=deployment.target.kind == "offline",
        lengths_tested=bool(own),
        image=ready.get("image"),
        words=EngineWords.model_validate(words) if words else None,
        recall_tested=any(cell.recall for cell in own),
    )


def _limit_proofs(key: str, facts: Facts) -> Iterable[Proof]:
    """Over-limit from its own probe; the edge also from any trial of exactly that length."""
    records = [r for r in facts.records if r.deployment == key]
    edge_tokens = facts.last("deployment_ready", deployment=key).get("edge_tokens")
    edges = [r for r in records if r.purpose == "edge"] or [
        r for r in records if r.purpose == "trial" and r.sent.input_tokens == edge_tokens
    ]
    yield from (prove_edge(record) for record in edges[-1:])
    over = [r for r in records if r.purpose == "over_limit"]
    yield from (prove_over_limit(record) for record in over[-1:])
    for skipped in facts.named("limit_probe_skipped", deployment=key)[-1:]:
        for name in ("edge", "over_limit"):
            yield Proof(name=name, outcome="unknown", observed=str(skipped["reason"]))


def _longest(cells: list[CellVerdict], holds: Any) -> int | None:
    """The longest length up to which, from the shortest on, ``holds`` is true without a gap."""
    longest = None
    for length in sorted({cell.input_tokens for cell in cells if cell.input_tokens}):
        if not all(holds(cell) for cell in cells if cell.input_tokens == length):
            break
        longest = length
    return longest
