"""The verdict of a run as terminal tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from leadline.metrics.statistics import Proportion, Spread
from leadline.prove.structural import TRIAL_PROOFS
from leadline.units import show_seconds, show_tokens
from leadline.verdict import CellVerdict, DeploymentVerdict, RunVerdict, describe_length

STATUS_STYLES = {
    "pass": "bold green",
    "fail": "bold red",
    "infeasible": "yellow",
    "inconclusive": "yellow",
    "skipped": "dim",
}
_MARKS = {"pass": ("✓", "green"), "fail": ("✗", "bold red"), "unknown": ("?", "yellow")}


def print_verdict(console: Console, verdict: RunVerdict) -> None:
    console.print(
        Group(
            _cells_table(verdict),
            *(_deployment_lines(item) for item in verdict.deployments),
            *_finding_blocks(verdict),
            *(Text(f"! {text}", style="yellow") for text in verdict.warnings),
        )
    )


def print_runs(console: Console, rows: list[dict[str, str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("run", "campaign", "started", "state", "cells"):
        table.add_column(column)
    for row in rows:
        table.add_row(*(row[column] for column in ("run", "campaign", "started", "state", "cells")))
    console.print(table)


def show_spread(spread: Spread | None, unit: str = "s") -> str:
    """``4.21 s [4.10, 4.35]``: median and range."""
    if spread is None:
        return "–"
    if unit == "s":
        median, low, high = (show_seconds(x) for x in (spread.median, spread.low, spread.high))
        return median if spread.n == 1 else f"{median} [{low}, {high}]"
    values = [f"{x:.3g}" for x in (spread.median, spread.low, spread.high)]
    return (
        f"{values[0]}{unit}" if spread.n == 1 else f"{values[0]}{unit} [{values[1]}, {values[2]}]"
    )


def show_recall(recall: Proportion | None) -> str:
    """``3/3``: a share of so few would claim more than it knows."""
    return "–" if recall is None else f"{recall.hits}/{recall.n}"


def proof_outcomes(cell: CellVerdict) -> dict[str, str]:
    """Per structural proof its worst outcome over the trials; absent where never judged."""
    order = ("fail", "unknown", "pass")
    proofs = [proof for trial in cell.trials for proof in trial.proofs]
    return {
        name: min((p.outcome for p in proofs if p.name == name), key=order.index)
        for name in TRIAL_PROOFS
        if any(p.name == name for p in proofs)
    }


def _cells_table(verdict: RunVerdict) -> Table:
    table = Table(
        title=f"{verdict.campaign}  ·  run {verdict.run_id}",
        title_justify="left",
        caption="times: median [lowest, highest]; rates of the whole request as the client saw it",
        caption_justify="left",
    )
    several = len(verdict.deployments) > 1
    if several:
        table.add_column("deployment", overflow="fold")
    table.add_column("input", justify="right")
    table.add_column("verdict", overflow="fold")
    for proof in TRIAL_PROOFS:
        table.add_column(proof, justify="center")
    table.add_column("TTFT", justify="right")
    table.add_column("TPOT", justify="right")
    table.add_column("prefill tok/s", justify="right")
    table.add_column("recall", justify="right")
    for cell in verdict.cells:
        own = _cell_row(cell)
        table.add_row(*([Text(cell.deployment), *own] if several else own))
    return table


def _cell_row(cell: CellVerdict) -> list[RenderableType]:
    length = show_tokens(cell.input_tokens) if cell.input_tokens else cell.cell.rsplit("=", 1)[-1]
    status = Text(cell.status, style=STATUS_STYLES[cell.status])
    if cell.cause:
        status.append(f" ({cell.cause})", style="default")
    outcomes = proof_outcomes(cell)
    return [
        length,
        status,
        *(_mark(outcomes.get(name)) for name in TRIAL_PROOFS),
        show_spread(cell.ttft_s),
        show_spread(cell.tpot_s),
        show_spread(cell.prefill_tokens_per_s, ""),
        show_recall(cell.recall),
    ]


def _mark(outcome: str | None) -> Text:
    sign, style = _MARKS.get(outcome or "", ("–", "dim"))
    return Text(sign, style=style)


def _deployment_lines(item: DeploymentVerdict) -> Text:
    """Two results, never mixed: what the engine serves, and how far the model's recall reaches."""
    text = Text(f"\n{item.key}", style="bold")
    window = describe_length(item.window_tokens) if item.window_tokens else "unknown window"
    started = f", ready in {show_seconds(item.start_s)}" if item.start_s else ""
    text.append(f"  {item.engine or 'not started'}, {window}{started}\n", style="default")
    text.append("  engine qualified up to        ", style="default")
    text.append(f"{describe_length(item.qualified_tokens)}\n", style="bold")
    text.append("  model's effective length      ", style="default")
    text.append(f"{describe_length(item.effective_tokens)}", style="bold")
    text.append("  (recall of 85.6 % or more at every tested length)\n", style="dim")
    for proof in item.limits:
        sign, style = _MARKS[proof.outcome]
        name = "exactly at the limit" if proof.name == "edge" else "one token too long"
        text.append(f"  {sign} ", style=style)
        text.append(f"{name}: {proof.observed}\n", style="default")
    return text


def _finding_blocks(verdict: RunVerdict) -> Iterator[Text]:
    for finding in verdict.findings:
        text = Text(f"\n{finding.code} {finding.title}", style="bold red")
        text.append(f"   {finding.cell or finding.deployment}\n", style="dim")
        text.append(f"  {finding.explanation}\n", style="default")
        for line in finding.evidence:
            text.append(f"  | {line}\n", style="dim")
        text.append(f"  cure: {finding.remedy}", style="default")
        yield text
