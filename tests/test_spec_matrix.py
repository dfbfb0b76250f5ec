"""The matrix against a definition of its own: product, zip, exclude, include as in CI."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.test_spec import SMALL, parse, problem

from leadline.spec.matrix import expand

Combination = dict[str, Any]


def as_documented(
    axes: dict[str, list[Any]], exclude: list[Combination], include: list[Combination]
) -> list[Combination]:
    """What GitHub documents of a job's matrix, word for word and without any haste.

    A combination is excluded if all pairs of an entry are in it. Then, for each object of
    ``include``, its pairs are added to each of the combinations if none of them overwrite any of
    the original matrix values; if the object cannot be added to any of the combinations, a new one
    is created. Original values are not overwritten, but added values can be.
    """
    original: list[Combination] = [{}] if axes else []
    for name, values in axes.items():
        original = [{**point, name: value} for point in original for value in values]
    original = [
        point
        for point in original
        if not any(all(pair in point.items() for pair in rule.items()) for rule in exclude)
    ]
    result = [dict(point) for point in original]
    created = []
    for extra in include:
        added = False
        for place, point in enumerate(original):
            if all(point.get(name, value) == value for name, value in extra.items()):
                result[place] = {**result[place], **extra}
                added = True
        if not added:
            created.append(dict(extra))
    return result + created


NAMES = tuple(f"settings.{letter}" for letter in "abcd")
entries = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), min_size=1)
matrices = st.dictionaries(
    st.sampled_from(NAMES[:3]), st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)
)


def as_set(points: Any) -> list[list[tuple[str, Any]]]:
    return sorted(sorted(point.items()) for point in points)


@given(matrices, st.lists(entries, max_size=3), st.lists(entries, max_size=4))
def test_the_matrix_is_what_github_documents(
    axes: dict[str, list[Any]], exclude: list[Combination], include: list[Combination]
) -> None:
    ours = expand({**axes, "exclude": exclude, "include": include}, "x")
    expected = as_documented(axes, exclude, include)
    assert as_set(ours) == as_set(expected if axes or include else [{}])


def test_githubs_own_example() -> None:
    matrix = {
        "settings.fruit": ["apple", "pear"],
        "settings.animal": ["cat", "dog"],
        "include": [
            {"settings.color": "green"},
            {"settings.color": "pink", "settings.animal": "cat"},
            {"settings.fruit": "apple", "settings.shape": "circle"},
            {"settings.fruit": "banana"},
            {"settings.fruit": "banana", "settings.animal": "cat"},
        ],
    }
    short = [
        {path.removeprefix("settings."): value for path, value in point.items()}
        for point in expand(matrix, "x")
    ]
    assert short == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
    st.lists(st.tuples(st.integers(0, 9), st.text("ab", max_size=2)), min_size=1, max_size=4),
)
def test_zipped_axes_go_together_and_others_multiply_them(
    plain: list[int], pairs: list[tuple[int, str]]
) -> None:
    numbers, words = map(list, zip(*pairs, strict=True))
    matrix = {"settings.p": plain, "zip": [{"settings.n": numbers, "env.W": words}]}
    expected = [
        {"settings.p": p, "settings.n": n, "env.W": w}
        for p, (n, w) in itertools.product(plain, pairs)
    ]
    assert as_set(expand(matrix, "x")) == as_set(expected)


def test_one_group_may_be_zipped_without_a_list() -> None:
    group = {"settings.ctx_size": [1024, 2048], "workload.input_tokens": [512, "1k"]}
    points = expand({"zip": group}, "x")
    assert points == expand({"zip": [group]}, "x")
    assert [tuple(point.values()) for point in points] == [(1024, 512), (2048, "1k")]


TWO = """\
name: two
model: tiny
deployments:
  a: {engine: llamacpp}
  b: {engine: llamacpp, settings: {threads: 1}}
matrix:
  workload.input_tokens: [1k, 2k]
"""


def keys(text: str) -> list[str]:
    return [cell.key for cell in parse(text).cells()]


def test_an_entry_may_speak_of_one_deployment() -> None:
    text = TWO + (
        "  exclude: [{deployment: b, workload.input_tokens: 2000}]\n"
        "  include: [{deployment: a, settings.threads: 2, workload.input_tokens: 4k}]\n"
    )
    assert keys(text) == [
        "a/input_tokens=1000",
        "a/input_tokens=2000",
        "a/threads=2/input_tokens=4000",
        "b/input_tokens=1000",
    ]


def test_a_deployment_that_no_entry_speaks_of_is_run_as_it_stands() -> None:
    text = TWO.replace("  workload.input_tokens: [1k, 2k]\n", "") + (
        "  include: [{deployment: a, workload.repeats: 1}]\n"
    )
    assert keys(text) == ["a/input_tokens=max/repeats=1", "b/input_tokens=max"]


def test_cells_of_one_server_share_one_start_wherever_they_stand() -> None:
    text = TWO + (
        "  settings.ctx_size: [4096, 8192]\n"
        "  include: [{workload.input_tokens: 3k, settings.ctx_size: 4096}]\n"
    )
    campaign = parse(text)
    groups = campaign.starts()
    assert {key: len(cells) for key, cells in groups.items()} == {
        "a/ctx_size=4096": 3,
        "a/ctx_size=8192": 2,
        "b/ctx_size=4096": 3,
        "b/ctx_size=8192": 2,
    }
    together = [cell.key for cells in groups.values() for cell in cells]
    assert sorted(together) == sorted(cell.key for cell in campaign.cells())


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (
            "zip: [{settings.a: [1, 2], settings.b: [1]}]",
            "zip.0: what is zipped needs equally many values: settings.a has 2, settings.b has 1",
        ),
        (
            "zip: [{settings.a: [1], workload.repeat: [1]}]",
            "matrix.zip.0.workload.repeat: no such field; did you mean 'repeats'?",
        ),
        (
            "settings.a: [1]\n  zip: {settings.a: [1], settings.b: [1]}",
            "c.yaml:7: matrix.zip.settings.a: it varies twice; name it once",
        ),
        (
            "workload.input_tokens: [1k]\n  exclude:\n    - {workload.input_tokens: 10k}",
            "c.yaml:8: matrix.exclude.0: it matches no combination of the axes",
        ),
        (
            "workload.input_tokens: [1k]\n  exclude: [{workload.input_tokens: 1k}]",
            "c.yaml:1: campaign: matrix: exclude leaves no cell",
        ),
        (
            "include: [{deployment: y, workload.repeats: 1}]",
            "c.yaml:6: matrix.include.0: there is no deployment 'y'; known: x",
        ),
        ("exclude: {settings.a: 1}", "matrix.exclude: write a list of mappings"),
        ("include: [{}]", "matrix.include.0: write a mapping like {workload.repeats: 1}, not {}"),
    ],
)
def test_a_matrix_that_cannot_be_meant_is_refused(matrix: str, message: str) -> None:
    assert message in problem(f"{SMALL}matrix:\n  {matrix}\n")
