"""What the plan says of a search before its first run: how far it goes, and which levels count.

Of the plan where there is one: of the GGUF file, or of model, hardware and engine. Else of what the
server says of itself once it is up. A gate on the time to the first token shortens it to what the
probes made so far foretell.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from leadline.campaign.serving import Served
from leadline.engines.engine import Engine, load_engine
from leadline.errors import PlanError, SpecError
from leadline.plan.campaign_plans import plan_cell
from leadline.plan.local_memory import LocalPlan
from leadline.plan.neuron_buckets import list_buckets
from leadline.plan.neuron_settings import read_buckets, read_mapping
from leadline.plan.time import PrefillModel
from leadline.spec import Campaign, Cell, Search, level_cell
from leadline.units import parse_tokens, show_tokens

_MOST_USERS = 4096
_SHARE = 100
"""The default resolution is the plan's answer divided by this."""


class Foretold(NamedTuple):
    level: int
    source: str


class Known(NamedTuple):
    """All that is known when a search begins."""

    campaign: Campaign
    search: Search
    cell: Cell
    """On the deployment as it stands, without its level."""
    local: LocalPlan | None
    served: Served | None
    """``None`` before anything is started."""
    times: PrefillModel

    @property
    def engine(self) -> Engine:
        return self.served.engine if self.served else load_engine(self.name)

    @property
    def name(self) -> str:
        return self.cell.settings.engine_name or "openai"

    @property
    def users(self) -> int:
        return (self.cell.workload.load.users or 1) if self.cell.workload.load else 1

    @property
    def output_tokens(self) -> int:
        return self.cell.workload.longest_output

    @property
    def reserve_tokens(self) -> int:
        """What a prompt leaves free: its answer, and what the engine keeps back."""
        engine = self.engine
        return max(self.output_tokens + engine.reserve_tokens, engine.prompt_reserve_tokens)

    @property
    def input_tokens(self) -> int | None:
        """Of a search over users."""
        asked = self.cell.workload.longest_input
        if asked != "max":
            return asked
        return self.served.max_input_tokens(self.output_tokens) if self.served else None

    def number(self, setting: str | None, default: int = 1) -> int:
        value = self.cell.settings.settings.get(setting or "", default)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    @property
    def seats(self) -> int:
        return self.number(self.engine.seats_setting)

    @property
    def is_pooled(self) -> bool:
        return bool(self.cell.settings.settings.get(self.engine.pooled_setting or ""))


def open_search(known: Known) -> dict[str, Any]:
    """The facts of ``search_opened``: levels, start and what foretold it.

    ``SpecError`` where nothing does, and the campaign does not say either.
    """
    search = known.search
    found = foretell(known)
    levels = list_levels(known, found)
    hint = found.level if found else None
    start, gate = _within_time(known, levels, hint)
    step = levels.step if isinstance(levels, range) else 1
    return {
        "levels": None if isinstance(levels, range) else list(levels),
        "lowest": levels[0],
        "highest": levels[-1],
        "step": step,
        "start": start,
        "foretold": hint,
        "source": f"{found.source}{gate}" if found else f"the middle of what is allowed{gate}",
        "resolution": search.resolution or _resolution(search, start, step),
        "beside": known.users if search.maximise == "input_tokens" else known.input_tokens or 0,
    }


def foretell(known: Known) -> Foretold | None:
    """The largest level that memory and window allow, by the best source there is."""
    for source in (_of_file, _of_plan, _of_server):
        found = source(known)
        if found and found.level > 0:
            return found
    return None


def fit_window(known: Known, level: int) -> dict[str, int]:
    """The window setting that just holds prompts of that length, rounded as the engine does."""
    engine = known.engine
    if engine.window_setting is None:
        raise SpecError(
            f"the window of {engine.name} has no setting that could follow",
            where="search.window",
            cure="leave window: follows out",
        )
    each = _round_up(level + known.reserve_tokens, engine.window_step)
    if engine.pooled_setting is None:
        return {engine.window_setting: each}
    parts = known.users if known.is_pooled else known.seats
    total = (level + known.reserve_tokens) * parts if known.is_pooled else each * parts
    return {engine.window_setting: _round_up(total, engine.window_step)}


def _of_file(known: Known) -> Foretold | None:
    """llama.cpp on this machine: what the slots share, or what memory holds."""
    plan = known.local
    if plan is None or not plan.terms or not plan.window_tokens:
        return None
    follows = known.search.window == "follows"
    pool = _memory_tokens(plan) if follows else plan.window_tokens
    what = "the memory that is free" if follows else f"ctx_size {show_tokens(pool)}"
    if known.search.maximise == "concurrency":
        return _seats_of_pool(known, pool, what)
    parts = known.users if known.is_pooled else known.seats
    each = pool // parts
    if follows and plan.trained_tokens and each > plan.trained_tokens:
        each, what = plan.trained_tokens, "the length that the model was trained for"
    shared = f", shared by {parts}" if parts > 1 else ""
    left = f"less {show_tokens(known.reserve_tokens)} of output"
    return Foretold(each - known.reserve_tokens, f"the plan: {what}{shared}, {left}")


def _memory_tokens(plan: LocalPlan) -> int:
    """What is free, less the weights, by the size of one token."""
    weights, cache = plan.terms[0].size_bytes, plan.terms[1].size_bytes
    free = (plan.available_bytes or 0) - weights
    return max(free, 0) * (plan.window_tokens or 1) // max(cache, 1)


def _seats_of_pool(known: Known, pool: int, what: str) -> Foretold:
    if not known.is_pooled or not known.input_tokens:
        return Foretold(known.seats, f"the plan: {known.engine.seats_setting} {known.seats}")
    each = known.input_tokens + known.reserve_tokens
    fitting = pool // each
    if fitting >= known.seats:
        return Foretold(known.seats, f"the plan: {known.engine.seats_setting} {known.seats}")
    return Foretold(fitting, f"the plan: {what} by {show_tokens(each)} of each request")


def _of_plan(known: Known) -> Foretold | None:
    """Model, hardware and engine: the ledger's own limits."""
    try:
        plan = plan_cell(known.campaign, _unbound(known))
    except PlanError:
        return None
    where = f"{plan.engine} on {plan.hardware}"
    if known.search.maximise == "concurrency":
        return Foretold(plan.limits.concurrent_requests, f"the plan of {where}: {plan.verdict}")
    if known.search.window == "follows":
        longest = min(plan.limits.max_startable_len, plan.limits.trained_context)
        found = longest - known.reserve_tokens
        return Foretold(found, f"the plan of {where}: the longest window with which it starts")
    if known.users == 1:
        source = f"the plan of {where}: the longest prompt"
        return Foretold(plan.limits.max_input_tokens, source)
    lengths = range(1, plan.limits.max_input_tokens + 1)
    longest = bisect_left(lengths, True, key=lambda tokens: not _holds(known, tokens))
    source = f"the plan of {where}: the longest of which {known.users} fit at once"
    return Foretold(longest, source)


def _holds(known: Known, tokens: int) -> bool:
    cell = level_cell(known.search, known.cell, tokens)
    return plan_cell(known.campaign, cell).limits.concurrent_requests >= known.users


def _unbound(known: Known) -> Cell:
    """For a window that follows, the deployment without one."""
    if known.search.window == "fixed":
        return known.cell
    deployment = known.cell.settings
    kept = {
        name: value
        for name, value in deployment.settings.items()
        if name != known.engine.window_setting
    }
    return known.cell.model_copy(
        update={"settings": deployment.model_copy(update={"settings": kept})}
    )


def _of_server(known: Known) -> Foretold | None:
    """What it says of itself: its window, the size of its KV cache."""
    if known.served is None:
        return None
    held = known.served.words.figures.get("kv_tokens")
    pool = held if isinstance(held, int) else known.served.pool_tokens
    if known.search.maximise == "concurrency":
        if pool is None or not known.input_tokens:
            return Foretold(1, "nothing is known of its KV cache: one user")
        each = known.input_tokens + known.reserve_tokens
        said = f"its own KV cache of {show_tokens(pool)} tokens by {show_tokens(each)} each"
        return Foretold(max(pool // each, 1), said)
    longest = known.served.max_input_tokens(known.output_tokens)
    if longest is None:
        return None
    if pool is not None and pool // known.users - known.reserve_tokens < longest:
        said = f"its own KV cache of {show_tokens(pool)} tokens, by {known.users}"
        return Foretold(pool // known.users - known.reserve_tokens, said)
    return Foretold(longest, "the server's own window, less the output")


def list_levels(known: Known, found: Foretold | None) -> Sequence[int]:
    """All that may be asked, rising: the campaign's own, buckets, or whole blocks of the cache."""
    search, low = known.search, known.search.low or 1
    high = search.high or (2 * found.level if found else None)
    if search.levels:
        levels: Sequence[int] = [n for n in search.levels if low <= n <= (search.high or n)]
    elif high is None:
        raise SpecError(
            "nothing foretells how far this goes: neither a plan nor the server",
            where="search",
            cure="give search.high, or hardware and the engine's version for a plan",
        )
    elif search.maximise == "concurrency":
        levels = range(low, min(high, _MOST_USERS) + 1)
    else:
        levels = _buckets(known, low, high) or _whole_blocks(known, low, high)
    return levels or _refuse_empty(low, high)


def _refuse_empty(low: int, high: int | None) -> NoReturn:
    raise SpecError(
        f"no level lies between {show_tokens(low)} and {show_tokens(high or 0)}",
        where="search",
        cure="give a larger search.high, or a smaller search.low",
    )


def _whole_blocks(known: Known, low: int, high: int) -> range:
    """With their output they fill whole blocks: what lies between takes as much memory."""
    block = known.engine.window_step if known.search.window == "follows" else 1
    if known.served:
        block = max(block, known.served.block_tokens or 1)
    first = _round_up(low + known.reserve_tokens, block) - known.reserve_tokens
    return range(first, high + 1, block)


def _buckets(known: Known, low: int, high: int) -> list[int]:
    """Neuron reads a prompt in the next larger bucket that was compiled: only those differ."""
    if known.name != "neuron":
        return []
    settings = known.cell.settings.settings
    window = parse_tokens(settings.get("max_model_len", high))  # type: ignore[arg-type]
    additional = read_mapping(settings.get("additional_config"), "additional_config")
    override = read_mapping(additional.get("override_neuron_config"), "override_neuron_config")
    found = read_buckets(override, window, window, caching=False).context
    longest = window - known.reserve_tokens
    return sorted({min(n, longest) for n in found or list_buckets(128, window) if low <= n})


def _within_time(known: Known, levels: Sequence[int], hint: int | None) -> tuple[int, str]:
    """Where to start, and what shortened it: no further than the time gate is foretold to allow."""
    middle = levels[len(levels) // 2]
    most = max(bisect_right(levels, middle if hint is None else hint), 1)
    limit_s = _time_limit_s(known)
    if limit_s is None or not known.times.probes:
        return levels[most - 1], ""
    inside = bisect_left(
        range(most), True, key=lambda n: (_first_token_s(known, levels[n]) or 0.0) > limit_s
    )
    if inside >= most:
        return levels[most - 1], ""
    gate = f"; the first token within {limit_s:g} s, as predicted from this server's first probes"
    return levels[max(inside - 1, 0)], gate


def _time_limit_s(known: Known) -> float | None:
    gate, load = known.campaign.gates.ttft_s, known.cell.workload.load
    limits = [load.goals.ttft_s] if load else []
    if gate and not gate.times_plan and gate.op in ("<", "<="):
        limits.append(gate.number)
    return min((limit for limit in limits if limit is not None), default=None)


def _first_token_s(known: Known, level: int) -> float | None:
    """Of the last of all users, who waits while the others are read."""
    tokens, users = level, known.users
    if known.search.maximise == "concurrency":
        tokens, users = known.input_tokens or 1, level
    prediction = known.times.predict(tokens)
    return prediction.expected * users if prediction else None


def _resolution(search: Search, start: int, step: int) -> int:
    return 1 if search.maximise == "concurrency" else max(start // _SHARE, step)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
