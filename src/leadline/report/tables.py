"""The verdict of a run as terminal tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from leadline.prove.structural import TRIAL_PROOFS
from leadline.report.phrases import (
    NOTHING,
    proof_outcomes,
    word_length,
    word_limit,
    word_recall,
    word_spread,
    word_tokens,
)
from leadline.units import show_seconds
from leadline.verdict import CellVerdict, DeploymentVerdict, RunVerdict

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


def _cells_table(verdict: RunVerdict) -> Table:
    table = Table(
        title=Text(f"{verdict.campaign}  run {verdict.run_id}", style="bold"),
        title_justify="left",
        caption=Text(f"proofs: {', '.join(TRIAL_PROOFS)}; times: median [lowest, highest]"),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    several = len(verdict.deployments) > 1
    if several:
        table.add_column("deployment", overflow="fold")
    table.add_column("input", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    table.add_column("proofs", no_wrap=True)
    for column in ("TTFT", "TPOT", "prefill", "recall"):
        table.add_column(column, justify="right")
    for cell in verdict.cells:
        own = _cell_row(cell)
        table.add_row(*([Text(cell.deployment), *own] if several else own))
    return table


def _cell_row(cell: CellVerdict) -> list[RenderableType]:
    status = Text(cell.status, style=STATUS_STYLES[cell.status])
    if cell.cause:
        status.append(f" ({cell.cause})", style="default")
    prefill = word_spread(cell.prefill_tokens_per_s, seconds=False, ranged=False)
    return [
        word_length(cell),
        status,
        _marks(cell),
        Text(word_spread(cell.ttft_s)),
        word_spread(cell.tpot_s, ranged=False),
        prefill if prefill == NOTHING else f"{prefill} tok/s",
        word_recall(cell.recall),
    ]


def _marks(cell: CellVerdict) -> Text:
    outcomes = proof_outcomes(cell)
    marks = [_MARKS.get(outcomes.get(name, ""), (NOTHING, "dim")) for name in TRIAL_PROOFS]
    return Text.assemble(*marks)


def _deployment_lines(item: DeploymentVerdict) -> Text:
    """Two results, never mixed: what the engine serves, and how far the model's recall reaches."""
    text = Text(f"\n{item.key}", style="bold")
    window = word_tokens(item.window_tokens) if item.window_tokens else "unknown window"
    started = f", ready in {show_seconds(item.start_s)}" if item.start_s else ""
    text.append(f"  {item.engine or 'not started'}, {window}{started}\n", style="default")
    text.append("  engine qualified up to        ", style="default")
    text.append(f"{word_tokens(item.qualified_tokens)}\n", style="bold")
    text.append("  model's effective length      ", style="default")
    text.append(f"{word_tokens(item.effective_tokens)}", style="bold")
    text.append("  (recall of 85.6 % or more at every tested length)\n", style="dim")
    for proof in item.limits:
        sign, style = _MARKS[proof.outcome]
        text.append(f"  {sign} ", style=style)
        text.append(f"{word_limit(proof.name)}: {proof.observed}\n", style="default")
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
