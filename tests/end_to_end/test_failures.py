"""Failures are results: real ones, each with its cause, its evidence, and the campaign goes on."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.end_to_end.conftest import Finish, Start, our_servers, wait_for

CampaignFile = Callable[..., Path]


def _deployment(**changes: Any) -> dict[str, Any]:
    return {"engine": "llamacpp", "settings": {"ctx_size": 1024, "threads": 2}, **changes}


def test_port_in_use_is_named_and_the_next_deployment_still_runs(
    start: Start, finish: Finish, campaign_file: CampaignFile
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        blocked = _deployment(target={"kind": "process", "port": port})
        outcome = finish(
            start("run", campaign_file(deployments={"blocked": blocked, "free": _deployment()}))
        )
    assert outcome.code == 2
    assert outcome.cell("blocked")["cause"] == "port_in_use"
    assert outcome.cell("free")["status"] == "pass"
    (finding,) = outcome.report["findings"]
    assert str(port) in finding["evidence"][0]
    assert f"held by pid {os.getpid()}" in finding["evidence"][1]


def test_missing_model_file_quotes_the_engine(
    start: Start, finish: Finish, campaign_file: CampaignFile
) -> None:
    outcome = finish(start("run", campaign_file(model="/no/such/model.gguf")))
    assert outcome.code == 2
    assert outcome.cell("llamacpp")["cause"] == "model_missing"
    assert "/no/such/model.gguf" in outcome.report["findings"][0]["evidence"][0]
    log = next((outcome.run / "logs").rglob("server.log"))
    assert "failed to open GGUF file" in log.read_text(encoding="utf-8")


def test_context_larger_than_memory_is_ruled_out_by_the_plan(
    start: Start, finish: Finish, campaign_file: CampaignFile
) -> None:
    huge = _deployment(settings={"ctx_size": 30_000_000})
    outcome = finish(start("run", campaign_file(deployments={"huge": huge})))
    assert outcome.code == 1
    cell = outcome.cell("huge")
    assert (cell["status"], cell["cause"]) == ("infeasible", "oom")
    assert "weights and KV cache need 644 GiB" in cell["reason"]
    assert not (outcome.run / "logs").exists()


@pytest.fixture
def refused_above_100_gib() -> Iterator[None]:
    """Memory is refused when it is asked for, also where the kernel would promise any amount."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (100 << 30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.usefixtures("refused_above_100_gib")
def test_context_larger_than_memory_fails_on_the_real_engine_when_forced(
    start: Start, finish: Finish, campaign_file: CampaignFile
) -> None:
    huge = _deployment(settings={"ctx_size": 30_000_000})
    file = campaign_file(deployments={"huge": huge})
    outcome = finish(start("run", file, "--try-infeasible"))
    assert outcome.code == 2
    assert outcome.cell("huge")["cause"] == "oom"
    assert any("kv cache" in line for line in outcome.report["findings"][0]["evidence"])


def test_server_killed_in_mid_stream_fails_one_cell_and_is_started_afresh(
    start: Start, finish: Finish, campaign_file: CampaignFile
) -> None:
    file = campaign_file(
        matrix={"workload.input_tokens": [512, 128]},
        workload={"output_tokens": 400, "repeats": 1, "limit_probes": False},
    )
    process = start("run", file)
    assert process.stderr
    for line in process.stderr:
        if "512 trial 1/1" in line:
            break
    (server,) = our_servers()
    wait_for(lambda: _decoded_tokens(server) >= 3)
    os.kill(server, signal.SIGKILL)
    outcome = finish(process)
    assert outcome.code == 2
    killed, survivor = outcome.cell("512"), outcome.cell("128")
    assert (killed["status"], killed["cause"]) == ("fail", "crashed")
    assert killed["trials"][0]["failure"]["kind"] == "disconnected"
    assert outcome.report["findings"][0]["evidence"][0] == "the server ended: killed by SIGKILL"
    assert survivor["trials"][0]["attempt"] == 2
    assert survivor["trials"][0]["failure"] is None


def _decoded_tokens(server: int) -> int:
    """Tokens that the server has generated for the running request."""
    command = psutil.Process(server).cmdline()
    port = command[command.index("--port") + 1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/slots") as answer:
        (slot,) = json.load(answer)
    return int(slot["next_token"][0]["n_decoded"]) if slot["is_processing"] else 0


def test_first_token_later_than_the_limit_is_a_hang_and_not_a_crash(
    start: Start, finish: Finish, campaign_file: CampaignFile
) -> None:
    # 4,000 tokens take over 20 s here and the warm-up about one: the limit lies well between.
    file = campaign_file(
        deployments={"llamacpp": _deployment(settings={"ctx_size": 8192, "threads": 2})},
        workload={"input_tokens": 4000, "output_tokens": 8, "repeats": 1, "limit_probes": False},
        timeouts={"first_token_s": 8},
    )
    outcome = finish(start("run", file))
    assert outcome.code == 2
    cell = outcome.cell("llamacpp")
    assert (cell["status"], cell["cause"]) == ("fail", "hang")
    assert cell["trials"][0]["failure"]["message"] == "no first token within 8 s"


def test_prompt_longer_than_the_window_is_refused_with_the_amount_to_cut(
    start: Start, finish: Finish, campaign_file: CampaignFile
) -> None:
    outcome = finish(start("run", campaign_file(matrix={"workload.input_tokens": [1500, 128]})))
    assert outcome.code == 1
    assert outcome.cell("1500")["cause"] == "too_long"
    assert outcome.cell("128")["status"] == "pass"
    remedy = outcome.report["findings"][0]["remedy"]
    assert remedy.startswith("lower workload.input_tokens by 484 to 1,016")
