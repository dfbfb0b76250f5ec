"""What the tests of real engines do where an engine is not to be had: they say why."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.real_engines import environments
from tests.real_engines.environments import Environment, require


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEADLINE_SKIP_ENGINES", raising=False)
    monkeypatch.setenv("LEADLINE_ENGINES_BUDGET_S", "inf")
    monkeypatch.setattr(environments, "_unbuilt", {})


class Builder:
    def __init__(self, *, works: bool = False) -> None:
        self.works, self.calls = works, 0

    def build(self) -> None:
        self.calls += 1
        if not self.works:
            raise subprocess.CalledProcessError(2, ["leadline", "engines", "install"])


def environment(folder: Path, builder: Builder, **changes: Any) -> Environment:
    facts: dict[str, Any] = {
        "name": "engine==1",
        "variable": "",
        "disk_gb": 0,
        "build_s": 60,
        "tier": 1,
        "present": lambda: builder.works and builder.calls > 0,
        "folder": lambda: folder / "engine",
        "build": builder.build,
    }
    return Environment(**facts | changes)


def outcome(wanted: Environment) -> tuple[str, str]:
    try:
        return "there", str(require(wanted))
    except pytest.fail.Exception as failed:
        return "failed", str(failed.msg)
    except pytest.skip.Exception as skipped:
        return "skipped", str(skipped.msg)


def test_what_is_absent_is_built_once(tmp_path: Path) -> None:
    builder = Builder(works=True)
    wanted = environment(tmp_path, builder)
    assert [outcome(wanted), outcome(wanted)] == [("there", str(tmp_path / "engine"))] * 2
    assert builder.calls == 1


@pytest.mark.parametrize(("tier", "word"), [(1, "failed"), (2, "skipped")])
def test_a_build_that_fails_is_said_and_not_tried_again(
    tmp_path: Path, tier: int, word: str
) -> None:
    builder = Builder()
    wanted = environment(tmp_path, builder, tier=tier)
    for _ in range(2):
        how, told = outcome(wanted)
        assert how == word
        assert told.startswith("engine==1 was NOT tested: it could not be built: Command")
    assert builder.calls == 1


def test_a_disk_that_is_too_small_is_said_before_anything_is_built(tmp_path: Path) -> None:
    builder = Builder()
    how, told = outcome(environment(tmp_path, builder, disk_gb=10**6))
    assert (how, builder.calls) == ("skipped", 0)
    assert told.startswith("engine==1 was NOT tested: ")
    assert told.endswith("GB of disk are free, its build takes 1000000")


def test_a_second_tier_without_time_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADLINE_ENGINES_BUDGET_S", "0")
    builder = Builder()
    how, told = outcome(environment(tmp_path, builder, tier=2))
    assert (how, builder.calls) == ("skipped", 0)
    assert "0 s are left of this session, and its build takes about 60 s" in told
