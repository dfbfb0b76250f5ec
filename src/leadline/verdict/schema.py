"""What is said of a run: of each trial, cell and deployment."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from leadline.metrics.intervals import Estimate, Summary
from leadline.metrics.load_verdict import LoadVerdict
from leadline.metrics.measures import Measures
from leadline.metrics.outliers import Outlier
from leadline.metrics.sampling import ServerSummary
from leadline.metrics.statistics import Proportion, Spread
from leadline.metrics.sweep import SweepVerdict
from leadline.prove.cached import CacheUse
from leadline.prove.structural import Proof
from leadline.records import EngineWords, Finding, Record
from leadline.spec import Expectation
from leadline.verdict.search_schema import SearchVerdict

Status = Literal["pass", "fail", "infeasible", "inconclusive", "skipped"]
Measure = Literal["ttft_s", "tpot_s", "e2e_s"]
Conclusion = tuple[Status, str, str]
"""(status, cause, reason)."""

# Causes that lie in the machinery rather than in the result: exit code 2.
INFRASTRUCTURE = frozenset(
    {
        "aborted", "bad_option", "crashed", "disconnected", "engine_missing",
        "image_missing", "library_missing", "name_taken", "no_device", "no_gpu",
        "program_missing", "restart_loop", "shm",
        "exceeds_trained_context",
        "hang", "invalid_parallelism", "malformed", "model_invalid", "model_missing", "oom",
        "port_in_use", "stalled", "start_failed", "start_timeout", "stream_error", "unknown",
        "unreachable",
    }
)  # fmt: skip


NOT_SELECTED = "not-selected"
"""Cause of a cell that was left out by ``--only``."""


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class GateResult(_Result):
    name: str
    limit: str
    value: float | None
    passed: bool | None
    """``None``: there is nothing to compare."""


class Trial(_Result):
    number: int
    record: Record
    measures: Measures
    proofs: tuple[Proof, ...]
    found: tuple[bool, ...]

    @property
    def sound(self) -> bool:
        """A failed request has no proofs, and is not sound for that."""
        return bool(self.proofs) and all(proof.outcome == "pass" for proof in self.proofs)


class CellVerdict(_Result):
    cell: str
    deployment: str
    input_tokens: int | None
    status: Status
    cause: str = ""
    reason: str = ""
    trials: tuple[Trial, ...] = ()
    repeats: int
    expected: Expectation | None = None
    """What the campaign says that it comes to."""
    is_load: bool = False
    predicted_ttft_s: dict[str, float] | None = None
    """Made before the cell ran: low, expected, high."""
    gates: tuple[GateResult, ...] = ()
    recall: Proportion | None = None
    ttft_s: Spread | None = None
    tpot_s: Spread | None = None
    e2e_s: Spread | None = None
    prefill_tokens_per_s: Spread | None = None
    decode_tokens_per_s: Spread | None = None
    statistics: dict[str, Summary] = {}
    """Percentiles and means by measure, each trial one group; intervals where there are enough."""
    outliers: tuple[Outlier, ...] = ()
    """Of ten trials or more, those far from the others; all are part of every figure."""
    server: ServerSummary | None = None
    """What the server's own metrics said during its trials; a load has its own."""
    load: LoadVerdict | None = None
    """Of a cell with a load; of a sweep, its largest step that passed, else its smallest."""
    sweep: SweepVerdict | None = None
    cache: CacheUse | None = None
    """Of that load, where its prompts share text on purpose."""

    @property
    def as_expected(self) -> bool | None:
        """None: nothing was expected, or the cell is not decided."""
        if self.expected is None or self.status in ("inconclusive", "skipped"):
            return None
        if self.status == "pass" or self.expected.verdict == "pass":
            return self.status == self.expected.verdict
        # The plan rules out in words of its own, before there is anything to see.
        return self.status == "infeasible" or self.expected.cause in ("", self.cause)

    @property
    def is_good(self) -> bool:
        """It came as expected; where nothing is expected, it passed."""
        return bool(self.as_expected) if self.expected else self.status == "pass"

    @property
    def is_trouble(self) -> bool:
        """It failed by machinery; a load did if nothing at all was answered."""
        if self.is_load:
            return self.status == "fail" and not (self.load and self.load.answered)
        return self.status == "fail" and self.cause in INFRASTRUCTURE

    @property
    def sound(self) -> bool:
        """Every repeat was made and every structural proof holds, whatever the gates say."""
        complete = len(self.trials) == self.repeats
        return complete and all(trial.sound for trial in self.trials)


class DeploymentVerdict(_Result):
    key: str
    engine: str | None
    model: str | None
    window_tokens: int | None
    start_s: float | None
    starts: int
    limits: tuple[Proof, ...]
    qualified_tokens: int | None
    """Longest prompt up to which every tested length is structurally sound."""
    effective_tokens: int | None
    """Longest prompt up to which the model's recall stays at 85.6 % or above (RULER)."""
    words: EngineWords | None = None
    """What the engine said of itself at its last start, beside what was asked and foretold."""
    is_offline: bool = False
    """A script loaded it; ``start_s`` is the time to load and compile."""
    image: str | None = None
    """Digest of the image that it ran from."""
    lengths_tested: bool
    """Any length was tried alone; loads prove none."""
    recall_tested: bool
    """Any needle was asked for; without one there is nothing to say of the model."""

    @property
    def started(self) -> bool:
        return self.starts > 0


class Ratio(_Result):
    """``deployment`` divided by ``baseline``: below 1 it is faster."""

    workload: str
    baseline: str
    deployment: str
    measure: Measure
    pairs: int = 0
    ratio: Estimate | None = None
    lowest: float | None = None
    highest: float | None = None
    """Of the single pairs."""
    refused: str = ""
    """Why the two are not comparable."""


class TtftCost(_Result):
    """The same prompts on two targets."""

    input_tokens: int | None
    prompts: int
    ttft_s: tuple[Spread, Spread]
    difference_s: Estimate
    """Median over the prompts, the second target's less the first's."""

    @property
    def told_apart(self) -> bool:
        """Whether the interval holds no zero."""
        low, high = self.difference_s.low, self.difference_s.high
        return low is not None and high is not None and low * high > 0


class TargetCost(_Result):
    """Two deployments that differ by their target alone."""

    deployments: tuple[str, str]
    targets: tuple[str, str]
    start_s: tuple[float | None, float | None]
    ttft: tuple[TtftCost, ...]


class Spending(_Result):
    """What the run has taken so far, and of what."""

    time_s: float
    device_hours: float
    usd: float | None = None
    """At the prices of the budget of its last start; ``None`` without one."""
    limits: dict[str, float] = {}
    """The budget of its last start, by amount."""
    foretold: dict[str, Any] = {}
    """The estimate that its first start was shown."""


class RunVerdict(_Result):
    run_id: str
    campaign: str
    started: str
    finished: bool
    seed: int | None
    cells: tuple[CellVerdict, ...]
    deployments: tuple[DeploymentVerdict, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    comparisons: tuple[Ratio, ...] = ()
    target_costs: tuple[TargetCost, ...] = ()
    searches: tuple[SearchVerdict, ...] = ()
    spent: Spending | None = None

    @property
    def exit_code(self) -> int:
        """0 all passed, or failed as expected; 2 if machinery failed; 1 if anything else did not
        qualify. What nobody asked for does not count.

        Of searches: 0 if each found its limit. What fails above a limit is part of the answer.
        """
        if self.searches:
            return self._search_code()
        asked = [cell for cell in self.cells if cell.cause != NOT_SELECTED]
        if any(cell.is_trouble and not cell.is_good for cell in asked):
            return 2
        limits = [proof.outcome for item in self.deployments for proof in item.limits]
        if all(cell.is_good for cell in asked) and "fail" not in limits:
            return 0
        return 1

    def _search_code(self) -> int:
        if all(item.ending == "found" and item.is_monotone for item in self.searches):
            return 0
        failed = [cell for cell in self.cells if cell.status != "pass"]
        empty = any(item.ending in ("nothing passes", "not started") for item in self.searches)
        return 2 if empty and any(cell.is_trouble for cell in failed) else 1
