from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factory import make_exchange, make_finding, make_record

from leadline import journal as module
from leadline.errors import JournalError
from leadline.journal import (
    Journal,
    Redactor,
    Run,
    create_run,
    find_unfinished,
    folder_name,
    list_runs,
    write_whole,
)

CAMPAIGN = "name: c\nmodel: m\ndeployments: {x: {engine: llamacpp}}\n"
FACTS = {"campaign": "c", "digest": "d1", "seed": 7}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return create_run(tmp_path, "c", FACTS, CAMPAIGN)


# --- a run directory ------------------------------------------------------------------------


def test_a_new_run_holds_campaign_and_facts(path: Path) -> None:
    assert (path / "campaign.yaml").read_text(encoding="utf-8") == CAMPAIGN
    facts = Run(path).facts
    assert facts["schema"] == "leadline.run/1"
    assert facts["id"] == path.name
    assert (facts["campaign"], facts["digest"], facts["seed"]) == ("c", "d1", 7)
    assert sorted(item.name for item in path.iterdir()) == ["campaign.yaml", "run.json"]


def test_runs_of_one_second_get_ids_of_their_own(tmp_path: Path) -> None:
    paths = [create_run(tmp_path, "c", FACTS, CAMPAIGN) for _ in range(5)]
    assert len(set(paths)) == 5


def test_a_run_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module.write_whole

    def full_disk(path: Path, text: str) -> None:
        if path.name == "run.json":
            raise JournalError("cannot be written: No space left on device", where=str(path))
        whole(path, text)

    monkeypatch.setattr(module, "write_whole", full_disk)
    with pytest.raises(JournalError, match="No space left"):
        create_run(tmp_path, "c", FACTS, CAMPAIGN)
    assert list((tmp_path / "c").iterdir()) == []
    assert list_runs(tmp_path) == []


def test_a_root_that_is_no_folder_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError) as refusal:
        create_run(tmp_path / "file", "c", FACTS, CAMPAIGN)
    assert refusal.value.what == "cannot create a run directory: Not a directory"
    assert refusal.value.cure == "choose a writable folder with --runs DIR"


def test_a_folder_without_run_json_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"not a run directory: run\.json is missing"):
        Run(tmp_path)


def test_a_damaged_run_json_is_an_error_not_a_traceback(path: Path) -> None:
    (path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(JournalError, match="cannot be read"):
        Run(path)


def test_runs_are_listed_oldest_first(tmp_path: Path) -> None:
    for name, stamp in (("b", "20260102-000000"), ("a", "20260103-000000"), ("a", "20260101-0")):
        folder = tmp_path / name / stamp
        folder.mkdir(parents=True)
        write_whole(folder / "run.json", "{}")
    assert [path.name for path in list_runs(tmp_path)] == [
        "20260101-0",
        "20260102-000000",
        "20260103-000000",
    ]


def test_folder_names_hold_nothing_that_a_shell_minds() -> None:
    assert folder_name("x/ctx_size=8192/A=b c") == "x_ctx_size=8192_A=b_c"
    assert folder_name("../up") == ".._up"


# --- what is unfinished ---------------------------------------------------------------------


def test_the_newest_unfinished_run_of_an_equal_campaign_is_found(tmp_path: Path) -> None:
    create_run(tmp_path, "c", FACTS, CAMPAIGN)
    newest = create_run(tmp_path, "c", FACTS, CAMPAIGN)
    create_run(tmp_path, "c", {**FACTS, "digest": "d2"}, CAMPAIGN)
    found = find_unfinished(tmp_path, "c", "d1")
    assert found is not None
    assert found.path == newest


def test_a_finished_run_is_not_resumed(tmp_path: Path, path: Path) -> None:
    journal = Journal(path)
    journal.event("run_started")
    assert find_unfinished(tmp_path, "c", "d1") is not None
    journal.event("run_finished")
    journal.close()
    assert find_unfinished(tmp_path, "c", "d1") is not None, "it owes its report"
    (path / "report.json").write_text('{"finished":true}')
    assert find_unfinished(tmp_path, "c", "d1") is None


def test_a_run_of_another_campaign_or_digest_is_not_resumed(tmp_path: Path, path: Path) -> None:
    assert find_unfinished(tmp_path, "c", "d2") is None
    assert find_unfinished(tmp_path, "other", "d1") is None


def test_a_run_whose_end_was_torn_is_unfinished(tmp_path: Path, path: Path) -> None:
    (path / "events.jsonl").write_bytes(b'{"event":"run_finished"}')
    assert find_unfinished(tmp_path, "c", "d1") is not None


# --- lines ----------------------------------------------------------------------------------


def test_records_and_findings_come_back_as_they_were_written(path: Path) -> None:
    records = [make_record(trial=trial) for trial in (1, 2)]
    finding = make_finding()
    journal = Journal(path)
    for record in records:
        journal.record(record)
    journal.finding(finding)
    journal.scrape({"at": "now", "before": {"a": 1.0}})
    journal.close()
    run = Run(path)
    assert run.records() == records
    assert run.findings() == [finding]
    assert list(run.lines("scrapes")) == [{"at": "now", "before": {"a": 1.0}}]


def test_the_records_of_a_load_wait_for_the_disk_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    records = [make_record(trial=trial) for trial in range(1, 40)]
    journal = Journal(path)
    journal.records(records)
    journal.records([])
    journal.close()
    assert Run(path).records() == records
    assert len(synced) == 3  # the folder first, for the new file


def test_each_line_names_its_schema(path: Path) -> None:
    journal = Journal(path)
    journal.record(make_record())
    journal.finding(make_finding())
    journal.close()
    run = Run(path)
    assert [line["schema"] for line in run.lines("records")] == ["leadline.record/1"]
    assert [line["schema"] for line in run.lines("findings")] == ["leadline.finding/1"]


def test_each_line_is_on_the_disk_before_the_next_step(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((fd, os.fstat(fd).st_size)))
    journal = Journal(path)
    for number in range(3):
        journal.event("step", number=number)
        assert len(synced) == number + 2  # and the folder, once, for the new file
        assert synced[-1][1] == (path / "events.jsonl").stat().st_size
    journal.close()


def test_events_keep_their_order_and_their_time(path: Path) -> None:
    journal = Journal(path)
    for number in range(20):
        journal.event("step", number=number)
    journal.close()
    events = Run(path).events()
    assert [event["number"] for event in events] == list(range(20))
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)


def test_a_stream_that_was_never_written_is_empty(path: Path) -> None:
    assert Run(path).records() == []
    assert Run(path).document("plan.json") == {}


def test_a_full_disk_is_an_error_with_its_cure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    journal = Journal(path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JournalError) as refusal:
        journal.event("step")
    journal.close()
    assert refusal.value.what == "cannot be written: No space left on device"
    assert refusal.value.where == str(path / "events.jsonl")


def test_what_no_longer_fits_leaves_no_part_of_a_line(path: Path) -> None:
    """A real limit, where the kernel writes a part of the line before it refuses the rest."""
    with_room = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(path)
    journal.event("run_started")
    whole = (path / "events.jsonl").read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, with_room[1]))
    try:
        with pytest.raises(JournalError, match="File too large"):
            journal.event("warning", text="x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, with_room)
    assert (path / "events.jsonl").read_bytes() == whole
    journal.event("run_finished")
    journal.close()
    assert [event["event"] for event in Run(path).events()] == ["run_started", "run_finished"]


def test_a_lock_that_a_dead_process_left_holds_nothing(path: Path) -> None:
    """As after a reboot: the file is there, and its pid may be another program's by now."""
    (path / ".lock").write_text(f"pid {os.getppid()} on elsewhere since yesterday")
    Journal(path).close()


@given(data=st.data())
def test_a_line_torn_at_any_byte_is_owed_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = create_run(tmp_path_factory.mktemp("torn"), "c", FACTS, CAMPAIGN)
    journal = Journal(path)
    for trial in (1, 2, 3):
        journal.record(make_record(trial=trial))
    journal.close()
    file = path / "records.jsonl"
    content = file.read_bytes()
    whole = content[: content.rstrip(b"\n").rfind(b"\n") + 1]
    cut = data.draw(st.integers(len(whole), len(content) - 1))
    file.write_bytes(content[:cut])

    assert [record.trial for record in Run(path).records()] == [1, 2]
    journal = Journal(path)
    journal.record(make_record(trial=4))
    journal.close()
    assert [record.trial for record in Run(path).records()] == [1, 2, 4]


def test_a_line_damaged_in_the_middle_is_an_error_with_its_number(path: Path) -> None:
    (path / "records.jsonl").write_bytes(b'{"a":1}\n{oops}\n{"a":2}\n')
    with pytest.raises(JournalError, match="line 2 is damaged") as refusal:
        list(Run(path).lines("records"))
    assert refusal.value.where == str(path / "records.jsonl")
    assert refusal.value.cure == "delete that line: its trial is then owed again"


@pytest.mark.parametrize("line", [b"{}\n", b'{"cell": 3}\n', b"7\n"])
def test_a_line_of_another_shape_is_an_error_not_a_traceback(path: Path, line: bytes) -> None:
    (path / "records.jsonl").write_bytes(line)
    (path / "findings.jsonl").write_bytes(line)
    with pytest.raises(JournalError, match="line 1 is damaged"):
        Run(path).records()
    with pytest.raises(JournalError, match="line 1 is damaged"):
        Run(path).findings()


# --- whole files ----------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.json"
    write_whole(target, "old")

    def crash(self: Path, other: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(JournalError, match="cannot be written: No space left on device"):
        write_whole(target, "new")
    assert target.read_text(encoding="utf-8") == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["report.json"]


def test_documents_are_written_as_json_and_read_back(path: Path) -> None:
    journal = Journal(path)
    journal.write("plan.json", {"a": [1, 2]})
    journal.write("finding.json", make_finding())
    journal.write("notes/text.txt", "plain")
    journal.close()
    assert Run(path).document("plan.json") == {"a": [1, 2]}
    assert Run(path).document("finding.json")["code"] == "RUN001"
    assert (path / "notes" / "text.txt").read_text(encoding="utf-8") == "plain"


def test_each_start_of_a_deployment_has_a_log_of_its_own(path: Path) -> None:
    journal = Journal(path)
    first, second = journal.log_path("x/A=1", 1), journal.log_path("x/A=1", 2)
    journal.close()
    assert first == path / "logs" / "x_A=1" / "1" / "server.log"
    assert second.parent.is_dir()
    assert first != second


# --- one writer -----------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from leadline.journal import Journal
journal = Journal(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_while_the_first_writes(path: Path) -> None:
    argv = [sys.executable, "-c", HOLD, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(JournalError) as refusal:
            Journal(path)
        what = refusal.value.what
        assert what.startswith("another leadline process is writing this run: pid ")
        assert f"pid {holder.pid} on {socket.gethostname()} since 20" in what
        assert refusal.value.cure == "wait for it, or start a run of its own with --fresh"
        holder.kill()
    Journal(path).close()


def test_reading_needs_no_lock(path: Path) -> None:
    journal = Journal(path)
    journal.event("step")
    assert [event["event"] for event in Run(path).events()] == ["step"]
    journal.close()


# --- secrets --------------------------------------------------------------------------------

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"key={SECRET}.", "key=[redacted]."),
        ("token hf_abcdefgh12345678 used", "token [redacted] used"),
        ("sk-proj_abc-DEF12345", "[redacted]"),
        ("Authorization: Bearer abc.DEF~123+/=", "Authorization: Bearer [redacted]"),
        ("half_of hf_abc and task-12345678", "half_of hf_abc and task-12345678"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_known_and_typical_secrets_are_redacted(text: str, kept: str) -> None:
    assert Redactor((SECRET, ""))(text) == kept


def everything_kept(path: Path) -> str:
    return "\n".join(item.read_text(encoding="utf-8") for item in path.rglob("*") if item.is_file())


def write_everywhere(path: Path, secrets: tuple[str, ...]) -> None:
    """The secrets in every kind of line and file of a run."""
    text = " ".join(secrets)
    journal = Journal(path, Redactor(secrets))
    journal.record(make_record(make_exchange(server={"echo": text})))
    journal.finding(make_finding(evidence=(text,)))
    journal.event("warning", text=text, nested={"list": [text]})
    journal.scrape({"text": text})
    journal.write("environment.json", {"env": text})
    journal.write("note.txt", text)
    journal.close()


def test_no_artefact_of_a_run_holds_a_secret(path: Path) -> None:
    write_everywhere(path, (SECRET,))
    kept = everything_kept(path)
    assert SECRET not in kept
    assert kept.count("[redacted]") == 7


@pytest.mark.parametrize("secret", ['with"quote-1', "with\\backslash", "with\ttab-1", "gehé ïm!"])
def test_a_secret_that_json_writes_differently_is_redacted_too(path: Path, secret: str) -> None:
    write_everywhere(path, (secret,))
    kept = everything_kept(path)
    assert secret not in kept
    assert json.dumps(secret, ensure_ascii=False)[1:-1] not in kept


@pytest.mark.parametrize("secret", ["123456", "prompt_tokens"])
def test_a_secret_that_looks_like_a_figure_or_a_field_damages_no_line(
    path: Path, secret: str
) -> None:
    record = make_record(make_exchange(usage={"prompt_tokens": 1234567, "completion_tokens": 3}))
    journal = Journal(path, Redactor((secret,)))
    journal.record(record)
    journal.close()
    kept = Run(path).records()[0]
    assert kept.exchange.usage == {"prompt_tokens": 1234567, "completion_tokens": 3}
    assert kept.exchange.clock == record.exchange.clock


def test_the_campaign_file_is_kept_without_its_secrets(tmp_path: Path) -> None:
    text = CAMPAIGN + f"# {SECRET}\n"
    path = create_run(tmp_path, "c", FACTS, text, Redactor((SECRET,)))
    assert (path / "campaign.yaml").read_text(encoding="utf-8") == CAMPAIGN + "# [redacted]\n"


@given(
    st.recursive(
        st.none() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_what_holds_no_secret_is_kept_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    path = create_run(tmp_path_factory.mktemp("kept"), "c", FACTS, CAMPAIGN)
    journal = Journal(path, Redactor((SECRET,)))
    journal.event("step", content=content)
    journal.close()
    assert Run(path).events()[0]["content"] == content
