"""What every target owes, whatever it runs servers on; a new target joins the places."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.absent import leave_out
from tests.cancelling import cancel_begun
from tests.deploy.places import SERVER, open_place

from leadline.deploy import process
from leadline.deploy.process import free_port
from leadline.deploy.target import StartError, deployed
from leadline.errors import DeployError
from leadline.journal import Redactor
from leadline.launch import Endpoint, Launch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_POLL_S", 0.01)


CONTAINERS = (
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.timeout(120)]),
    pytest.param("kubernetes", marks=[pytest.mark.cluster, pytest.mark.timeout(240)]),
)


@pytest.fixture(params=["process", *CONTAINERS])
def place(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One kind of target; whatever a test leaves running is killed."""
    try:
        opened = open_place(request.param)
    except LookupError as missing:
        leave_out(missing)
    yield opened
    opened.close()
    for child in psutil.Process().children(recursive=True):
        child.kill()


on_this_machine = pytest.mark.parametrize("place", ["process"], indirect=True)
"""For what only a target can do whose processes are ours."""

in_containers = pytest.mark.parametrize("place", CONTAINERS, indirect=True)
"""For what somebody else carries between a server and us."""

Use = Callable[[Any, Endpoint], Awaitable[Any]]


def start(
    target: Any, what: Launch, log: Path, use: Use | None = None, timeout_s: float = 10
) -> list[str]:
    """Start, use, stop; the phases it went through."""
    phases: list[str] = []

    async def run() -> None:
        try:
            endpoint = await target.start(what, log, timeout_s, phases.append)
            if use:
                await use(target, endpoint)
        finally:
            await target.stop()

    asyncio.run(run())
    return phases


def refusal(target: Any, what: Launch, log: Path, timeout_s: float = 10) -> StartError:
    with pytest.raises(StartError) as caught:
        start(target, what, log, timeout_s=timeout_s)
    return caught.value


def told(place: Any, status: str) -> set[str]:
    """A pod that we delete may be gone before the kubelet has written how it ended."""
    return {status, "deleted"} if place.name == "kubernetes" else {status}


def spawned(log: Path) -> int:
    """Pid of the grandchild that the server told of."""
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("child")]
    return int(line.split()[1])


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(pid: int) -> bool:
    """Killed is not yet gone; it has a moment."""
    for _ in range(200):
        if not alive(pid):
            return True
        time.sleep(0.01)
    return False


# --- starting -------------------------------------------------------------------------------


def test_a_started_server_is_ready_and_answers(place: Any, tmp_path: Path) -> None:
    what = place.launch("serve()")

    async def use(target: Any, endpoint: Endpoint) -> None:
        assert endpoint == Endpoint(url=f"http://127.0.0.1:{what.port}", model="tiny")
        assert target.exit_status() is None
        assert await target.exited(0.01) is None
        with await asyncio.to_thread(urllib.request.urlopen, endpoint.url) as answer:
            assert answer.status == 200

    phases = start(place.target(), what, tmp_path / "log", use)
    assert phases == ["loading the weights", "starting to listen"]


def test_the_log_is_written_as_it_comes(place: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def use(target: Any, _: Endpoint) -> None:
        assert log.read_text() == "loading model\nmodel loaded\n"
        assert target.log_tail() == ("loading model", "model loaded")
        assert target.log_tail(1) == ("model loaded",)

    start(place.target(), place.launch("serve()"), log, use)


@on_this_machine
def test_the_environment_of_the_launch_is_added_to_ours(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "ours")
    script = "print(os.environ['OURS'], os.environ['THEIRS'], flush=True); serve()"
    start(place.target(), place.launch(script, env={"THEIRS": "theirs"}), tmp_path / "log")
    assert (tmp_path / "log").read_text().startswith("ours theirs\n")


def test_a_server_that_ends_at_once_tells_its_last_words_and_status(
    place: Any, tmp_path: Path
) -> None:
    script = "print('out of luck', file=sys.stderr); sys.exit(3)"
    error = refusal(place.target(), place.launch(script), tmp_path / "log")
    assert error.what == "the server ended: exit code 3"
    assert (error.cause, error.exit_status) == ("exited", "exit code 3")
    assert error.log_tail == ("out of luck",)
    assert (tmp_path / "log").read_text() == "out of luck\n"
    assert error.exit_code == 2


def test_a_server_killed_while_starting_is_said_to_be_killed(place: Any, tmp_path: Path) -> None:
    script = "print('loading model', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    error = refusal(place.target(), place.launch(script), tmp_path / "log")
    assert (error.cause, error.exit_status) == ("exited", "killed by SIGKILL")
    assert error.log_tail == ("loading model",)


@pytest.mark.parametrize("script", ["time.sleep(60)", "Handler.status = 503; serve()"])
def test_a_server_that_is_never_ready_is_given_up(place: Any, tmp_path: Path, script: str) -> None:
    target = place.target()
    error = refusal(target, place.launch(script), tmp_path / "log", timeout_s=0.3)
    assert error.what == "not ready within 0.3 s"
    assert (error.cause, error.exit_status) == ("timeout", None)
    assert target.exit_status() is not None


@on_this_machine
def test_an_occupied_port_is_refused_and_its_holder_named(place: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        error = refusal(place.target(), place.launch("serve()", port=port), tmp_path / "log")
    assert error.cause == "port_in_use"
    assert error.what == f"port {port} of 127.0.0.1 cannot be used: Address already in use"
    bind, held = error.log_tail
    assert bind == f"bind 127.0.0.1:{port}: Address already in use"
    assert held == f"held by pid {os.getpid()} ({psutil.Process().name()})"
    assert not (tmp_path / "log").exists()


def test_a_port_that_was_just_given_back_can_be_used_again(place: Any, tmp_path: Path) -> None:
    what = place.launch("serve()")
    for attempt in (1, 2):
        start(place.target(), what, tmp_path / f"log{attempt}")


@on_this_machine
def test_a_program_that_is_not_there_is_an_error_with_its_cure(place: Any, tmp_path: Path) -> None:
    what = Launch(argv=("/no/such/engine",), port=free_port(), served_model="tiny")
    with pytest.raises(DeployError) as caught:
        start(place.target(), what, tmp_path / "log")
    assert str(caught.value) == (
        "/no/such/engine: cannot be started: No such file or directory\n"
        "  cure: install the engine, or correct the path"
    )


# --- the log --------------------------------------------------------------------------------


def test_secrets_reach_neither_the_log_nor_its_tail(place: Any, tmp_path: Path) -> None:
    secret = "correct-horse-battery"
    script = f"print('key', '{secret}', 'and hf_abcdefgh12345678', flush=True); serve()"

    async def use(target: Any, _: Endpoint) -> None:
        assert target.log_tail()[0] == "key [redacted] and [redacted]"

    start(place.target(Redactor((secret,))), place.launch(script), tmp_path / "log", use)
    assert (tmp_path / "log").read_text().splitlines()[0] == "key [redacted] and [redacted]"


def test_endless_lines_and_broken_characters_do_no_harm(place: Any, tmp_path: Path) -> None:
    script = (
        "sys.stdout.buffer.write(b'x' * 300_000 + b'\\n\\xff\\xfe end\\n');"
        "sys.stdout.flush(); serve()"
    )
    start(place.target(), place.launch(script), tmp_path / "log")
    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert text.replace("\n", "").count("x") == 300_000
    assert "\ufffd\ufffd end\n" in text
    assert text.endswith("model loaded\n")


def test_only_the_last_lines_are_kept_in_memory(place: Any, tmp_path: Path) -> None:
    script = "[print('line', n) for n in range(1000)]; sys.stdout.flush(); serve()"

    async def use(target: Any, _: Endpoint) -> None:
        for _try in range(100):  # whoever carries the log may be late
            if target.log_tail(1) == ("model loaded",):
                break
            await asyncio.sleep(0.1)
        assert target.log_tail(3) == ("line 999", "loading model", "model loaded")
        assert len(target.log_tail(10_000)) == 400

    start(place.target(), place.launch(script), tmp_path / "log", use)


@in_containers
def test_a_log_that_comes_late_is_waited_for(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an engine said of its KV cache is read as soon as it is ready."""
    place.hold_log_back(monkeypatch, 3)

    async def use(*_: Any) -> None:
        assert (tmp_path / "log").read_text().endswith("model loaded\n")

    start(place.target(), place.launch("serve()"), tmp_path / "log", use, timeout_s=60)


# --- workers: processes that a server needs, and may outlive -----------------------------------


@on_this_machine
def test_a_lost_worker_is_seen_while_its_server_still_answers(place: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def use(target: Any, endpoint: Endpoint) -> None:
        assert target.exit_status() is None
        os.kill(worker := spawned(log), signal.SIGKILL)
        expected = f"its process sleep 60 (pid {worker}) was killed by SIGKILL"
        assert await target.exited(5) == expected
        with await asyncio.to_thread(urllib.request.urlopen, endpoint.url) as answer:
            assert answer.status == 200
        os.kill(target.pid, signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert target.exit_status() == expected, "the cause, not what followed from it"

    start(place.target(), place.launch("spawn(); serve()", worker_title="sleep"), log, use)


@on_this_machine
def test_a_worker_whose_parent_has_asked_for_its_end_is_only_known_to_be_gone(
    place: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    reaping = "signal.signal(signal.SIGCHLD, signal.SIG_IGN); spawn(); serve()"

    async def use(target: Any, _: Endpoint) -> None:
        os.kill(worker := spawned(log), signal.SIGKILL)
        assert await target.exited(5) == f"its process sleep 60 (pid {worker}) is gone"

    start(place.target(), place.launch(reaping, worker_title="sleep"), log, use)


@on_this_machine
def test_a_server_that_loses_a_worker_while_it_starts_is_not_waited_for(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LOOK_S", 0.01)
    monkeypatch.setattr(process, "_LAST_WORDS_S", 0.2)
    script = (
        "child = spawn(); time.sleep(0.5); child.kill(); print('on', flush=True); time.sleep(60)"
    )
    begun_s = time.monotonic()
    launch = place.launch(script, worker_title="sleep")
    error = refusal(place.target(), launch, tmp_path / "log", timeout_s=60)
    assert time.monotonic() - begun_s < 30
    assert error.cause == "exited"
    assert error.what.startswith("the server ended: its process sleep 60 (pid ")
    assert error.what.endswith("was killed by SIGKILL")
    assert error.log_tail[-1] == "on"


@on_this_machine
def test_other_children_of_a_server_may_come_and_go(place: Any, tmp_path: Path) -> None:
    async def use(target: Any, _: Endpoint) -> None:
        os.kill(spawned(tmp_path / "log"), signal.SIGKILL)
        assert await target.exited(0.1) is None

    for title in ("", "VLLM::"):
        (tmp_path / "log").unlink(missing_ok=True)
        launch = place.launch("spawn(); serve()", worker_title=title)
        start(place.target(), launch, tmp_path / "log", use)


@on_this_machine
def test_a_fork_that_has_its_parents_title_is_no_worker(place: Any, tmp_path: Path) -> None:
    """The helper of a worker: whoever runs a program has one for a moment."""
    fork = "child = os.fork() or time.sleep(60); print('child', child, flush=True); serve()"

    async def use(target: Any, _: Endpoint) -> None:
        os.kill(spawned(tmp_path / "log"), signal.SIGKILL)
        assert await target.exited(0.1) is None

    title = Path(sys.executable).parent.as_posix()
    start(place.target(), place.launch(fork, worker_title=title), tmp_path / "log", use)


# --- ending ---------------------------------------------------------------------------------


def test_a_server_killed_from_outside_is_seen_as_killed(place: Any, tmp_path: Path) -> None:
    what = place.launch("serve()")

    async def use(target: Any, _: Endpoint) -> None:
        place.kill(target, what)
        assert await target.exited(20) == "killed by SIGKILL"
        assert target.exit_status() == "killed by SIGKILL"

    start(place.target(), what, tmp_path / "log", use)


@on_this_machine
@pytest.mark.parametrize("options", ["", "start_new_session=True"])
def test_stop_ends_what_the_server_started(place: Any, tmp_path: Path, options: str) -> None:
    log = tmp_path / "log"

    async def use(target: Any, _: Endpoint) -> None:
        assert alive(spawned(log))

    target = place.target()
    start(target, place.launch(f"spawn({options}); serve()"), log, use)
    assert not alive(spawned(log))
    assert target.exit_status() in told(place, "killed by SIGTERM")


@on_this_machine
def test_stop_ends_the_workers_of_a_server_that_died_before(place: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def use(target: Any, _: Endpoint) -> None:
        os.kill(target.pid, signal.SIGKILL)
        await target.exited(5)
        assert alive(spawned(log))

    start(place.target(), place.launch("spawn(); serve()"), log, use)
    assert ends(spawned(log))


@on_this_machine
@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="where Linux shows shared memory")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_stop_removes_the_shared_memory_of_a_killed_server(
    place: Any, tmp_path: Path, end: signal.Signals
) -> None:
    """As SGLang leaves a semaphore at each end; that of a living process is left alone."""
    folder, name = Path("/dev/shm"), f"leadline-{os.getpid()}-{end.name}"
    foreign = folder / f"{name}-foreign"
    foreign.write_bytes(bytes(32))

    async def use(target: Any, endpoint: Endpoint) -> None:
        assert (folder / f"sem.{name}").exists()
        os.kill(target.pid, end)
        await target.exited(5)

    hold = f"""
import _multiprocessing, mmap
lock = _multiprocessing.SemLock(1, 1, 1, "/{name}", False)
file = open({str(foreign)!r}, "r+b")
held = mmap.mmap(file.fileno(), 32)
serve()
"""
    with foreign.open("r+b") as file, mmap.mmap(file.fileno(), 32):
        start(place.target(), place.launch(hold), tmp_path / "log", use)
        assert not (folder / f"sem.{name}").exists()
        assert foreign.exists()
    foreign.unlink()


@on_this_machine
def test_stop_does_not_wait_for_an_orphan_that_holds_the_log(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_DRAIN_S", 0.05)
    log = tmp_path / "log"

    async def use(target: Any, _: Endpoint) -> None:
        os.kill(target.pid, signal.SIGKILL)
        await target.exited(5)
        await asyncio.wait_for(target.stop(), 5)

    try:
        start(place.target(), place.launch("spawn(start_new_session=True); serve()"), log, use)
    finally:
        os.kill(spawned(log), signal.SIGKILL)


def test_a_server_that_does_not_want_to_end_is_killed(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_STOP_S", 0.5)
    target = place.target()
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN); serve()"
    start(target, place.launch(script), tmp_path / "log")
    assert target.exit_status() in told(place, "killed by SIGKILL")


def test_a_clean_end_is_seen_as_such(place: Any, tmp_path: Path) -> None:
    target = place.target()
    script = "signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); serve()"
    start(target, place.launch(script), tmp_path / "log")
    assert target.exit_status() in told(place, "exit code 0")


def test_stop_is_safe_before_the_start_twice_and_after_a_failure(
    place: Any, tmp_path: Path
) -> None:
    async def run() -> None:
        target = place.target()
        await target.stop()
        assert target.exit_status() is None
        await target.start(place.launch("serve()"), tmp_path / "log", 10, lambda _: None)
        await target.stop()
        await target.stop()
        assert target.exit_status() in told(place, "killed by SIGTERM")
        failing = place.target()
        with pytest.raises(StartError):
            await failing.start(place.launch("sys.exit(1)"), tmp_path / "log2", 10, lambda _: None)
        await failing.stop()
        await failing.stop()

    asyncio.run(run())


@on_this_machine
def test_a_second_stop_signals_nobody(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of the dead server may belong to another process by then."""
    target = place.target()
    start(target, place.launch("serve()"), tmp_path / "log")
    signalled: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, _: signalled.append(pid))
    asyncio.run(target.stop())
    assert signalled == []


# --- deployed -------------------------------------------------------------------------------


def test_deployed_stops_after_the_block(place: Any, tmp_path: Path) -> None:
    async def run() -> None:
        target = place.target()
        block = deployed(target, place.launch("serve()"), tmp_path / "log", 10, lambda _: None)
        async with block as endpoint:
            assert endpoint.model == "tiny"
        assert target.exit_status() in told(place, "killed by SIGTERM")

    asyncio.run(run())


def test_deployed_stops_after_an_error_in_the_block(place: Any, tmp_path: Path) -> None:
    target = place.target()

    async def run() -> None:
        what = place.launch("serve()")
        async with deployed(target, what, tmp_path / "log", 10, lambda _: None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert target.exit_status() in told(place, "killed by SIGTERM")


@pytest.mark.parametrize(
    "script", ["serve()", "print('loading model', flush=True); time.sleep(60)"]
)
def test_deployed_stops_when_cancelled_ready_or_not(
    place: Any, tmp_path: Path, script: str
) -> None:
    target = place.target()

    async def work(begun: asyncio.Event) -> None:
        what = place.launch(script)
        async with deployed(target, what, tmp_path / "log", 10, lambda _: begun.set()):
            await asyncio.sleep(60)

    asyncio.run(cancel_begun(work))
    assert target.exit_status() in told(place, "killed by SIGTERM")


def test_deployed_finishes_stopping_when_cancelled_again(place: Any, tmp_path: Path) -> None:
    target = place.target()
    slow = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.04), os._exit(0)))"

    async def work(begun: asyncio.Event) -> None:
        what = place.launch(f"{slow}; serve()")
        async with deployed(target, what, tmp_path / "log", 10, lambda _: None):
            begun.set()
            await asyncio.sleep(60)

    asyncio.run(cancel_begun(work, 0.01))
    assert target.exit_status() in told(place, "exit code 0")


# --- the process target alone ---------------------------------------------------------------

PARENT = """
import asyncio, os, signal, sys
from pathlib import Path
from leadline.deploy.process import ProcessTarget
from leadline.launch import Launch
async def main():
    target = ProcessTarget()
    argv = (sys.executable, "-I", "-S", "-c", sys.argv[1], sys.argv[2], "127.0.0.1")
    what = Launch(argv=argv, port=int(sys.argv[2]), served_model="tiny")
    await target.start(what, Path(sys.argv[3]), 10, lambda _: None)
    print(target.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def test_a_server_does_not_outlive_a_killed_leadline(tmp_path: Path) -> None:
    arguments = (SERVER + "serve()", str(free_port()), str(tmp_path / "log"))
    argv = [sys.executable, "-c", PARENT, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert ends(int(done.stdout))


def test_a_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass


BAR = """
import sys
print("before", flush=True)
for done in (1, 2):
    bar = f"Loading model shards: 50% Completed | {done}/4 [00:10<00:{40 - 10 * done}, 9 s/it]"
    sys.stdout.write("\\r" + bar)
    sys.stdout.flush()
    time.sleep(0.05)
print(flush=True)
serve()
"""


def test_a_progress_bar_is_shown_as_it_is_redrawn(place: Any, tmp_path: Path) -> None:
    what = replace(place.launch(BAR), phases=(("model shards", "loading the weights"),))
    phases = start(place.target(), what, tmp_path / "log")
    assert phases[:2] == [
        "loading the weights: 1 of 4, 00:30 left",
        "loading the weights: 2 of 4, 00:20 left",
    ]


SHARED = """
import mmap
path = f"/dev/shm/leadline-test-{os.getpid()}"
descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
os.ftruncate(descriptor, 4096)
child = os.fork()
if child == 0 or not child_holds:
    held = mmap.mmap(descriptor, 4096)
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
print("segment", path, flush=True)
serve()
"""


@on_this_machine
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("child_holds", [False, True])
def test_no_shared_memory_of_a_server_outlives_it(
    place: Any, tmp_path: Path, killed: bool, child_holds: bool
) -> None:
    async def kill(target: Any, _: Endpoint) -> None:
        if killed:
            os.kill(target.pid, signal.SIGKILL)

    what = place.launch(f"child_holds = {child_holds}" + SHARED)
    start(place.target(), what, tmp_path / "log", use=kill)
    (line,) = [x for x in (tmp_path / "log").read_text().splitlines() if x.startswith("segment")]
    assert not Path(line.split()[1]).exists()
