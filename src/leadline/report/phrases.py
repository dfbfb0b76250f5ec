"""How results are worded, the same in every form of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from leadline.metrics.statistics import Proportion, Spread
from leadline.plan.estimate import show_amount
from leadline.prove.structural import TRIAL_PROOFS
from leadline.records import Comparison
from leadline.units import show_rate, show_seconds, show_tokens
from leadline.verdict import (
    CellVerdict,
    DeploymentVerdict,
    RunVerdict,
    TargetCost,
    Trial,
    TtftCost,
)

STATUS_STYLES = {
    "pass": "bold green",
    "fail": "bold red",
    "infeasible": "yellow",
    "inconclusive": "yellow",
    "skipped": "dim",
}
SIGNS = {"pass": "✓", "fail": "✗", "unknown": "?"}
NOTHING = "–"

PROOF_MEANINGS = {
    "count": "the server counted exactly the tokens that were sent",
    "cold": "no prompt token came from a cache",
    "finish": "it stopped for a stated reason, at full length if it says so",
    "output": "the answer is readable text, not empty and not one word repeated",
    "edge": "a prompt of exactly the longest length is accepted and counted whole",
    "over_limit": "a prompt longer than the window is refused with a 4xx status",
}

MEASURE_MEANINGS = {
    "TTFT": "from just before the request's connection is opened to the first event with output",
    "TPOT": "(last output event - first) / (output tokens - tokens in the first event)",
    "prefill tok/s": "prompt tokens / TTFT: a floor, since queueing and transport are included",
    "decode tok/s": "1 / TPOT of the one request",
    "recall": "share of hidden passkeys contained in the answer",
}


def word_spread(spread: Spread | None, *, seconds: bool = True, ranged: bool = True) -> str:
    """``13.3 s [11.8, 14.3]``: median, lowest and highest in the unit of the median."""
    if spread is None:
        return NOTHING
    in_ms = seconds and spread.median < 1
    scale, unit = (1000, " ms") if in_ms else (1, " s" if seconds else "")
    figures = (spread.median, spread.low, spread.high)
    median, low, high = (show_rate(x * scale) for x in figures)
    shown = f"{median}{unit}"
    return f"{shown} [{low}, {high}]" if ranged and spread.n > 1 else shown


def word_engine(item: DeploymentVerdict) -> list[tuple[str, str]]:
    """(outcome, sentence) for each thing the engine said that was foretold or asked."""
    if item.words is None:
        return []
    lines = [
        ("pass" if found.equal else "unknown", _word_comparison(found))
        for found in item.words.comparisons
    ]
    lines += [
        ("unknown", f"{name}: asked for {asked}, the engine works with {resolved}")
        for name, (asked, resolved) in item.words.differing.items()
    ]
    return lines


def _word_comparison(found: Comparison) -> str:
    engine, plan = _word_figure(found.engine, found.unit), _word_figure(found.plan, found.unit)
    same = "equal" if engine == plan else f"differs by {found.difference:+.2%}"
    if found.equal and engine != plan:
        same += f", which the rounding of what the engine prints allows (±{found.tolerance:.2%})"
    return f"{found.name}: the engine says {engine}, the plan {plan} (from {found.source}): {same}"


def _word_figure(value: float, unit: str) -> str:
    return f"{value:,.2f}x" if unit == "x" else f"{value:,.0f} {unit}"


def word_recall(recall: Proportion | None) -> str:
    """``3/3``: a percentage of so few would claim more than it knows."""
    return NOTHING if recall is None else f"{recall.hits}/{recall.n}"


def word_interval(recall: Proportion | None) -> str:
    """The Wilson interval behind a share."""
    return NOTHING if recall is None else f"{recall.low:.0%} to {recall.high:.0%}"


def word_length(cell: CellVerdict) -> str:
    return show_tokens(cell.input_tokens) if cell.input_tokens else "max"


def word_batch(cell: CellVerdict) -> str:
    """Prompts at once, of a row without a server."""
    answers = [trial.record.exchange.server or {} for trial in cell.trials]
    return str(answers[-1].get("batch", NOTHING)) if answers else NOTHING


def word_status(cell: CellVerdict) -> str:
    shown = f"{cell.status} ({cell.cause})" if cell.cause else cell.status
    return f"{shown}{word_expected(cell)}"


def word_expected(cell: CellVerdict) -> str:
    """What follows a verdict: nothing where nothing was expected or where it is not decided."""
    if cell.as_expected is None:
        return ""
    return ", as expected" if cell.as_expected else f", expected {cell.expected}"


def expectation_sentence(verdict: RunVerdict) -> str:
    """How many cells came as the campaign says, and which did not."""
    expected = [cell for cell in verdict.cells if cell.expected]
    if not expected:
        return ""
    met = sum(bool(cell.as_expected) for cell in expected)
    others = [f"{cell.cell}: {word_status(cell)}" for cell in expected if not cell.as_expected]
    return "; ".join([f"{met} of {len(expected)} cells came as expected", *others])


def word_prediction(cell: CellVerdict) -> str:
    """The TTFT predicted before the cell ran."""
    predicted = cell.predicted_ttft_s
    if not predicted:
        return NOTHING
    expected, low, high = (show_seconds(predicted[key]) for key in ("expected", "low", "high"))
    return f"{expected} ({low} to {high})"


def proof_outcomes(cell: CellVerdict) -> dict[str, str]:
    """Per structural proof its worst outcome over the trials; absent where never judged."""
    order = ("fail", "unknown", "pass")
    proofs = [proof for trial in cell.trials for proof in trial.proofs]
    return {
        name: min((p.outcome for p in proofs if p.name == name), key=order.index)
        for name in TRIAL_PROOFS
        if any(p.name == name for p in proofs)
    }


def proof_signs(cell: CellVerdict) -> list[str]:
    outcomes = proof_outcomes(cell)
    return [SIGNS.get(outcomes.get(name, ""), NOTHING) for name in TRIAL_PROOFS]


def word_limit(name: str) -> str:
    return "exactly at the limit" if name == "edge" else "one token longer than the window"


def word_tokens(tokens: int | None) -> str:
    return "none" if tokens is None else f"{show_tokens(tokens)} tokens"


def word_counts(verdict: RunVerdict) -> str:
    """``5 pass, 1 fail``."""
    counts = Counter(cell.status for cell in verdict.cells)
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def word_answer(trial: Trial) -> str:
    """The needle's answer beside what the model said, shortened."""
    text = " ".join(trial.record.exchange.text.split())
    return text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004


def qualified_sentence(item: DeploymentVerdict) -> str:
    if not item.started:
        return "Not started: nothing was tested."
    if not item.lengths_tested:
        return "Only loads were run: no length was proven by itself."
    if item.qualified_tokens is None:
        return "The engine is not qualified at any tested length."
    return (
        f"The engine is qualified up to {word_tokens(item.qualified_tokens)}: every trial at every "
        "tested length up to it has all structural proofs."
    )


def outlier_sentences(verdict: RunVerdict) -> Iterator[str]:
    """Trials far from the others of their cell."""
    for cell in verdict.cells:
        for odd in cell.outliers:
            name = odd.measure.removesuffix("_s").replace("_", " ")
            yield (
                f"{cell.cell}: outlier: {name} of trial {odd.request} is "
                f"{show_seconds(odd.value)}, the median {show_seconds(odd.median)}; it is counted."
            )


def cost_sentences(cost: TargetCost) -> Iterator[str]:
    """What the second target costs beside the first."""
    first, second = cost.targets
    yield f"{second} ({cost.deployments[1]}) beside {first} ({cost.deployments[0]}):"
    before, after = cost.start_s
    if before is not None and after is not None:
        yield (
            f"start-up {show_seconds(after)} instead of {show_seconds(before)}: "
            f"{_word_difference(after - before)} (one start each)"
        )
    for found in cost.ttft:
        ours, theirs = (word_spread(each) for each in found.ttft_s)
        yield (
            f"TTFT of {found.prompts} equal prompts of {word_tokens(found.input_tokens)}: "
            f"{theirs} instead of {ours}, median difference "
            f"{_word_difference(found.difference_s.value)}{_word_certainty(found)}"
        )


def _word_certainty(found: TtftCost) -> str:
    low, high = found.difference_s.low, found.difference_s.high
    if low is None or high is None:
        return f"; not told apart from chance ({found.difference_s.refused})"
    ends = f" (95 % interval {_word_difference(low)} to {_word_difference(high)})"
    return ends if found.told_apart else f"{ends}; not told apart from chance"


def _word_difference(seconds: float) -> str:
    return f"{'+' if seconds >= 0 else '−'}{show_seconds(abs(seconds))}"


def effective_sentence(item: DeploymentVerdict) -> str:
    if not item.recall_tested:
        return "No recall was measured."
    if item.effective_tokens is None:
        return "The model has no effective length: recall is below 85.6 % at the shortest tested."
    return (
        f"The model's effective length is {word_tokens(item.effective_tokens)}: recall is 85.6 % "
        "or more at every tested length up to it (RULER's threshold)."
    )


def word_spending(verdict: RunVerdict) -> str:
    """``spent: 1 min 12 s of 10 min 00 s, 0.16 device hours``; empty for a run of old."""
    spent = verdict.spent
    if spent is None:
        return ""
    amounts = {"time": spent.time_s, "device_hours": spent.device_hours, "usd": spent.usd}
    shown = [
        show_amount(name, amount or 0.0) + (f" of {show_amount(name, cap)}" if cap else "")
        for name, amount in amounts.items()
        if (cap := spent.limits.get(name)) or amount
    ]
    foretold = spent.foretold.get("time_s", {}).get("expected")
    least = "" if spent.foretold.get("complete") else "at least "
    before = f" (foretold: {least}{show_seconds(foretold)})" if foretold else ""
    return f"spent: {', '.join(shown)}{before}"
