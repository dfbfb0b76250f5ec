"""``leadline explain``: what it takes, what it prints, how it ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leadline.cli.main import _exit_code, cli
from leadline.deploy import inspection

FAILURES = Path(__file__).parent / "data" / "failures"
SMALL_POOL = str(FAILURES / "vllm-0.12-kv-too-small.log")
HEALTHY = str(FAILURES / "vllm-0.12-healthy.log")


def explain(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    runner = CliRunner()
    result = runner.invoke(cli, ["explain", *arguments], input=stdin, standalone_mode=False)
    if result.exception:
        raise result.exception
    return int(result.return_value), result.output


def test_a_failure_is_told_with_its_line_and_its_cure() -> None:
    code, output = explain(SMALL_POOL)
    assert code == 1
    flat = " ".join(output.split())
    assert "START010 The KV cache cannot hold one request of the whole window [oom]" in flat
    assert "lower max_model_len from 200,000 to at most 46,592, or raise" in flat
    assert "CON900" in flat


def test_a_healthy_log_is_no_failure() -> None:
    code, output = explain(HEALTHY)
    assert (code, "nothing wrong found" in output) == (0, True)


def test_json_carries_the_turns_for_machines() -> None:
    code, output = explain(SMALL_POOL, "--json")
    found = json.loads(output)
    assert (code, found["schema"]) == (1, "leadline.diagnosis/1")
    assert found["engine"], found["version"] == ("vllm", "0.12.0")
    assert {"setting": "max_model_len", "way": "lower", "to": "46592"} in found["primary"]["turns"]


def test_a_log_from_stdin() -> None:
    code, output = explain("-", stdin=b"vllm: error: unrecognized arguments: --nope\n")
    assert (code, "START006" in output) == (1, True)


def test_a_plan_is_made_of_the_log_and_the_hardware() -> None:
    lines = (
        "vLLM API server version 0.12.0\n"
        "INFO 11-22 10:00:00 [utils.py:233] non-default args: {'model': "
        "'meta-llama/Llama-4-Scout-17B-16E-Instruct', 'tensor_parallel_size': 8, "
        "'max_model_len': 8388608}\n"
        "ValueError: To serve at least one request with the models's max seq len (8388608), (x\n"
    )
    code, output = explain("-", "--hardware", "8xH200", stdin=lines.encode())
    assert code == 1
    assert "lower max_model_len from 8,388,608 to at most" in " ".join(output.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing-of-that-name"], "neither a file nor a run"),
        (["docker:"], "no name"),
        (["-", "--hardware", "8xH200"], "a plan needs --model"),
    ],
)
def test_wrong_use_says_what_where_and_cure(
    arguments: list[str], words: str, monkeypatch: Any, capsys: Any
) -> None:
    stdin = type("Stdin", (), {"buffer": type("B", (), {"read": lambda self: b"INFO x"})()})()
    monkeypatch.setattr("sys.stdin", stdin)
    assert _exit_code(["explain", *arguments]) == 3
    assert words in capsys.readouterr().err


def test_an_empty_or_binary_file_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty.log").touch()
    (tmp_path / "packed.log").write_bytes(b"\x1f\x8b\0\0")
    for name in ("empty.log", "packed.log"):
        assert _exit_code(["explain", str(tmp_path / name)]) == 3
    assert "it is empty" in capsys.readouterr().err


# --- containers and pods ------------------------------------------------------------------------

STATE = {"Running": False, "ExitCode": 137, "OOMKilled": True, "Error": ""}


def test_a_container_tells_its_state(monkeypatch: Any) -> None:
    attributes = {"State": STATE, "HostConfig": {"Memory": 4 * 1024**3}, "RestartCount": 2}
    seen = inspection._read_container("vllm", attributes, "Loading weights\n")
    assert (seen.exit_status, seen.oom_killed, seen.restarts) == ("exit code 137", True, 2)
    monkeypatch.setattr(inspection, "inspect_container", lambda name: seen)
    code, output = explain("docker:vllm")
    assert (code, "CON010" in output, "4" in output) == (1, True, True)


POD = {
    "status": {
        "containerStatuses": [
            {
                "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            }
        ]
    }
}


def test_a_pod_is_read_by_kubectl_with_the_log_of_its_last_start(monkeypatch: Any) -> None:
    asked = []

    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(argv)
        text = json.dumps(POD) if argv[1] == "get" else "Loading weights\n"
        return subprocess.CompletedProcess(argv, 0, text, "")

    monkeypatch.setattr(inspection.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(inspection.subprocess, "run", run)
    code, output = explain("pod:vllm-0@serving", "--json")
    found = json.loads(output)
    assert (code, found["primary"]["code"]) == (1, "CON010")
    assert all("serving" in argv for argv in asked)
    assert [argv[-1] for argv in asked].count("--previous") == 1


NEVER = 'Container image "no-such-image:1" is not present with pull policy of Never'
TWO = {
    "status": {
        "containerStatuses": [
            {"name": "server", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}},
            {
                "name": "beside",
                "state": {"waiting": {"reason": "ErrImageNeverPull", "message": NEVER}},
            },
        ]
    }
}
CUDA = "RuntimeError: CUDA error: no kernel image is available for execution on the device\n"


@pytest.mark.parametrize(("log", "code"), [(CUDA, "GPU004"), ("", "K8S006")])
def test_a_container_that_never_began_hides_no_other(monkeypatch: Any, log: str, code: str) -> None:
    """Seen on a real cluster: kubectl refuses the log of the one, with exit code 1."""

    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if argv[1] == "get":
            return subprocess.CompletedProcess(argv, 0, json.dumps(TWO), "")
        began = "server" in argv
        return subprocess.CompletedProcess(argv, int(not began), log if began else "", "refused")

    monkeypatch.setattr(inspection.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(inspection.subprocess, "run", run)
    exit_code, output = explain("pod:lead", "--json")
    found = json.loads(output)["primary"]
    assert exit_code == 1
    assert found["code"].startswith(code), found


def test_an_end_with_an_error_is_never_clean(monkeypatch: Any) -> None:
    for code, clean in ((1, False), (0, True), (143, True)):
        attributes = {"State": {"Running": False, "ExitCode": code}, "HostConfig": {}}
        seen = inspection._read_container("vllm", attributes, "Loading weights\n")
        monkeypatch.setattr(inspection, "inspect_container", lambda name, seen=seen: seen)
        exit_code, output = explain("docker:vllm")
        assert (exit_code == 0, "UNKNOWN" not in output) == (clean, clean)


def test_without_kubectl_the_cure_is_a_pipe(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(inspection.shutil, "which", lambda name: None)
    assert _exit_code(["explain", "pod:x"]) == 2
    assert "kubectl logs POD | leadline explain -" in capsys.readouterr().err
