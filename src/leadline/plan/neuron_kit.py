"""The record of one kit beside our prediction, row by row, with how each is known.

No row is a blind test: a calibrated constant has seen these rows, a recorded rule is nothing but
them, and first principles apply only given that the kernel was on, which the errors told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from leadline.catalog.reading import read_table
from leadline.plan.architecture import load_model
from leadline.plan.hardware import parse_hardware
from leadline.plan.ledger import Kind
from leadline.plan.neuron_checks import uses_odd_batch
from leadline.plan.neuron_notes import ODD_BATCH, list_doubts
from leadline.plan.neuron_plan import plan_neuron
from leadline.plan.neuron_rules import MARKS, find_neuron_release, find_rule, list_rules
from leadline.plan.neuron_settings import read_neuron_settings
from leadline.plan.request import Request
from leadline.plan.schema import Plan
from leadline.plan.vllm import Measured
from leadline.units import GIB, show_bytes

_SURER: Sequence[Kind] = ("derived", "calibrated", "recorded", "prior")
"""From the surest to the least sure."""
_WORDS = {True: "pass", False: "fail"}


class KitRow(NamedTuple):
    """One row of the kit. ``kernel_off`` is the prediction without the token-generation kernel.

    Where that differs, the mark says so: that the kernel was on is known from the error alone.
    """

    table: str
    label: str
    seen: str
    kernel_off: str
    predicted: str
    mark: str
    reason: str
    cure: str

    @property
    def agrees(self) -> bool:
        return self.seen == self.predicted


class Untried(NamedTuple):
    """A setting that the rules speak for or against, and what they leave open."""

    label: str
    turn: str
    predicted: str
    mark: str
    open: str
    settings: Mapping[str, Any]


def list_kit_rows() -> list[KitRow]:
    return [_answer(row) for row in read_table("neuron_kit")["row"]]


def list_untried() -> list[Untried]:
    return [_probe(row) for row in read_table("neuron_kit")["untried"]]


def show_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show_kit() -> str:
    titles = ("Table", "Row", "Kit", "Kernel off", "Predicted", "Known how", "Because")
    rows = [
        (row.table, row.label, row.seen, row.kernel_off, row.predicted, row.mark, row.reason)
        for row in list_kit_rows()
    ]
    return show_table(titles, rows)


def show_untried() -> str:
    titles = ("Setting", "Turn", "Predicted", "Known how", "Left open")
    return show_table(titles, [row[:5] for row in list_untried()])


def show_rules() -> str:
    titles = ("Rule", "Known how", "Source", "Not sure")
    rows = [(f"`{rule.name}`", rule.mark, rule.source, rule.uncertainty) for rule in list_rules()]
    return show_table(titles, rows)


def shape_settings(row: Mapping[str, Any], *, kernel: bool) -> dict[str, Any]:
    """The engine's settings for a row, as they go on a command line."""
    additional: dict[str, Any] = {"override_neuron_config": dict(row.get("override", {}))}
    if kernel:
        additional["override_neuron_config"][find_rule("kernel")["flags"][0]] = True
    if "prompt" in row:
        additional["max_prompt_length"] = row["prompt"]
    settings = dict(read_table("neuron_kit")["settings"]) | {
        "max_model_len": row["tokens"],
        "max_num_seqs": row["seqs"],
        "enable_prefix_caching": "blocks" in row,
        "additional_config": additional,
    }
    if "blocks" in row:
        settings |= {
            "block_size": row["block_size"],
            "num_gpu_blocks_override": row["blocks"],
        }
    return settings


class _Reading(NamedTuple):
    """A row planned under one reading: with or without the token-generation kernel."""

    plan: Plan
    odd_batch: bool
    """Whether a pass rests on the record that odd batches compile."""
    open: tuple[str, ...]
    """What no rule decides."""

    @property
    def predicted(self) -> str:
        """A verdict that only warns is no prediction."""
        binding = self.plan.binding
        if binding is not None and binding.code == "risk_oom_outside_budget":
            return "not predictable"
        return _WORDS[binding is None]

    @property
    def kind(self) -> Kind:
        """A failure is as sure as its rule; a pass as the least sure of all that it rests on."""
        if self.plan.binding is not None:
            return self.plan.binding.kind
        kinds = [term.kind for term in self.plan.memory.terms]
        if self.odd_batch:
            kinds.append(find_rule("odd_batch").kind)
        return max(kinds, key=_SURER.index)

    @property
    def reason(self) -> str:
        if self.plan.findings:
            first, *others = self.plan.findings
            also = [f"{MARKS[found.kind]}: {found.reason}" for found in others]
            return "; also ".join([first.reason, *also])
        memory = self.plan.memory
        graphs = next(term for term in memory.terms if term.name == "compiled graphs")
        left = f"{graphs.formula} leave {show_bytes(memory.margin_gib * GIB)}"
        return f"{left}; {ODD_BATCH}" if self.odd_batch else left


def _answer(row: Mapping[str, Any]) -> KitRow:
    reading, kernel_off = _read(row, kernel=bool(row.get("kernel"))), _read(row, kernel=False)
    binding = reading.plan.binding
    mark = MARKS["recorded" if "fixes" in row else reading.kind]
    return KitRow(
        table=row["table"],
        label=row["label"],
        seen=_WORDS[row["passed"]],
        kernel_off=kernel_off.predicted,
        predicted=reading.predicted,
        mark=mark if kernel_off.predicted == reading.predicted else f"{mark}, given the kernel",
        reason=reading.reason,
        cure=f"{binding.direction} {binding.flag}: {binding.amount}" if binding else "",
    )


def _probe(row: Mapping[str, Any]) -> Untried:
    kernel = bool(row.get("kernel"))
    reading = _read(row, kernel=kernel)
    return Untried(
        label=row["label"],
        turn=row["turn"],
        predicted=reading.predicted,
        mark=MARKS[reading.kind],
        open="; ".join((*reading.open, *([row["open"]] if "open" in row else []))) or "-",
        settings=shape_settings(row, kernel=kernel),
    )


def _read(row: Mapping[str, Any], *, kernel: bool) -> _Reading:
    facts = read_table("neuron_kit")
    version = row.get("engine", facts["engine"]).partition("==")[2]
    model, hardware = load_model(facts["model"]), parse_hardware(facts["hardware"])
    given, release = shape_settings(row, kernel=kernel), find_neuron_release(version)
    settings = read_neuron_settings(given, {}, model, hardware.device, release)
    return _Reading(
        plan=plan_neuron(
            model,
            hardware,
            version,
            given=given,
            env={},
            request=Request(input_tokens=0, output_tokens=1),
            known=Measured(),
        ),
        odd_batch=uses_odd_batch(settings, release),
        open=tuple(text for _, text in list_doubts(hardware.device, settings, release)),
    )
