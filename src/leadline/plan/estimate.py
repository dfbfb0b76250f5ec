"""What a run will take: by what was measured of its deployments before, else by the plan.

A prediction, and never more than its parts: what nobody can foretell is named, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from leadline.plan.campaign_plans import CellPlan, plan_longest
from leadline.plan.schema import Plan, Time
from leadline.plan.startup import estimate_start
from leadline.plan.time import Prediction, PrefillModel
from leadline.spec import Budget, Campaign, Cell
from leadline.units import show_seconds

Source = Literal["measured", "plan", "unknown"]
_NOTHING = Prediction(0, 0, 0)


class Seen(NamedTuple):
    """What earlier requests to a deployment say of it."""

    times: PrefillModel
    start_s: float | None = None
    """Of its last start."""


class CellEstimate(NamedTuple):
    plan: CellPlan
    trials: int
    """Still to be made."""
    seconds: Prediction | None
    """All of them, one after the other; ``None``: nobody knows."""
    source: Source
    at_least: bool = False
    """A load: its prefills alone, for answers overlap."""

    @property
    def cell(self) -> Cell:
        return self.plan.cell


class StartEstimate(NamedTuple):
    """What a deployment takes beside its trials: its start, and one prompt at the limit."""

    deployment: str
    devices: int | None
    seconds: Prediction | None


class Estimate(NamedTuple):
    cells: tuple[CellEstimate, ...]
    """That are to be made now; those that the plan rules out are not among them."""
    starts: tuple[StartEstimate, ...]
    together: bool
    """All deployments are up at once."""
    is_search: bool = False
    """Its questions follow from its answers: nobody can foretell them."""

    @property
    def trials(self) -> int:
        return sum(cell.trials for cell in self.cells)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Keys of the cells that nobody can foretell."""
        return tuple(entry.cell.key for entry in self.cells if entry.seconds is None)

    @property
    def is_complete(self) -> bool:
        """Nothing is left out of the sums."""
        return not (self.is_search or self.unknown) and not any(
            entry.at_least for entry in self.cells
        )

    @property
    def time_s(self) -> Prediction:
        return _sum([*(entry.seconds for entry in self.cells), *(s.seconds for s in self.starts)])

    @property
    def device_s(self) -> float:
        """Devices wait while others work, where all are up at once."""
        if self.together:
            return self.time_s.expected * sum(start.devices or 0 for start in self.starts)
        return sum(self._busy_s(start) * (start.devices or 0) for start in self.starts)

    def usd(self, budget: Budget) -> float | None:
        return budget.price_usd(self.time_s.expected, self.device_s)

    def amounts(self, budget: Budget) -> dict[str, float | None]:
        """By their names in a budget."""
        return {
            "time": self.time_s.expected,
            "device_hours": self.device_s / 3600,
            "usd": self.usd(budget),
        }

    def _busy_s(self, start: StartEstimate) -> float:
        own = [e.seconds for e in self.cells if e.cell.deployment == start.deployment]
        return _sum([start.seconds, *own]).expected


def estimate_run(
    campaign: Campaign,
    plans: Iterable[CellPlan],
    owed: Mapping[str, int],
    seen: Mapping[str, Seen],
) -> Estimate:
    """``owed``: trials still to be made, by cell; ``seen``: by deployment variant."""
    if campaign.search:
        return Estimate((), (), together=False, is_search=True)
    wanted = [plan for plan in plans if owed.get(plan.cell.key)]
    cells = [_estimate_cell(plan, owed[plan.cell.key], seen) for plan in wanted]
    variants: dict[str, list[CellPlan]] = {}
    for plan in wanted:
        variants.setdefault(plan.cell.deployment, []).append(plan)
    starts = [_estimate_start(campaign, key, own, seen) for key, own in variants.items()]
    return Estimate(tuple(cells), tuple(starts), campaign.order == "interleaved")


def describe_estimate(estimate: Estimate, budget: Budget) -> dict[str, Any]:
    """As JSON: what a journal keeps, and ``--dry-run --json`` shows."""
    time = estimate.time_s
    return {
        "trials": estimate.trials,
        "starts": len(estimate.starts),
        "time_s": {"low": time.low, "expected": time.expected, "high": time.high},
        "device_hours": estimate.device_s / 3600,
        "usd": estimate.usd(budget),
        "complete": estimate.is_complete,
        "unknown": list(estimate.unknown),
    }


def find_excess(budget: Budget, estimate: Estimate) -> Iterator[str]:
    """Why somebody should be asked first. A cap is as good as an estimate: no more is taken."""
    for name, limit in budget.ask_above:
        cap = getattr(budget, name)
        if limit is None or (cap is not None and cap <= limit):
            continue
        amount = estimate.amounts(budget)[name] or 0.0
        asked = f"budget.ask_above.{name} is {show_amount(name, limit)}"
        if amount > limit:
            yield f"about {show_amount(name, amount)} are foretold, {asked}"
        elif not estimate.is_complete:
            yield f"nobody can say how much it will take, {asked}"


def show_amount(name: str, amount: float) -> str:
    """An amount of a budget, by its name there."""
    if name == "time":
        return show_seconds(amount)
    return f"{amount:.2f} USD" if name == "usd" else f"{amount:.3g} device hours"


def _estimate_cell(plan: CellPlan, trials: int, seen: Mapping[str, Seen]) -> CellEstimate:
    cell = plan.cell
    one, source = _one_request(plan, cell.deployment, seen)
    if one is None:
        return CellEstimate(plan, trials, None, "unknown")
    if cell.workload.load is None:
        return CellEstimate(plan, trials, _scale(one.whole, trials), source)
    if cell.workload.load.trace or not isinstance(cell.workload.input_tokens, int | str):
        return CellEstimate(plan, trials, None, "unknown")
    return CellEstimate(
        plan, trials, _scale(one.prefill, cell.workload.load.count), source, at_least=True
    )


class _One(NamedTuple):
    """One request alone."""

    prefill: Prediction
    whole: Prediction


def _one_request(
    plan: CellPlan, deployment: str, seen: Mapping[str, Seen]
) -> tuple[_One | None, Source]:
    known = seen.get(deployment)
    tokens, output_tokens = _lengths(plan)
    if known and tokens and (prefill := known.times.predict(tokens)):
        decode_s = known.times.predict_decode_s(output_tokens)
        return _One(prefill, Prediction(*(seconds + decode_s for seconds in prefill))), "measured"
    if isinstance(plan.plan, Plan) and plan.plan.time:
        return _planned(plan.plan.time, output_tokens), "plan"
    return None, "unknown"


def _planned(time: Time, output_tokens: int) -> _One:
    prefill, token = time.prefill_s, time.decode_token_s
    names = ("low", "expected", "high")
    alone = Prediction(*(getattr(prefill, name) for name in names))
    decode = (getattr(token, name) * output_tokens for name in names)
    return _One(
        alone, Prediction(*(first + rest for first, rest in zip(alone, decode, strict=True)))
    )


def _lengths(plan: CellPlan) -> tuple[int | None, int]:
    """The prompt in tokens, if it can be said before a server says it; and the output."""
    asked, output_tokens = plan.cell.workload.longest_input, plan.cell.workload.longest_output
    if asked != "max":
        return asked, output_tokens
    if isinstance(plan.plan, Plan):
        return plan.plan.limits.max_input_tokens, output_tokens
    window = plan.plan.window_tokens if plan.plan else None
    return window - output_tokens if window else None, output_tokens


def _estimate_start(
    campaign: Campaign, key: str, plans: Sequence[CellPlan], seen: Mapping[str, Seen]
) -> StartEstimate:
    devices = next((plan.devices for plan in plans if plan.devices is not None), None)
    parts = [_start(plans, seen.get(key)), _edge(campaign, key, plans, seen)]
    return StartEstimate(key, devices, _sum(parts) if any(parts) else None)


def _start(plans: Sequence[CellPlan], known: Seen | None) -> Prediction | None:
    if plans[0].cell.settings.target.kind == "endpoint":
        return _NOTHING
    if known and known.start_s is not None:
        return Prediction(*(3 * [known.start_s]))
    planned = next((plan.plan for plan in plans if isinstance(plan.plan, Plan)), None)
    found = estimate_start(planned) if planned else None
    return Prediction(found.low, found.expected, found.high) if found else None


def _edge(
    campaign: Campaign, key: str, plans: Sequence[CellPlan], seen: Mapping[str, Seen]
) -> Prediction | None:
    """The prompt of exactly the longest length, where no cell is that."""
    singles = [plan for plan in plans if not plan.cell.is_load]
    wanted = any(plan.cell.workload.limit_probes for plan in singles)
    if not wanted or any(plan.cell.workload.longest_input == "max" for plan in singles):
        return None
    longest = plan_longest(campaign, singles[0])
    one, _ = _one_request(longest, key, seen)
    return one.whole if one else None


def _scale(prediction: Prediction, times: int) -> Prediction:
    return Prediction(*(seconds * times for seconds in prediction))


def _sum(parts: Iterable[Prediction | None]) -> Prediction:
    known = [part for part in parts if part]
    return Prediction(*(sum(values) for values in zip(*known, strict=True))) if known else _NOTHING
