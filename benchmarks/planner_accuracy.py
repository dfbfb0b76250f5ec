# ruff: noqa: INP001 - a script, not a package
"""How far the planner is from 44 start-up logs of vLLM 0.19.0 on H100, beside other planners.

Run ``python benchmarks/planner_accuracy.py``; where ``llm-d-planner==0.3.3`` and
``vllm-wizard==0.2.0`` are installed too, their columns are filled. All planners get the weights
that the engine measured, so that only their model of everything else is compared; one column has
ours from the config alone. A second table holds what failed, with the verdict of the plan.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.table import Table

from leadline.catalog.reading import read_config
from leadline.plan.architecture import load_model
from leadline.plan.deployment import plan_deployment
from leadline.plan.schema import Plan
from leadline.units import GIB

DATA = Path(__file__).parent.parent / "tests" / "plan" / "data"
H100_GIB = 79.19
Log = Mapping[str, Any]
Answer = tuple[float, float]
"""GiB for the KV cache of one device, and the tokens it is said to hold."""


def main() -> None:
    console = Console(width=190)
    console.print(tabulate_logs())
    console.print(tabulate_failures())


def tabulate_logs() -> Table:
    logs: list[Log] = json.loads((DATA / "kv_logs.json").read_text())
    planners = available_planners()
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in planners}
    table = Table("Log", title="KV memory and tokens, relative error in percent")
    for name in planners:
        table.add_column(name, justify="right")
    for log in logs:
        cells = []
        for name, ask in planners.items():
            gib, tokens = ask(log)
            miss = (gib / true_gib(log) - 1, tokens / log["kv_tokens"] - 1)
            errors[name].append(miss)
            cells.append(f"{100 * miss[0]:+.2f} / {100 * miss[1]:+.2f}")
        label = f"{log['model'].split('/')[-1]} tp{log['tp']} pp{log['pp']}"
        table.add_row(f"{label} {log['max_model_len']} {log['kv_dtype']}", *cells)
    table.add_section()
    for label, pick in (("median", median), ("95th percentile", percentile), ("largest", max)):
        table.add_row(label, *[summarise(errors[name], pick) for name in planners])
    return table


def tabulate_failures() -> Table:
    """Every start that is known to have failed, and what a plan of its settings says."""
    table = Table("Deployment", "Engine", "What happened", "Verdict of the plan", "Cure", "Note")
    table.title = "What failed"
    for point in json.loads((DATA / "negatives.json").read_text()):
        ask = point["ask"]
        plan = plan_deployment(**ask)
        cure = f"{plan.binding.direction} {plan.binding.flag}" if plan.binding else ""
        table.add_row(point["id"], ask["engine"], point["seen"], plan.verdict, cure, point["note"])
    return table


def available_planners() -> dict[str, Callable[[Log], Answer]]:
    found: dict[str, Callable[[Log], Answer]] = {
        "leadline": ask_leadline,
        "leadline, config alone": ask_leadline_alone,
    }
    if find_spec("planner"):
        found["llm-d-planner"] = ask_llm_d
    if find_spec("vllm_wizard"):
        found["vllm-wizard"] = ask_wizard
    return found


def true_gib(log: Log) -> float:
    """The logged GiB; with pipeline stages that of the smallest one, by its tokens."""
    if log["pp"] == 1:
        return float(log["kv_gib_per_gpu"])
    plan = plan_log(log, None)
    return float(log["kv_tokens"] * plan.kv.bytes_per_token_per_gpu / GIB)


def percentile(values: list[float]) -> float:
    return sorted(values)[int(0.95 * len(values))]


def summarise(errors: list[tuple[float, float]], pick: Callable[[list[float]], float]) -> str:
    parts = [pick([abs(error[side]) for error in errors]) for side in (0, 1)]
    return " / ".join(f"{100 * part:.2f}" for part in parts)


def plan_log(log: Log, weights_gib: float | None) -> Plan:
    settings = {
        "tensor_parallel_size": log["tp"],
        "pipeline_parallel_size": log["pp"],
        "gpu_memory_utilization": log["gpu_memory_utilization"],
        "kv_cache_dtype": log["kv_dtype"],
        "dtype": log["dtype"],
    }
    if log["quant"] == "fp8":
        settings["quantization"] = "fp8"
    return plan_deployment(
        replace(load_model(log["model"]), dtype=log["dtype"]),
        f"{log['tp'] * log['pp']}xH100",
        f"vllm=={log['version']}",
        settings=settings,
        max_model_len=log["max_model_len"],
        weights_gib=weights_gib,
    )


def ask_leadline(log: Log) -> Answer:
    kv = plan_log(log, log["weights_gib"]).kv
    return kv.available_gib, kv.capacity_tokens


def ask_leadline_alone(log: Log) -> Answer:
    kv = plan_log(log, None).kv
    return kv.available_gib, kv.capacity_tokens


def ask_llm_d(log: Log) -> Answer:
    """Its activation and non-torch constants, its bytes per token, divided over the ranks."""
    from planner import capacity_planner as peer

    config = as_namespace(read_config(log["model"]))
    budget = peer.available_gpu_memory(H100_GIB, log["gpu_memory_utilization"])
    spent = peer.estimate_vllm_activation_memory(config, tp=log["tp"])
    spent += peer.estimate_vllm_non_torch_memory(log["tp"], log["pp"])
    gib = budget - log["weights_gib"] - spent
    per_token = peer.KVCacheDetail(log["model"], config).per_token_memory_bytes
    return gib, gib * GIB * log["tp"] * log["pp"] / per_token


def ask_wizard(log: Log) -> Answer:
    """Its overhead rule and its bytes per token with the fragmentation factor it adds."""
    from vllm_wizard.models.metadata import ModelMetadata
    from vllm_wizard.planning import memory as peer

    config = read_config(log["model"])
    text = config.get("text_config") or config
    metadata = ModelMetadata(
        text["num_hidden_layers"],
        text["hidden_size"],
        text["num_attention_heads"],
        text["num_key_value_heads"],
        text["vocab_size"],
        text["max_position_embeddings"],
        text["model_type"],
    )
    overhead = peer.compute_overhead(int(H100_GIB * GIB), log["tp"])
    gib = H100_GIB * log["gpu_memory_utilization"] - log["weights_gib"] - overhead / GIB
    per_token = peer.compute_kv_cache_memory(metadata, 1, 1)
    return gib, gib * GIB * log["tp"] * log["pp"] / per_token


def as_namespace(value: Any) -> Any:
    if isinstance(value, Mapping):
        return SimpleNamespace(**{key: as_namespace(inner) for key, inner in value.items()})
    return value


if __name__ == "__main__":
    main()
