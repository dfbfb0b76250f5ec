"""Hub ids: the local cache, a download, and one clear error where neither is possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from leadline.catalog import hub
from leadline.catalog.reading import read_config
from leadline.errors import PlanError
from leadline.plan.architecture import load_model


class Response:
    """As much of an answer as the client's errors look at."""

    def __init__(self, status: int) -> None:
        self.status_code = status
        self.headers: dict[str, str] = {}
        self.request = None


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    for name in ("HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "can_reach_hub", lambda: True)


def answer_with(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[dict[str, Any]]:
    """Replace the download by one that returns, or raises, ``answer``; the calls it got."""
    calls = []

    def download(repo: str, name: str, **given: Any) -> str:
        calls.append({"repo": repo, "name": name, **given})
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return calls


def test_a_hub_id_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(dict(read_config("Qwen3-8B"))))
    calls = answer_with(monkeypatch, path)
    model = load_model("someone/their-qwen")
    assert model.name == "someone/their-qwen"
    assert len(model.layers) == 36
    assert calls == [{"repo": "someone/their-qwen", "name": "config.json", "token": False}]


def test_the_token_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(dict(read_config("Qwen3-8B"))))
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_real_one")
    assert answer_with(monkeypatch, path) == []
    calls = answer_with(monkeypatch, path)
    load_model("someone/their-qwen")
    assert calls[0]["token"] == "hf_not_a_real_one"


@pytest.mark.parametrize(
    ("error", "what", "cure"),
    [
        (errors.GatedRepoError("x", response=Response(403)), "gated", "HF_TOKEN"),
        (errors.HfHubHTTPError("x", response=Response(401)), "gated", "HF_TOKEN"),
        (errors.RepositoryNotFoundError("x", response=Response(404)), "not on the hub", "folder"),
        (errors.EntryNotFoundError("x"), "has no config.json", "folder"),
        (errors.LocalEntryNotFoundError("x"), "cannot be reached", "folder"),
        (errors.HfHubHTTPError("busy", response=Response(503)), "busy", "folder"),
        (errors.HFValidationError("x"), "not on the hub", "folder"),
    ],
)
def test_what_the_hub_refuses_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception, what: str, cure: str
) -> None:
    answer_with(monkeypatch, error)
    with pytest.raises(PlanError) as refused:
        load_model("someone/their-qwen")
    assert what in refused.value.what
    assert cure in refused.value.cure
    assert refused.value.exit_code == 3


def test_offline_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer_with(monkeypatch, AssertionError("offline"))
    monkeypatch.setattr(hub, "can_reach_hub", lambda: False)
    with pytest.raises(PlanError, match="cannot be reached") as refused:
        load_model("Qwen/Qwen3-8BB")
    assert calls == []
    assert "Qwen/Qwen3-8B" in refused.value.cure


def test_a_name_that_is_no_hub_id_gets_the_nearest_models() -> None:
    with pytest.raises(PlanError) as refused:
        load_model("Llama-4-Scout-17B-16E-Instrukt")
    assert "meta-llama/Llama-4-Scout-17B-16E-Instruct" in refused.value.cure
