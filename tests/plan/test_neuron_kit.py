from __future__ import annotations

from pathlib import Path

import pytest

from leadline.catalog.reading import read_table
from leadline.plan.deployment import plan_deployment
from leadline.plan.neuron_kit import (
    list_kit_rows,
    list_untried,
    shape_settings,
    show_kit,
    show_rules,
    show_untried,
)
from leadline.plan.neuron_rules import find_rule
from leadline.plan.schema import Plan

PAGE = Path(__file__).parents[2] / "docs/how-to/plan-for-neuron.md"

# Table, row, what the kit saw, what the rules say, how that is known.
ROWS = [
    ("context", "16K, batch 1", "pass", "pass", "recorded"),
    ("context", "32K, batch 1", "pass", "pass", "recorded"),
    ("context", "64K, batch 1", "pass", "pass", "recorded"),
    ("context", "128K, batch 1", "fail", "fail", "first principles, given the kernel"),
    ("batch", "64K, batch 1", "pass", "pass", "recorded"),
    ("batch", "64K, batch 2", "fail", "fail", "first principles, given the kernel"),
    ("batch", "64K, batch 3", "pass", "pass", "recorded"),
    ("batch", "64K, batch 4", "fail", "fail", "first principles, given the kernel"),
    ("prefix caching", "8K, batch 4, 2048 x 32", "pass", "pass", "calibrated"),
    ("prefix caching", "16K, batch 4, 4096 x 32", "fail", "fail", "recorded"),
    ("prefix caching", "16K, batch 2, 1024 x 64", "pass", "pass", "recorded"),
    ("prefix caching", "32K, batch 4, 8192 x 32", "fail", "fail", "calibrated"),
    ("prefix caching", "64K, batch 1", "fail", "fail", "recorded"),
    ("prefix caching", "64K, batch 2", "fail", "fail", "recorded"),
]


def test_the_fourteen_rows() -> None:
    found = [(r.table, r.label, r.seen, r.predicted, r.mark) for r in list_kit_rows()]
    assert found == ROWS


def test_without_the_kernel_the_first_eight_rows_would_pass() -> None:
    """So three of the kit's failures say that it ran something else than it published."""
    assert [row.kernel_off for row in list_kit_rows()[:8]] == ["pass"] * 8


def test_as_written_the_scripts_would_cache_prefixes_and_fail_at_64k() -> None:
    facts = read_table("neuron_kit")
    settings = {"tensor_parallel_size": 64, "max_num_seqs": 1, "block_size": 128}
    plan = plan_deployment(
        facts["model"], facts["hardware"], facts["engine"], settings=settings, max_model_len=65_536
    )
    assert plan.verdict == "compile_fail"
    assert plan.binding is not None
    assert plan.binding.kind == "recorded"


def test_every_failure_names_its_cure() -> None:
    assert all(bool(row.cure) is (row.predicted == "fail") for row in list_kit_rows())


def test_the_graph_constant_without_each_row() -> None:
    """Leave one out: two rows are still predicted, the two that fix the constant are not."""
    shares = {row["label"]: (share_mib(row), row["passed"]) for row in memory_rows()}
    outcomes = {}
    for label, (share, passed) in shares.items():
        others = [pair for other, pair in shares.items() if other != label]
        least = max(share for share, loaded in others if not loaded)
        most = min(share for share, loaded in others if loaded)
        outcomes[label] = least < share < most
        if not outcomes[label]:
            assert passed is (share >= most)
    fixing = {row["label"] for row in memory_rows() if "fixes" in row}
    assert {label for label, undecided in outcomes.items() if undecided} == fixing


def test_the_constant_is_what_those_rows_leave() -> None:
    rule, shares = find_rule("graph_memory"), {}
    for row in memory_rows():
        if "fixes" in row:
            shares[row["fixes"]] = share_mib(row)
    assert rule["least_graph_mib"] - 1 < shares["least_graph_mib"] < rule["least_graph_mib"]
    assert rule["most_graph_mib"] <= shares["most_graph_mib"] < rule["most_graph_mib"] + 1


def test_untried_settings() -> None:
    found = {row.label: (row.predicted, row.mark, row.open) for row in list_untried()}
    assert found["64K, batch 2"] == ("pass", "calibrated", "-")
    assert found["64K, batch 4"][:2] == ("pass", "calibrated")
    assert found["32K, batch 4, 4096 x 32, 15 graphs"] == ("pass", "calibrated", "-")
    assert found["16K, batch 4, 2048 x 32"][0] == "not predictable"
    for label in ("96K, batch 1", "112K, batch 1"):
        assert found[label][0] == "pass"
        assert "mask row" in found[label][2]
    assert "mask row" not in found["88K, batch 1"][2]


@pytest.mark.parametrize("label", [row["label"] for row in read_table("neuron_kit")["untried"]])
def test_untried_settings_go_through_the_ordinary_entry(label: str) -> None:
    facts = read_table("neuron_kit")
    row = next(row for row in facts["untried"] if row["label"] == label)
    settings = shape_settings(row, kernel=row.get("kernel", False))
    engine = row.get("engine", facts["engine"])
    plan = plan_deployment(facts["model"], facts["hardware"], engine, settings=settings)
    predicted = next(r.predicted for r in list_untried() if r.label == label)
    assert plan.verdict.startswith("fits(") is (predicted == "pass")


def test_the_page_shows_what_the_code_says() -> None:
    page = PAGE.read_text("utf-8")
    assert show_kit() in page
    assert show_untried() in page
    assert show_rules() in page


def memory_rows() -> list[dict[str, object]]:
    """The rows with prefix caching that got as far as loading."""
    rows = read_table("neuron_kit")["row"]
    return [row for row in rows if "blocks" in row and "serialize" not in row.get("seen", "")]


def share_mib(row: dict[str, object]) -> float:
    """What weights, cache and scratch leave for each graph."""
    facts = read_table("neuron_kit")
    settings = shape_settings(row, kernel=False)
    plan = plan_deployment(facts["model"], facts["hardware"], facts["engine"], settings=settings)
    terms = {term.name: term for term in plan.memory.terms}
    graphs = int(terms.pop("compiled graphs").formula.split()[0])
    left_gib = plan.memory.device_gib - sum(term.gib for term in terms.values())
    return left_gib * 1024 / graphs


def test_the_pages_example_gives_what_it_prints() -> None:
    code = PAGE.read_text("utf-8").split("```python\n")[1].split("```")[0]
    names: dict[str, Plan] = {}
    exec(code, names)  # noqa: S102 - our own page
    assert names["plan"].verdict == "fits(4)"
