from __future__ import annotations

import pytest

from leadline.catalog.reading import model_names, read_config, read_table
from leadline.errors import PlanError


def test_both_kits_are_in_the_catalog() -> None:
    for name in ("Llama-4-Scout-17B-16E-Instruct", "Llama-3.3-70B-Instruct"):
        assert f"meta-llama/{name}" in model_names()
        assert read_config(name.lower())["_name"] == f"meta-llama/{name}"


def test_every_file_is_named_after_its_model() -> None:
    for name in model_names():
        assert read_config(name)["_name"].lower() == name.lower()


def test_releases_are_in_order_and_complete() -> None:
    releases = read_table("vllm")["release"]
    assert [r["since"] for r in releases] == sorted(
        (r["since"] for r in releases), key=lambda v: [int(x) for x in v.split(".")]
    )


def test_a_wrong_name_shows_what_there_is() -> None:
    with pytest.raises(PlanError, match="no model"):
        read_config("no-such-model")
