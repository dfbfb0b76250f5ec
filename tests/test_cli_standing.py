"""Which services a name means: never one more than was meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadline.cli.standing import _choose_all
from leadline.deploy.standing import Standing
from leadline.errors import SpecError

RUN = "20261122-164530"
UP = Standing("scout-vllm", "up", "running", "http://127.0.0.1:8000", "i:1")
BY_SCRIPT = replace(UP, name="scout-sglang", owner="")
OF_RUN = replace(UP, name=f"scout-{RUN}-20970d", owner=f"{RUN}-20970d")
FOUND = [UP, BY_SCRIPT, OF_RUN]


def chosen(*names: str, found: list[Standing] = FOUND, everything: bool = False) -> list[str]:
    return [each.name for each in _choose_all(found, names, everything=everything)]


def test_a_name_is_one_service_and_a_run_its_containers() -> None:
    assert chosen("scout-vllm") == ["scout-vllm"]
    assert chosen(RUN) == [OF_RUN.name]
    assert chosen("scout-sglang", RUN) == ["scout-sglang", OF_RUN.name]


def test_without_a_name_only_a_single_service_is_meant_and_no_run() -> None:
    assert chosen(found=[UP, OF_RUN]) == [UP.name]
    with pytest.raises(SpecError, match="2 services are there"):
        chosen()


def test_all_is_all() -> None:
    assert chosen(everything=True) == [each.name for each in FOUND]
    assert chosen(found=[], everything=True) == []


def test_an_unknown_name_takes_nothing_away() -> None:
    with pytest.raises(SpecError, match="no service 'scout' is there"):
        chosen("scout")
