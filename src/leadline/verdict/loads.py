"""The verdict of a cell with a load or a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from leadline.engines.engine import Engine
from leadline.metrics.load_verdict import LoadVerdict
from leadline.metrics.statistics import Quantiles, Spread
from leadline.metrics.sweep import SweepStep, SweepVerdict, judge_sweep
from leadline.prove.cached import CacheUse, judge_cache
from leadline.prove.structural import prove_cold
from leadline.records import Record
from leadline.spec import Campaign, Cell
from leadline.units import show_tokens
from leadline.verdict.facts import Facts, LoadFacts
from leadline.verdict.gates import check_gates, judge_gates
from leadline.verdict.schema import CellVerdict, Conclusion
from leadline.verdict.trials import failure_of, incomplete, ruled_out


def judge_load_cell(cell: Cell, campaign: Campaign, facts: Facts) -> CellVerdict:
    """Of a sweep, status and gates are those of its largest load that passed."""
    loads = facts.loads(cell.key)
    judged = [load.judge() for load in loads]
    sweep = _judge_sweep(cell, judged)
    load = sweep.chosen if sweep else next(iter(judged), None)
    asked = cell.workload.longest_input
    verdict = CellVerdict(
        cell=cell.key,
        deployment=cell.deployment,
        input_tokens=asked if isinstance(asked, int) else None,
        status="skipped",
        repeats=1,
        expected=cell.settings.expect,
        is_load=True,
        ttft_s=_range(load.ttft_s if load else None),
        tpot_s=_range(load.tpot_s if load else None),
        e2e_s=_range(load.e2e_s if load else None),
        load=load,
        sweep=sweep,
        cache=_judge_cache(loads, judged, load, facts.engine(cell.deployment)),
    )
    gated = verdict.model_copy(update={"gates": check_gates(verdict, campaign)})
    records = [record for load in loads for record in load.records]
    status, cause, reason = _conclude_load(cell, gated, records, facts)
    return gated.model_copy(update={"status": status, "cause": cause, "reason": reason})


def _judge_sweep(cell: Cell, judged: list[LoadVerdict]) -> SweepVerdict | None:
    spec = cell.workload.load.sweep if cell.workload.load else None
    if spec is None or not judged:
        return None
    levels = [getattr(load.load, spec.unit) for load in judged]
    steps = [SweepStep(level=n, load=load) for n, load in zip(levels, judged, strict=True)]
    return judge_sweep(spec, steps)


def _judge_cache(
    loads: Sequence[LoadFacts],
    judged: Sequence[LoadVerdict],
    chosen: LoadVerdict | None,
    engine: Engine,
) -> CacheUse | None:
    if chosen is None:
        return None
    grown = chosen.server.grown if chosen.server else {}
    return judge_cache(loads[judged.index(chosen)].records, engine, grown)


def _range(found: Quantiles | None) -> Spread | None:
    if found is None:
        return None
    return Spread(n=found.n, median=found.p50, low=found.low, high=found.high)


def _conclude_load(
    cell: Cell, verdict: CellVerdict, records: list[Record], facts: Facts
) -> Conclusion:
    if refused := ruled_out(cell, verdict, facts):
        return refused
    if verdict.load is None:
        untried = incomplete(verdict, facts) or ("skipped", "not-run", "")
        return failure_of(cell, verdict, facts) or untried
    return (
        _unanswered(cell, verdict, facts)
        or _warm(cell, records, facts.engine(cell.deployment))
        or _not_as_shared(verdict.cache)
        or judge_gates(verdict)
        or ("pass", "", "")
    )


def _unanswered(cell: Cell, verdict: CellVerdict, facts: Facts) -> Conclusion | None:
    load, sweep = verdict.load, verdict.sweep
    assert load is not None  # noqa: S101
    if sweep and sweep.steps[-1].load.strain is None:
        return "inconclusive", "interrupted", "the sweep was interrupted"
    if sweep and sweep.largest is not None:
        return None  # what larger steps did is the result, not a failure
    if load.status == "inconclusive":
        cause = "interrupted" if load.strain is None else "client-bound"
        return "inconclusive", cause, load.reason
    if load.status == "fail":
        finding = facts.finding(cell)
        cause = finding.cause if finding else next(iter(load.failures))
        return "fail", cause, load.reason
    if sweep:
        return "fail", "goals", f"not even the smallest load is within the goals: {load.load}"
    return None


def _warm(cell: Cell, records: list[Record], engine: Engine) -> Conclusion | None:
    if not cell.workload.cold:
        return None
    alone = [record for record in records if record.sent.cached_tokens is None]
    answered = [record for record in alone if record.exchange.failure is None]
    proofs = [prove_cold(record, engine) for record in answered]
    warm = [proof.observed for proof in proofs if proof.outcome == "fail"]
    if not warm:
        return None
    return (
        "inconclusive",
        "warm-cache",
        f"the cache answered in {len(warm)} of {len(answered)} requests, first: {warm[0]}",
    )


def _not_as_shared(cache: CacheUse | None) -> Conclusion | None:
    """A warm study whose cache was not as warm as asked measures something else."""
    if cache is None or cache.is_as_asked:
        return None
    if cache.cached_tokens is None:
        silent = "the server does not tell how many prompt tokens it found in its cache"
        return "inconclusive", "unproven-cache", f"{silent} (vLLM: --enable-prompt-tokens-details)"
    what = f"{show_tokens(cache.cached_tokens)} prompt tokens came from the cache, expected were "
    first = f"; {cache.differing} requests differ, first: {cache.example}" if cache.example else ""
    expected = show_tokens(cache.expected_tokens)
    return "inconclusive", "warm-cache", f"{what}{expected}{first}"
