from __future__ import annotations

from rich.console import Console, RenderableType

from leadline.plan.campaign_plans import plan_campaign
from leadline.plan.deployment import plan_deployment
from leadline.plan.search import plan_by_device, search_settings
from leadline.report.plan_table import (
    BAR_CELLS,
    render_campaign,
    render_candidates,
    render_contexts,
    render_plan,
    render_search_speed,
)
from leadline.spec import parse_campaign

SCOUT = "Llama-4-Scout-17B-16E-Instruct"
EIGHT = {"tensor_parallel_size": 8}


def show(renderable: RenderableType) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_ledger_shows_every_term_and_the_verdict() -> None:
    plan = plan_deployment(SCOUT, "8xH200", "vllm==0.12.0", settings=EIGHT, max_model_len="5M")
    text = show(render_plan(plan))
    assert "starts_but_unusable" in text
    assert "cure: set VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE: 1" in text
    for term in plan.memory.terms:
        assert term.name in text
    assert "never below" in text
    assert "17.2 B active" in text


def test_a_narrow_terminal_breaks_names_and_no_figure_and_expectations_stand_beside() -> None:
    text = """
name: narrow
model: Llama-4-Scout-17B-16E-Instruct
hardware: 8xH200
deployments:
  a-deployment-with-a-name-that-takes-much-of-a-line:
    engine: vllm==0.12.0
    settings: {tensor_parallel_size: 8, max_model_len: 5M}
    expect: {fail: oom}
matrix: {workload.input_tokens: [2845757]}
"""
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(render_campaign(plan_campaign(parse_campaign(text, source="narrow.yaml"))))
    table = capture.get().partition("concurrency")[0]
    assert "2,845,757" in table
    assert "fail (oom)" in " ".join(table.split())
    assert "…" not in table


def test_the_bar_is_as_wide_as_the_device() -> None:
    settings = {"tp_size": 8}
    plan = plan_deployment(SCOUT, "8xH200", "sglang==0.5.6", settings=settings, max_model_len="8M")
    bar = next(line for line in show(render_plan(plan)).splitlines() if "█" in line)
    assert bar.index("│", 1) == BAR_CELLS + 1
    assert "too much" in bar


def test_a_device_known_by_size_has_no_time() -> None:
    plan = plan_deployment("Qwen/Qwen3-8B", "1x48GB", "vllm==0.12.0")
    assert "Time of one" not in show(render_plan(plan))


def test_contexts_by_device() -> None:
    names = ("8xH200", "8xH100", "8x48GB")
    rows = plan_by_device(SCOUT, names, "vllm==0.12.0", settings=EIGHT, max_model_len="2M")
    text = show(render_contexts(rows))
    assert "2,096,952" in text
    assert "8x48GB" in text


def test_a_campaign_is_a_line_for_each_cell() -> None:
    text = """
name: two
model: meta-llama/Llama-4-Scout-17B-16E-Instruct
hardware: 8xH200
deployments:
  vllm: {engine: vllm==0.12.0, settings: {tensor_parallel_size: 8, max_model_len: 2M}}
  local: {engine: llamacpp}
"""
    shown = show(render_campaign(plan_campaign(parse_campaign(text, source="two.yaml"))))
    assert "fits(1)" in shown
    assert "not planned" in shown
    assert "2,096,952" in shown


def test_what_the_best_settings_share_is_said_once() -> None:
    ranked, rejected = search_settings(
        "Qwen/Qwen3-8B",
        "1xH100",
        "vllm==0.12.0",
        input_tokens=8000,
        grid={"gpu_memory_utilization": (0.1, 0.8, 0.9), "max_num_seqs": (64,)},
    )
    text = show(render_candidates(ranked, rejected, 12, 6))
    assert text.count("max_num_seqs=64") == 1
    assert text.index("gpu_memory_utilization=0.9") < text.index("gpu_memory_utilization=0.8")
    assert "2 fit, 1 do not" in text
    assert "1 start_fail, for example" in text
    assert "0 fit, 1 do not" in show(render_candidates([], rejected, 12, 6))


def test_the_speed_of_a_search_is_shown() -> None:
    assert "3,000 candidates in 1 s: 3,000 a second" in show(render_search_speed(3000, 1.0))
