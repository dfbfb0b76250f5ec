"""How far to turn a setting, from the figures of the failure itself, the log, or a plan.

Each function is named in ``catalog/failures/*.toml`` and takes the match of the pattern with what
else the log tells. It returns what it can compute, and ``None`` where it cannot: no amount is
guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from leadline.catalog.reading import read_table
from leadline.diagnose.facts import LogFacts
from leadline.records import Turn
from leadline.units import show_tokens

_UTILIZATION = 0.9
"""vLLM's default of gpu_memory_utilization, in the releases whose plan does not say."""
_SPARE = 0.01
"""Share of a device that is left free beside what was measured: it changes from start to start."""
_STATE_BYTES = 4
"""SGLang's req_to_token: int32 (mem_cache/memory_pool.py)."""
_TABLE_BYTES = 1024**3
_SBUF_BYTES_PER_TOKEN = 2
"""A float32 score row split between two shards (nki-samples attention_token_gen.py)."""
_GIB = 1024**3


@dataclass(frozen=True)
class Advice:
    text: str
    turns: tuple[Turn, ...] = ()


Match = re.Match[str]
Amount = Callable[[Match, LogFacts], Advice | None]


def fit_pool(match: Match, facts: LogFacts) -> Advice | None:
    """Both directions help: vLLM names the longest window, the device the share that is missing."""
    fits = _group(match, "fits") or _group(match, "fits2")
    steps: list[Advice | None] = [_lower("max_model_len", int(fits), facts)] if fits else []
    need, have, total = _group(match, "need"), _group(match, "have"), _device_gib(facts)
    if need and have is not None and total:
        steps.append(_raise_share(facts, (need - have) / total))
    if not steps and (planned := _planned_window(facts)):
        steps.append(_lower("max_model_len", planned, facts))
    return _either([step for step in steps if step])


def grow_pool(_: Match, facts: LogFacts) -> Advice | None:
    """From the plan only: the log says no figure."""
    if facts.plan is None or facts.plan.memory.margin_gib < 0:
        return None
    room = 1 - facts.plan.memory.budget_gib / facts.plan.memory.device_gib
    return _raise_share(facts, room - 2 * _SPARE) if room > 2 * _SPARE else None


def free_at_start(match: Match, _: LogFacts) -> Advice | None:
    free, total, want = (_group(match, name) for name in ("free", "total", "want"))
    if free is None or not total or want is None:
        return None
    share = _floor(free / total - _SPARE)
    held = total - free
    return Advice(
        f"{held:.1f} GiB of {total:g} are held by others, {want - free:.1f} GiB too much: end that "
        f"process, or lower gpu_memory_utilization to {share:g}",
        (Turn(setting="gpu_memory_utilization", way="lower", to=f"{share:g}"),),
    )


def shrink_pool(_: Match, facts: LogFacts) -> Advice | None:
    """The pool must leave what the failed allocation lacked."""
    allocation = facts.out_of_memory
    setting = "mem_fraction_static" if facts.engine == "sglang" else "gpu_memory_utilization"
    share = facts.number(setting) or (_UTILIZATION if facts.shows_arguments else None)
    if not (allocation and allocation.total_gib and allocation.free_gib is not None and share):
        return None
    lower = _floor(share - allocation.short_gib / allocation.total_gib - _SPARE)
    return Advice(
        f"{allocation.tried_gib:.2f} GiB were wanted and {allocation.free_gib:.2f} free: lower "
        f"{setting} from {share:g} to at most {lower:g}",
        (Turn(setting=setting, way="lower", to=f"{lower:g}"),),
    )


def shrink_taken_pool(match: Match, facts: LogFacts) -> Advice | None:
    """Only where the log shows that the pool stood when the allocation failed."""
    return shrink_pool(match, facts) if facts.pool_stood else None


def name_allocation(_: Match, facts: LogFacts) -> Advice | None:
    allocation = facts.out_of_memory
    if not (allocation and allocation.total_gib and allocation.free_gib is not None):
        return None
    return Advice(
        f"{allocation.tried_gib:.2f} GiB were wanted and {allocation.free_gib:.2f} of "
        f"{allocation.total_gib:g} GiB free"
    )


def raise_static(_: Match, facts: LogFacts) -> Advice | None:
    tokens = facts.number("max_total_tokens")
    if tokens is None:
        return None
    return Advice(f"max_total_tokens was given as {show_tokens(int(tokens))}")


def request_table(match: Match, facts: LogFacts) -> Advice | None:
    """``req_to_token`` is rows x (window + 4) int32, on each device."""
    window = facts.number("context_length") or facts.figure("window_tokens")
    if not window:
        return None
    rows = float(match["tried"] or 0) * _GIB / ((window + 4) * _STATE_BYTES)
    fits = max(int(_TABLE_BYTES / ((window + 4) * _STATE_BYTES)), 1)
    return Advice(
        f"the table has {rows:,.0f} rows of {show_tokens(int(window))} tokens: set "
        f"max_running_requests to {fits} for 1 GiB",
        (Turn(setting="max_running_requests", way="lower", to=str(fits)),),
    )


def request_rows(_: Match, facts: LogFacts) -> Advice | None:
    for line in facts.log.lines:
        if rows := re.search(r"available_size\(\)=(\d+).*num_reqs=(\d+)", line.text):
            return Advice(f"{rows[1]} rows were free, {rows[2]} wanted")
    return None


def sbuf_context(match: Match, _: LogFacts) -> Advice | None:
    need, limit = float(match["need"]), float(match["limit"])
    asked = int(need * 1024 / _SBUF_BYTES_PER_TOKEN)
    most = int(limit * 1024 / _SBUF_BYTES_PER_TOKEN) // 256 * 256
    return Advice(
        f"{asked:,} tokens x 2 bytes are {need:g} KB: below {most:,} the row alone fits, and other "
        "tiles share the partition (96K is worth a try)",
        (Turn(setting="max_model_len", way="lower", to=str(most)),),
    )


def bucket_floor(match: Match, _: LogFacts) -> Advice | None:
    unit = int(match["unit"]) * int(match["shards"])
    return Advice(
        f"bucket {match['bucket']} / {match['shards']} shards is no multiple of {match['unit']}: "
        f"every token-generation bucket must be a multiple of {unit}",
        (Turn(setting="token_generation_buckets[0]", way="raise", to=str(unit)),),
    )


def compiler_code(match: Match, _: LogFacts) -> Advice | None:
    code = match["code"].upper().removeprefix("NCC_")
    known = read_table("failures/neuron")["compiler_codes"].get(code)
    if known:
        return Advice(f"{match['code']}: {known[0]}; {known[1]}")
    if code.startswith("I"):
        return Advice(
            f"{match['code']} is an error of the compiler itself, not of the model: another SDK, "
            "other buckets, or a report to AWS"
        )
    return None


def window_of_config(match: Match, facts: LogFacts) -> Advice | None:
    derived = _group(match, "derived")
    return _lower("max_model_len", int(derived), facts) if derived else None


def context_of_config(match: Match, facts: LogFacts) -> Advice | None:
    derived = _group(match, "derived")
    return _lower("context_length", int(derived), facts) if derived else None


def divisors(match: Match, _: LogFacts) -> Advice | None:
    heads, size = _group(match, "heads"), _group(match, "size")
    if not heads or not size:
        return None
    fits = [number for number in range(1, int(heads) + 1) if heads % number == 0]
    below = max((number for number in fits if number < size), default=1)
    return Advice(
        f"{int(heads)} heads are divided by " + ", ".join(map(str, fits)),
        (Turn(setting="tensor_parallel_size", way="lower", to=str(below)),),
    )


def numa_nodes(match: Match, _: LogFacts) -> Advice | None:
    nodes = len(re.findall(r"\d+", match["nodes"]))
    return Advice(
        f"{match['workers']} workers, {nodes} NUMA node(s)",
        (Turn(setting="tensor_parallel_size", way="lower", to=str(nodes)),),
    )


def blocks_found(match: Match, _: LogFacts) -> Advice | None:
    return Advice(f"the memory would have held {show_tokens(int(match['blocks']))} blocks")


def pool_of_log(_: Match, facts: LogFacts) -> Advice | None:
    """The longest request the cache holds: concurrency x window.

    That is right for hybrid models too; the size that the log prints is not (vllm#40691).
    """
    window, times = facts.number("max_model_len"), facts.figure("concurrency")
    if window and times and times < 1:
        held = int(window * times)
    elif not (held := int(facts.figure("kv_tokens") or 0)):
        return None
    return Advice(f"the KV cache holds {show_tokens(held)} tokens of one request at most")


def below_one(match: Match, facts: LogFacts) -> Advice | None:
    window = int(match["window"].replace(",", ""))
    # The printed factor is rounded to two digits: what surely fits is half a digit less.
    held = int(window * (float(match["times"]) - 0.005))
    return _lower("max_model_len", held, facts) if held > 0 else None


def watchdog(_: Match, facts: LogFacts) -> Advice | None:
    return _above_prefill(facts, "watchdog_timeout")


def health_limit(_: Match, facts: LogFacts) -> Advice | None:
    return _above_prefill(facts, "SGLANG_HEALTH_CHECK_TIMEOUT")


def client_limit(match: Match, facts: LogFacts) -> Advice | None:
    limit = _group(match, "limit")
    said = f"the limit was {limit:g} s" if limit else ""
    planned = _above_prefill(facts, "the time limit")
    texts = [text for text in (said, planned.text if planned else "") if text]
    return Advice("; ".join(texts)) if texts else None


def window_of_request(match: Match, _: LogFacts) -> Advice | None:
    sent, limit = (
        next((int(match[name]) for name in names if match[name]), None)
        for names in (("sent", "input", "v0"), ("window", "limit", "context", "allowed"))
    )
    if sent and limit:
        return Advice(f"{show_tokens(sent)} tokens sent, {show_tokens(limit)} allowed")
    return Advice(f"{show_tokens(limit)} tokens are allowed") if limit else None


def body_limit(match: Match, _: LogFacts) -> Advice | None:
    size = _group(match, "bytes")
    if not size:
        return None
    return Advice(f"the body had {size / 1e6:.1f} MB: allow {math.ceil(size / 2**20 * 1.25)} MiB")


def ranks_and_devices(match: Match, facts: LogFacts) -> Advice | None:
    names = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    sizes = {name: int(facts.number(name) or 1) for name in names}
    asked = math.prod(sizes.values())
    gpus = _group(match, "gpus") or _group(match, "rank")
    if asked == 1:
        return None
    product = " x ".join(f"{name} {size}" for name, size in sizes.items() if size > 1)
    has = f", of which {int(gpus)} were there" if gpus else ""
    return Advice(f"{product} wants {asked} devices{has}")


def shm_size(match: Match, facts: LogFacts) -> Advice | None:
    size = _group(match, "size")
    ranks = int(facts.number("tensor_parallel_size") or facts.number("tp_size") or 1)
    if not size:
        return None
    return Advice(
        f"a segment of {size / 2**20:.0f} MiB was wanted"
        + (f" by each of {ranks} ranks" if ranks > 1 else "")
    )


def name_environment(match: Match, _: LogFacts) -> Advice | None:
    module = match["module"]
    if module.startswith("xllamacpp"):
        return Advice("pip install 'leadline[embedded]' for the embedded llama.cpp")
    return Advice(f"{module} is missing")


def _device_gib(facts: LogFacts) -> float | None:
    if facts.plan:
        return facts.plan.memory.device_gib
    return facts.out_of_memory.total_gib if facts.out_of_memory else None


def _planned_window(facts: LogFacts) -> int | None:
    return facts.plan.limits.max_startable_len if facts.plan else None


def _above_prefill(facts: LogFacts, setting: str) -> Advice | None:
    if not (facts.plan and facts.plan.time):
        return None
    limit = math.ceil(facts.plan.time.timeout_s)
    return Advice(
        f"the plan foretells up to {facts.plan.time.prefill_s.high:.0f} s for the longest prompt: "
        f"raise {setting} to {limit} s",
        (Turn(setting=setting, way="raise", to=str(limit)),),
    )


def _lower(setting: str, most: int, facts: LogFacts) -> Advice:
    asked = facts.number(setting)
    from_asked = f" from {show_tokens(int(asked))}" if asked else ""
    return Advice(
        f"lower {setting}{from_asked} to at most {show_tokens(most)}",
        (Turn(setting=setting, way="lower", to=str(most)),),
    )


def _raise_share(facts: LogFacts, missing: float) -> Advice | None:
    """None where the whole device would not do."""
    share = facts.number("gpu_memory_utilization") or _UTILIZATION
    wanted = math.ceil((share + missing) * 100) / 100
    if wanted > 1 - 2 * _SPARE:
        return None
    return Advice(
        f"raise gpu_memory_utilization from {share:g} to {wanted:g}",
        (Turn(setting="gpu_memory_utilization", way="raise", to=f"{wanted:g}"),),
    )


def _either(steps: list[Advice]) -> Advice | None:
    if not steps:
        return None
    turns = tuple(turn for step in steps for turn in step.turns)
    return Advice(", or ".join(step.text for step in steps), turns)


def _group(match: Match, name: str) -> float | None:
    text = match.groupdict().get(name)
    return float(text) if text else None


def _floor(share: float) -> float:
    return max(math.floor(share * 100) / 100, 0.01)


AMOUNTS: dict[str, Amount] = {
    amount.__name__: amount
    for amount in (
        below_one,
        blocks_found,
        body_limit,
        bucket_floor,
        client_limit,
        compiler_code,
        context_of_config,
        divisors,
        fit_pool,
        free_at_start,
        grow_pool,
        health_limit,
        name_allocation,
        name_environment,
        numa_nodes,
        pool_of_log,
        raise_static,
        ranks_and_devices,
        request_rows,
        request_table,
        sbuf_context,
        shm_size,
        shrink_pool,
        shrink_taken_pool,
        watchdog,
        window_of_config,
        window_of_request,
    )
}
