"""A plan as a terminal ledger: a line per term, a bar of the device, the verdict, its cure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leadline.plan.campaign_plans import CellPlan, sum_gpu_hours
from leadline.plan.ledger import Term
from leadline.plan.local_memory import LocalPlan
from leadline.plan.schema import Audit, Plan, Seconds
from leadline.plan.search import Candidate
from leadline.units import show_seconds, show_tokens

BAR_CELLS = 60
_STYLES = {
    "weights": "blue",
    "RoPE cache": "cyan",
    "activation peak": "magenta",
    "non-torch": "yellow",
    "KV cache": "green",
    "CUDA graphs": "red",
}
_OTHER_STYLE = "bright_black"


def render_plan(plan: Plan) -> RenderableType:
    """The whole answer, top down: what, verdict, memory, cache and limits, time, warnings."""
    parts: list[RenderableType] = [_headline(plan), _verdict(plan), Text()]
    parts += [_ledger(plan), _bar(plan), Text(), _cache(plan)]
    if plan.time is not None:
        parts += [Text(), _time(plan)]
    parts += [Text(f"! {warning}", style="yellow") for warning in plan.warnings]
    return Group(*parts)


def render_contexts(rows: Sequence[tuple[str, Plan]]) -> Table:
    """The kits' table, right: KV memory and longest context for each kind of device."""
    table = Table(title="Context length by device", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("Hardware", overflow="fold")
    for title in ("Device", "KV cache a device", "Cache holds", "Longest prompt", "Verdict"):
        table.add_column(title, justify="right" if title != "Verdict" else "left", overflow="fold")
    for label, plan in rows:
        table.add_row(
            label,
            f"{plan.memory.device_gib:.1f} GiB",
            f"{max(plan.kv.available_gib, 0):.1f} GiB",
            f"{show_tokens(plan.kv.max_request_tokens)}",
            f"{show_tokens(plan.limits.max_input_tokens)}",
            plan.verdict,
        )
    return table


def render_campaign(plans: Sequence[CellPlan], price: float | None = None) -> Group:
    """One line for each cell: verdict, prompt, expected time, device hours; then the reasons.

    ``price`` is that of a device hour.
    """
    table = Table(title="Plan of every cell", title_justify="left", box=box.SIMPLE_HEAD)
    table.pad_edge, table.collapse_padding = False, True
    # On a narrow terminal names are broken, figures never.
    table.add_column("Deployment", overflow="fold")
    table.add_column("Verdict", overflow="fold", min_width=12)
    for title in ("Prompt", "At\nonce", "Prefill", "Time-\nout", "Hours"):
        table.add_column(title, justify="right", no_wrap=True)
    expected = any(entry.cell.settings.expect for entry in plans)
    if expected:
        table.add_column("Expected", overflow="fold")
    for entry in plans:
        table.add_row(_cell_name(entry), *_cell_line(entry), *[_expected(entry)] * expected)
    hours = sum_gpu_hours(plans)
    cost = "" if price is None else f", cost {hours * price:,.2f}"
    total = Text(f"device hours of the cells that fit, all repeats: {hours:.3g}{cost}")
    return Group(table, *(Text(line) for line in _reasons(plans)), total)


def _cell_name(entry: CellPlan) -> str:
    """The cell without its length, which has a column of its own."""
    parts = entry.cell.key.split("/")
    return "/".join(part for part in parts if not part.startswith("input_tokens="))


def _expected(entry: CellPlan) -> Text:
    """What the campaign says of the cell; red where the plan says otherwise."""
    expected = entry.cell.settings.expect
    if expected is None:
        return Text()
    agrees = entry.plan is None or entry.is_feasible == (expected.verdict == "pass")
    return Text(str(expected), style="" if agrees else "bold red")


def _cell_line(entry: CellPlan) -> Iterator[RenderableType]:
    plan = entry.plan
    style = "green" if entry.is_feasible else "red"
    yield Text(plan.verdict if plan else "not planned", style=style if plan else "yellow")
    if not isinstance(plan, Plan):
        return
    yield show_tokens(plan.limits.input_tokens)
    yield str(plan.limits.concurrent_requests)
    yield _short(plan.time.prefill_s.expected) if plan.time else ""
    yield _short(plan.time.timeout_s) if plan.time else ""
    yield f"{entry.gpu_hours:.3g}" if entry.is_feasible else ""


def _short(seconds: float) -> str:
    """For narrow columns: long times in whole seconds."""
    return f"{seconds:,.0f} s" if seconds >= 100 else show_seconds(seconds)  # noqa: PLR2004


def _reasons(plans: Sequence[CellPlan]) -> Iterator[str]:
    for entry in plans:
        plan = entry.plan
        if isinstance(plan, Plan) and plan.binding:
            yield f"  {entry.cell.key}: {plan.binding.reason}; cure: {plan.binding.cure}"
        elif isinstance(plan, LocalPlan) and plan.reason:
            cure = f"; cure: {plan.remedy}" if plan.remedy else ""
            yield f"  {entry.cell.key}: {plan.reason}{cure}"
        elif entry.reason:
            yield f"  {entry.cell.key}: {entry.reason}"


def _headline(plan: Plan) -> Text:
    billions = f"{plan.parameters / 1e9:.1f} B parameters"
    if plan.active_parameters < plan.parameters:
        billions += f", {plan.active_parameters / 1e9:.1f} B active"
    return Text(f"{plan.model} ({billions}) on {plan.hardware}, {plan.engine}", style="bold")


def _verdict(plan: Plan) -> Text:
    style = "bold green" if plan.binding is None else "bold red"
    text = Text(plan.verdict, style=style)
    for finding in plan.findings:
        text.append(f"\n  {finding.reason}", style="not bold default")
        text.append(f"\n  cure: {finding.cure}", style="not bold default")
    return text


def _ledger(plan: Plan) -> Table:
    table = Table(
        title="Memory of one device", title_justify="left", pad_edge=False, box=box.SIMPLE_HEAD
    )
    table.add_column("Term")
    table.add_column("GiB", justify="right")
    table.add_column("±", justify="right")
    for title in ("", "Known how", "Formula"):
        table.add_column(title, overflow="fold")
    for term in plan.memory.terms:
        table.add_row(*_line(term), style="dim" if term.place == "host" else None)
    return table


def _line(term: Term) -> Iterator[str]:
    yield term.name
    yield f"{term.gib:.2f}"
    yield f"{term.uncertainty_gib:.2f}" if term.uncertainty_gib else ""
    where = "in budget" if term.inside_budget else "outside"
    yield "host" if term.place == "host" else where
    yield term.kind
    yield term.formula


def _bar(plan: Plan) -> Text:
    """The device as cells: every term in its colour, what is left in dots."""
    device = plan.memory.device_gib
    text = Text("│")
    used = 0
    for term in (t for t in plan.memory.terms if t.place == "device"):
        cells = min(round(term.gib / device * BAR_CELLS), BAR_CELLS - used)
        text.append("█" * cells, style=_STYLES.get(term.name, _OTHER_STYLE))
        used += cells
    text.append("·" * (BAR_CELLS - used) + "│")
    margin = plan.memory.margin_gib
    left = f"{margin:.1f} GiB left" if margin >= 0 else f"{-margin:.1f} GiB too much"
    text.append(f" {device:.1f} GiB, {left}")
    return text


def _cache(plan: Plan) -> Table:
    kv, limits = plan.kv, plan.limits
    table = _pairs("KV cache and limits")
    spread = f" ± {kv.uncertainty_gib:.2f}" if kv.uncertainty_gib else ""
    groups = ", ".join(
        f"{group.layers} x {group.attention}"
        + (f"({group.reach_tokens:,})" if group.reach_tokens else "")
        for group in kv.groups
    )
    table.add_row("available a device", f"{kv.available_gib:.2f}{spread} GiB ({kv.kind})")
    table.add_row("layer groups", groups)
    table.add_row("bytes a token, a device", f"{kv.bytes_per_token_per_gpu:,.0f}")
    table.add_row("capacity, as logged", f"{show_tokens(kv.capacity_tokens)} tokens")
    concurrency = f"{kv.max_concurrency:.2f}x at {show_tokens(limits.max_model_len)} tokens"
    table.add_row("maximum concurrency, as logged", concurrency)
    table.add_row("longest request by memory", f"{show_tokens(kv.max_request_tokens)} tokens")
    longest = f"{show_tokens(limits.max_input_tokens)} tokens with {limits.output_tokens} out"
    table.add_row("longest prompt", longest)
    planned = f"{limits.concurrent_requests} of {show_tokens(limits.input_tokens)} tokens"
    table.add_row("requests at once", planned)
    return table


def _time(plan: Plan) -> Table:
    table = _pairs("Time of one cold request alone")
    time = plan.time
    if time is not None:
        table.add_row("prefill", _interval(time.prefill_s))
        table.add_row("one output token", _interval(time.decode_token_s))
        table.add_row("request", show_seconds(time.request_s))
        table.add_row("device time", f"{time.gpu_hours:.3g} h")
        table.add_row("client timeout", show_seconds(time.timeout_s))
        if time.audit:
            table.add_row("reported prefill", _audit(time.audit))
    return table


def _audit(audit: Audit) -> Text:
    """A time below the floor is a cache hit, whatever its report says."""
    share = f"{show_seconds(audit.measured_s)} is {audit.share_of_peak:.0%} of the dense peak: "
    if audit.plausible_cold:
        return Text(f"{share}plausible for a cold prompt", style="green")
    word = "implausible" if audit.possible_cold else "impossible"
    cached = f"about {audit.cached_share:.0%} of the prompt must have come from a cache"
    return Text(f"{share}{word} cold; {cached}", style="bold red")


def _interval(seconds: Seconds) -> str:
    shown = [show_seconds(value) for value in (seconds.expected, seconds.low, seconds.high)]
    floor = show_seconds(seconds.floor)
    return f"{shown[0]} ({shown[1]} to {shown[2]}, {seconds.kind}); never below {floor}"


def _pairs(title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, pad_edge=False, box=None)
    table.add_column()
    table.add_column(overflow="fold")
    return table


def render_candidates(
    ranked: Sequence[Candidate], rejected: Sequence[Candidate], shown: int, reasons: int
) -> Group:
    """The best settings, and why the others do not fit. What all of the best share is said once."""
    best = [{**item.settings, **item.env} for item in ranked[:shown]]
    shared = (
        {name: value for name, value in best[0].items() if _is_shared(name, best)} if best else {}
    )
    table = Table(title="Settings that fit, best first", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("Settings", overflow="fold")
    for title in ("At once", "Devices", "Request", "Left over"):
        table.add_column(title, justify="right")
    for item, pairs in zip(ranked, best, strict=False):
        plan = item.plan
        table.add_row(
            _show_pairs({key: value for key, value in pairs.items() if key not in shared}),
            str(plan.limits.concurrent_requests),
            str(plan.gpus),
            show_seconds(plan.time.request_s) if plan.time else "",
            f"{plan.memory.margin_gib:.1f} GiB",
        )
    counts = Counter(item.plan.verdict for item in rejected)
    lines = [Text(f"{len(ranked)} fit, {len(rejected)} do not:", style="bold")]
    for verdict, count in counts.most_common(reasons):
        example = next(item.plan for item in rejected if item.plan.verdict == verdict)
        reason = example.binding.reason if example.binding else "no room for one request"
        lines.append(Text(f"  {count} {verdict}, for example: {reason}"))
    common = [Text(f"all of these with {_show_pairs(shared)}")] if shared else []
    return Group(table, *common, *lines)


def _is_shared(name: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    return len(settings) > 1 and len({pairs.get(name) for pairs in settings}) == 1


def _show_pairs(pairs: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in pairs.items())


def render_search_speed(candidates: int, seconds: float) -> Text:
    return Text(
        f"{candidates:,} candidates in {show_seconds(seconds)}: "
        f"{candidates / seconds:,.0f} a second",
        style="dim",
    )
