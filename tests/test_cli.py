"""Wrong use: one clear message, the right exit code, no traceback, no run directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.factory import RunWriter, answered
from tests.fake_server import (
    DONE,
    Answer,
    FakeServer,
    models,
    serving_apart,
    token,
    usage,
)
from tests.prompts.tokenizers_for_tests import real_text, save

from leadline import __version__
from leadline.cli import cli, main
from leadline.deploy.process import free_port


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The entry point, in an empty folder and without a key in the environment."""
    monkeypatch.chdir(tmp_path)
    Path("sea.txt").write_text("deep blue sea\n" * 2000, encoding="utf-8")
    monkeypatch.delenv("LEADLINE_API_KEY", raising=False)
    for command in (cli, *cli.commands.values()):
        # Click keeps the help option of whoever called first; others make contexts of their own.
        monkeypatch.setattr(command, "_help_option", None)

    def run(*argv: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(list(argv))
        printed = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, printed.out, printed.err)

    return run


def refused(outcome: Outcome, code: int = 3) -> str:
    """The one message of a refusal that left nothing behind."""
    assert outcome.code == code
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert not Path("runs").exists()
    return outcome.stderr


def prove(run: Run, url: str, *options: str) -> Outcome:
    return run("prove", "--url", url, "--model", "tiny", "--corpus", "sea.txt", *options)


# --- wrong use ------------------------------------------------------------------------------


def test_an_unknown_option_is_wrong_use(run: Run) -> None:
    assert "No such option '--uncached'" in refused(run("runs", "--uncached"))


def test_an_unknown_verb_is_wrong_use(run: Run) -> None:
    assert "No such command 'prof'" in refused(run("prof"))


def test_a_missing_option_is_wrong_use(run: Run) -> None:
    assert "Missing option '--url'" in refused(run("prove", "--model", "m"))


def test_a_missing_campaign_file_is_named(run: Run) -> None:
    assert refused(run("run", "none.yaml")) == (
        "leadline: none.yaml: no such campaign file\n  cure: check the path\n"
    )


def test_bad_yaml_is_named_with_its_line(run: Run) -> None:
    Path("c.yaml").write_text("name: a\ndeployments: [x\n", encoding="utf-8")
    message = refused(run("run", "c.yaml"))
    assert message.startswith("leadline: c.yaml:3: not valid YAML: expected ',' or ']'")
    assert message.count("\n") == 2


def test_an_unknown_key_is_named_with_its_line_and_the_nearest(run: Run) -> None:
    text = "name: a\nmodel: m\ndeployments: {x: {engine: llamacpp}}\nworkload: {corpse: x}\n"
    Path("c.yaml").write_text(text, encoding="utf-8")
    assert refused(run("run", "c.yaml")) == (
        "leadline: c.yaml:4: workload.corpse: unknown key; did you mean 'corpus'?\n"
        "  cure: correct the named lines and run the command again\n"
    )


CAMPAIGN = """\
name: a
model: {model}
deployments: {{x: {{engine: {engine}, settings: {settings}, target: {target}}}}}
workload: {{corpus: {corpus}}}
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "vlm"}, "engine: unknown engine 'vlm'"),
        (
            {"engine": "openai"},
            "deployments: Leadline cannot start openai itself yet, only talk to a running server",
        ),
        ({"engine": "vlm", "target": "'http://127.0.0.1:1'"}, "engine: unknown engine 'vlm'"),
        ({"settings": "{ctx_size: lots}"}, "settings.ctx_size: 'lots' is not a token count"),
        ({"settings": "{ctx_sise: 8}"}, "settings: unknown llamacpp setting ctx_sise"),
        ({"settings": "{cache_type_k: q9}"}, "settings.cache_type_k: 'q9' is not a cache type"),
        ({"corpus": "none.txt"}, "none.txt: no such corpus file"),
        (
            {"target": "{kind: endpoint, url: 'http://h', tokenizer: none}"},
            "none: no tokenizer.json there",
        ),
        (
            {"target": "{kind: endpoint, url: 'http://h', api_key_env: NO_SUCH_KEY}"},
            "target.api_key_env: the environment has no NO_SUCH_KEY",
        ),
    ],
)
def test_what_can_be_known_to_be_wrong_is_said_before_a_run_exists(
    run: Run, change: dict[str, str], message: str
) -> None:
    facts = {
        "model": "m.gguf",
        "engine": "llamacpp",
        "settings": "{}",
        "target": "process",
        "corpus": "kjv",
        **change,
    }
    Path("c.yaml").write_text(CAMPAIGN.format(**facts), encoding="utf-8")
    assert refused(run("run", "c.yaml")).startswith(f"leadline: {message}")


def test_a_wrong_setting_inside_the_matrix_is_found_too(run: Run) -> None:
    facts = {"model": "m", "engine": "llamacpp", "settings": "{}", "target": "process"}
    text = CAMPAIGN.format(**facts, corpus="kjv") + "matrix: {settings.ctx_size: [512, lots]}\n"
    Path("c.yaml").write_text(text, encoding="utf-8")
    assert "settings.ctx_size: 'lots' is not a token count" in refused(run("run", "c.yaml"))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "--input-tokens",
            "nonsense",
            (
                "--input-tokens: 'nonsense' is not a token count; "
                "write 4096, 10k (10,000) or 2M (2^21)"
            ),
        ),
        ("--output-tokens", "0", "--output-tokens: '0' is not a token count: it must be"),
        ("--repeats", "0", "--repeats: Input should be greater than or equal to 1"),
        ("--repeats", "many", "Invalid value for '--repeats'"),
        ("--needles", "65", "--needles: Input should be less than or equal to 64"),
        ("--max-model-len", "8kk", "--max-model-len: '8kk' is not a token count"),
        ("--url", "localhost:8000", "--url: 'localhost:8000' is not a server address"),
        ("--prompt-as", "song", "Invalid value for '--prompt-as'"),
        ("--tokenizer", "none", "none: no tokenizer.json there"),
        ("--engine", "vlm", "unknown engine 'vlm'"),
        ("--api-key-env", "NO_SUCH_KEY", "the environment has no NO_SUCH_KEY"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(
    run: Run, option: str, value: str, message: str
) -> None:
    assert message in refused(prove(run, f"http://127.0.0.1:{free_port()}", option, value))


def test_a_corpus_that_is_not_there_is_refused(run: Run) -> None:
    outcome = prove(run, f"http://127.0.0.1:{free_port()}", "--corpus", "none.txt")
    assert refused(outcome).startswith("leadline: none.txt: no such corpus file\n")


def test_a_runs_folder_that_is_a_file_is_refused(run: Run) -> None:
    Path("file").touch()
    assert "is a file" in refused(run("runs", "--runs", "file"))


@pytest.mark.parametrize("name", ["20260101-000000", "last", "../up"])
def test_an_unknown_run_is_wrong_use(run: Run, name: str) -> None:
    assert refused(run("report", name)) == (
        f"leadline: runs/: no run {name!r}\n  cure: `leadline runs` lists them; or give a path\n"
    )


# --- servers that cannot be tested ----------------------------------------------------------


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving_apart(FakeServer()) as server:
        yield server


def test_an_unreachable_server_is_infrastructure(run: Run) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    message = refused(prove(run, url), code=2)
    assert message.startswith(f"leadline: {url}/v1/models: no answer from the server: Cannot")


def test_a_model_that_is_not_served_is_wrong_use(run: Run, server: FakeServer) -> None:
    server.routes = {"/v1/models": models("llama", "qwen")}
    assert refused(prove(run, server.url)) == (
        f"leadline: {server.url}: the server does not serve 'tiny'\n"
        "  cure: use one of: llama, qwen\n"
    )


def test_a_refused_key_is_wrong_use(run: Run, server: FakeServer) -> None:
    server.routes = {"/v1/models": Answer({"error": "Unauthorized"}, 401)}
    message = refused(prove(run, server.url))
    assert "the server refuses the API key (HTTP 401)" in message


def test_what_is_no_openai_server_is_infrastructure(run: Run, server: FakeServer) -> None:
    server.routes = {"/v1/models": Answer("<html>")}
    message = refused(prove(run, server.url), code=2)
    assert "not a list of models" in message


# --- one whole proof ------------------------------------------------------------------------


def make_provable(server: FakeServer, tokens: int) -> None:
    """A server that counts every prompt as that long, answers it, and knows no needle."""
    server.routes = {
        "/v1/models": models("tiny", max_model_len=4096),
        "/tokenize": Answer({"tokens": list(range(400))}),
    }
    details = {"prompt_tokens_details": {"cached_tokens": 0}}
    server.script = [
        token("The answer ", 1),
        token("is unknown", 2, "length"),
        usage(tokens, 2, **details),
        DONE,
    ]


PROOF = ("--input-tokens", "256", "--output-tokens", "2", "--needles", "0", "--no-limit-probes")


def test_a_proof_that_holds_passes_and_leaves_its_run(run: Run, server: FakeServer) -> None:
    make_provable(server, tokens=256)
    outcome = prove(run, server.url, *PROOF, "--json")
    report = json.loads(outcome.stdout)
    assert outcome.code == 0
    (cell,) = report["cells"]
    assert (cell["status"], cell["input_tokens"]) == ("pass", 256)
    sent = [len(body["prompt"]) for body in server.bodies if "max_tokens" in body]
    assert sent == [256, 256]
    (path,) = Path("runs").glob("prove/*/run.json")
    assert path.parent.name == report["run"]


def test_a_proof_that_does_not_hold_does_not_pass(run: Run, server: FakeServer) -> None:
    make_provable(server, tokens=249)
    outcome = prove(run, server.url, *PROOF, "--json")
    (cell,) = json.loads(outcome.stdout)["cells"]
    assert outcome.code == 1
    assert (cell["status"], cell["cause"]) == ("fail", "wrong-length")


def test_no_key_is_left_in_the_run(
    run: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "correct-horse-battery"
    monkeypatch.setenv("MY_KEY", key)
    make_provable(server, tokens=256)
    server.script = [*server.script[:1], token(f"you said {key}", 2, "length"), *server.script[2:]]
    outcome = prove(run, server.url, "--api-key-env", "MY_KEY", *PROOF, "--json")
    assert server.headers[-1]["Authorization"] == f"Bearer {key}"
    files = [path for path in Path("runs").rglob("*") if path.is_file()]
    assert files
    kept = b"".join(path.read_bytes() for path in files)
    assert key.encode() not in kept + outcome.stdout.encode()
    assert b"you said [redacted]" in kept


def test_a_window_with_a_suffix_is_understood_where_the_server_tells_none(
    run: Run, server: FakeServer
) -> None:
    make_provable(server, tokens=98)
    server.routes["/v1/models"] = models("tiny")
    Path("c.yaml").write_text(
        f"name: window\nmodel: tiny\ndeployments: {{x: {{target: '{server.url}', "
        "settings: {max_model_len: 0.1k}}}\n"
        "workload: {output_tokens: 2, repeats: 1, needles: 0, limit_probes: false, "
        "corpus: sea.txt}\n",
        encoding="utf-8",
    )
    report = json.loads(run("run", "c.yaml", "--json").stdout)
    assert report["deployments"][0]["window_tokens"] == 100
    assert report["cells"][0]["input_tokens"] == 98
    assert report["cells"][0]["status"] == "pass"


# --- reading --------------------------------------------------------------------------------


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    text = (
        "name: kept\ndeployments: {x: {target: 'http://127.0.0.1:1'}}\n"
        "workload: {input_tokens: 100, output_tokens: 3, repeats: 1}\n"
    )
    writer = RunWriter(tmp_path / "runs", text)
    writer.ready()
    writer.journal.record(answered(100))
    return writer.close().path


def test_an_empty_folder_has_no_runs(run: Run) -> None:
    outcome = run("runs")
    assert outcome == (0, "no runs in runs/; `leadline quickstart` makes one\n", "")
    assert run("runs", "--json") == (0, "[]\n", "")
    assert not Path("runs").exists()


def test_runs_are_listed_with_what_came_of_them(run: Run, a_run: Path) -> None:
    (row,) = json.loads(run("runs", "--json").stdout)
    assert (row["run"], row["campaign"], row["state"]) == (a_run.name, "kept", "finished")
    assert row["cells"] == "1 pass"
    assert a_run.name in run("runs").stdout


def test_a_damaged_run_does_not_hide_the_others(run: Run, a_run: Path) -> None:
    (a_run / "records.jsonl").write_text("{}\n", encoding="utf-8")
    (row,) = json.loads(run("runs", "--json").stdout)
    assert row["state"] == "damaged"


@pytest.mark.parametrize("by", ["path", "id", "last"])
def test_a_report_is_rendered_again_from_the_journal(run: Run, a_run: Path, by: str) -> None:
    name = {"path": str(a_run), "id": a_run.name, "last": "last"}[by]
    outcome = run("report", name, "--json")
    report = json.loads(outcome.stdout)
    assert outcome.code == 0
    assert (report["run"], report["cells"][0]["status"]) == (a_run.name, "pass")
    assert json.loads((a_run / "report.json").read_text(encoding="utf-8")) == report


def test_a_damaged_journal_is_an_error_with_its_line(run: Run, a_run: Path) -> None:
    (a_run / "records.jsonl").write_text("{oops\n", encoding="utf-8")
    outcome = run("report", "last")
    assert outcome.code == 2
    place = a_run.relative_to(Path.cwd()) / "records.jsonl"
    assert outcome.stderr.startswith(f"leadline: {place}: line 1 is damaged: ")
    assert "Traceback" not in outcome.stderr


def test_the_campaign_of_the_quickstart_is_shown_on_request(run: Run) -> None:
    outcome = run("quickstart", "--show")
    assert outcome.code == 0
    assert "name: quickstart" in outcome.stdout


def test_help_and_version_are_no_errors(run: Run) -> None:
    assert run("--version") == (0, f"leadline {__version__}\n", "")
    assert "Exit codes: 0 passed, 1 did not qualify" in run("--help").stdout


# --- as a program ---------------------------------------------------------------------------


def as_program(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "leadline.cli", *argv]
    return subprocess.run(command, text=True, timeout=60, check=False, **options)


def test_wrong_use_as_a_program_is_exit_code_3(tmp_path: Path) -> None:
    done = as_program("run", "none.yaml", cwd=tmp_path, capture_output=True)
    assert done.returncode == 3
    assert done.stderr == "leadline: none.yaml: no such campaign file\n  cure: check the path\n"
    assert done.stdout == ""


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = as_program("runs", cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("form", ["ids", "text"])
def test_with_a_tokenizer_of_our_own_every_prompt_is_a_slice_of_exactly_that_length(
    run: Run, server: FakeServer, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_provable(server, 300)
    del server.routes["/tokenize"]
    tokenizer = save("llama3", Path("model"))
    for name, part in (("a.txt", real_text()[:60_000]), ("b.txt", real_text()[60_000:120_000])):
        Path(name).write_text(part, encoding="utf-8")
    monkeypatch.setenv("LEADLINE_CACHE", "cache")
    own = ["--tokenizer", "model", "--corpus", "a.txt", "--corpus", "b.txt", "--seed", "7"]
    asked = ["--input-tokens", "300", "--repeats", "2", "--prompt-as", form, "--no-limit-probes"]
    prove(run, server.url, *own, *asked)
    prompts = [body["prompt"] for body in server.bodies]
    found = prompts if form == "ids" else [tokenizer.encode(text) for text in prompts]
    added = 300 - 256 if form == "text" else 0  # what the warm-up seemed to show of the server
    assert [len(ids) for ids in found] == [256, 300 - added, 300 - added]
    hay = "".join(path.read_text(encoding="utf-8") for path in (Path("a.txt"), Path("b.txt")))
    assert all(tokenizer.huggingface.decode(ids[:20]) in hay for ids in found)
    assert len(list(Path("cache/tokens").iterdir())) == 1
