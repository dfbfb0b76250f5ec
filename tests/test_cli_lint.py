"""``leadline lint`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from leadline.cli.main import cli, main
from leadline.lint.sarif import write_sarif

GOOD = "vllm serve m --max-model-len 8192"
BAD = "vllm serve m --max-modle-len 8192"


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["lint", *arguments], input=stdin, standalone_mode=False)


def test_exit_code_one_where_there_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "a.sh"
    script.write_text(BAD)
    result = run(str(script), "--engine", "vllm==0.12.0")
    assert result.return_value == 1
    assert f"{script}:1: error ARG001" in result.output
    assert "--max-model-len" in result.output


def test_exit_code_zero_where_there_is_none() -> None:
    assert run("-c", GOOD, "--engine", "vllm==0.12.0").return_value == 0
    assert run("-", stdin=GOOD).return_value == 0


@pytest.mark.parametrize("arguments", [[], ["no-such-file.sh"], ["-c", GOOD, "--engine", "x"]])
def test_exit_code_three_for_wrong_use(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["lint", *arguments])
    assert stopped.value.code == 3
    assert "cure:" in capsys.readouterr().err


def test_json_has_every_field_of_a_finding() -> None:
    result = run("-c", BAD, "--engine", "vllm==0.12.0", "--json")
    read = json.loads(result.stdout)
    assert read["schema"] == "leadline.lint/1"
    first = next(each for each in read["findings"] if each["code"] == "ARG001")
    assert first["cure"] == "write --max-model-len"
    assert first["versions"] == ["vllm==0.12.0"]
    assert set(first) == {
        "code", "severity", "file", "line", "what", "why", "source", "cure", "versions", "fixable",
    }  # fmt: skip


def test_fix_rewrites_the_file_and_shows_the_difference(tmp_path: Path) -> None:
    script = tmp_path / "a.sh"
    script.write_text("vllm serve m --host 0.0.0.0 \\\n  --swap-space 4\n")
    result = run(str(script), "--engine", "vllm==0.12.0", "--fix")
    assert script.read_text() == "vllm serve m --host 127.0.0.1\n"
    assert "-vllm serve m --host 0.0.0.0" in result.stderr
    assert "SET007" not in result.stdout


def test_sarif_names_every_rule_and_place() -> None:
    result = run("-c", BAD, "--engine", "vllm==0.12.0", "--sarif")
    read = json.loads(result.stdout)
    driver = read["runs"][0]["tool"]["driver"]
    first = next(each for each in read["runs"][0]["results"] if each["ruleId"] == "ARG001")
    assert driver["rules"][first["ruleIndex"]]["id"] == "ARG001"
    assert first["locations"][0]["physicalLocation"]["region"] == {"startLine": 1}
    assert {each["level"] for each in read["runs"][0]["results"]} <= {"error", "warning", "note"}
    assert write_sarif([])["runs"][0]["results"] == []


def test_notes_can_be_left_out() -> None:
    assert "note" in run("-c", GOOD).stdout
    assert run("-c", GOOD, "--no-notes").stdout == ""
