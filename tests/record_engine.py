"""Record what a real engine prints and answers, as test data.

``python tests/record_engine.py vllm-0.32.0 [--bin FOLDER] [--only PART]`` starts the engine with a
tiny model, keeps its start-up log, ``/metrics``, ``/v1/models``, what it tells of itself and one
stream of each of its routes as bytes, then its log on each failure that can be provoked here, under
``tests/data/recorded/<engine>/``. Paths of this machine, process ids and times are taken out; what
is left is word for word. SGLang has a script of its own, ``tests/real_engines/record_sglang.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.real_engines.small_models import make_model

from leadline.catalog.assets import asset_path
from leadline.deploy.process import free_port

OUT = Path(__file__).parent / "data" / "recorded"
START_S = 600.0
FAIL_S = 600.0
# What asks for too much must be refused at once, and never eat the machine's memory.
ADDRESS_SPACE_BYTES = 48 * 2**30
CLEAN_UP_S = 10.0
LOG_LINES = 400
LINE_CHARS = 1500
_NOISE = re.compile(r"Route: |Gloo\]|FutureWarning|█|▀|ulimit")


@dataclass(frozen=True)
class Engine:
    """How to start one engine on a model; ``flags`` are what every start here has."""

    name: str
    argv: tuple[str, ...]
    model: str
    flags: tuple[str, ...]
    env: dict[str, str]
    failures: dict[str, tuple[str, tuple[str, ...], dict[str, str]]]
    """Name to (model, further flags, environment)."""
    scratch: Path
    routes: dict[str, str]
    """File to the route whose answer it keeps."""
    native: str = ""
    """The route of its own that streams."""
    core: str = ""
    """How the title of the process begins that its server cannot do without."""


def vllm(program: str, folder: Path) -> Engine:
    flags = ("--max-model-len", "8192", "--max-num-seqs", "2", "--enforce-eager")
    flags += ("--enable-prompt-tokens-details", "--served-model-name", "tiny")
    dense = str(folder / "dense")
    return Engine(
        name="vllm",
        argv=(program, "serve"),
        model=dense,
        flags=(*flags, "--host", "127.0.0.1"),
        env={
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_HOST_IP": "127.0.0.1",
        },
        failures={
            "bad-flag": (dense, ("--no-such-flag", "3"), {}),
            "missing-model": (str(folder / "absent"), (), {}),
            "window-larger-than-kv": (dense, ("--max-model-len", "10000000"), {}),
            "window-beyond-training": (dense, ("--max-model-len", "20000000"), {}),
            "not-enough-memory": (dense, (), {"VLLM_CPU_KVCACHE_SPACE": "4000"}),
        },
        scratch=folder,
        routes={"models.json": "/v1/models", "version.json": "/version"},
        core="VLLM::EngineCore",
    )


def llamacpp(_: str, folder: Path) -> Engine:
    model = str(asset_path("models", "smollm2"))
    broken = folder / "broken.gguf"
    broken.write_bytes(b"PK\x03\x04 not a model")
    return Engine(
        name="llamacpp",
        argv=(sys.executable, "-m", "leadline.engines.llamacpp_server", "--model"),
        model=model,
        flags=("--alias", "tiny", "--ctx-size", "1024", "--threads", "1"),
        env={"OMP_WAIT_POLICY": "passive"},
        failures={
            "bad-flag": (model, ("--no-such-flag", "3"), {}),
            "missing-model": (str(folder / "absent.gguf"), (), {}),
            "damaged-model": (str(broken), (), {}),
            "not-enough-memory": (model, ("--ctx-size", "100000000"), {}),
        },
        scratch=folder,
        routes={"models.json": "/v1/models", "props.json": "/props"},
        native="/completion",
    )


ENGINES = {"vllm": vllm, "llamacpp": llamacpp}


class Cleaner:
    """Takes out what belongs to this machine and this hour."""

    def __init__(self, *folders: str) -> None:
        self.folders = sorted(filter(None, folders), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", "\n")
        for folder in self.folders:
            text = text.replace(folder, "/opt/engine")
        text = re.sub(r"(?<=pid=)\d+|(?<=process \[)\d+", "1", text)
        text = re.sub(r"\b\d\d-\d\d \d\d:\d\d:\d\d\b", "01-01 00:00:00", text)
        text = re.sub(r"/(?:tmp|root|home|work)/[^\s'\",)]*", "/redacted", text)
        text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", text)
        lines = [line[:LINE_CHARS] for line in text.splitlines() if not _NOISE.search(line)]
        return "\n".join([line for line in lines if line.strip()][-LOG_LINES:]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", help="vllm-0.32.0, vllm-0.12.0, llamacpp")
    parser.add_argument("--bin", default="", help="folder with the engine's program")
    parser.add_argument("--only", choices=PARTS, help="one part of it, anew")
    options = parser.parse_args()
    out = OUT / options.engine
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder, "dense")
        program = str(Path(options.bin) / "vllm")
        engine = ENGINES[options.engine.partition("-")[0]](program, folder)
        clean = Cleaner(str(folder), str(Path(options.bin).resolve().parent), sys.prefix)
        for part, record in PARTS.items():
            if options.only == part or (options.only is None and part != "told"):
                record(engine, out, clean)


def record_serving(engine: Engine, out: Path, clean: Cleaner) -> None:
    with started(engine) as (process, url, log):
        wait_healthy(process, url)
        stream = ask(f"{url}/v1/completions", _request())
        (out / "stream.sse").write_bytes(stream)
        metrics = ask(f"{url}/metrics").decode()
        unborn = re.sub(r"(_created\{[^}]*\}) \S+", r"\1 0", metrics)
        (out / "metrics.txt").write_text(unborn, "utf-8")
        _keep_routes(engine, url, out, clean)
    (out / "start.log").write_text(clean(log.read_text("utf-8", "replace")), "utf-8")
    say("start.log, metrics.txt, stream.sse")


def record_told(engine: Engine, out: Path, clean: Cleaner) -> None:
    """What it tells of itself, and the stream of its own route; all of this has no times in it."""
    with started(engine) as (process, url, _):
        wait_healthy(process, url)
        _keep_routes(engine, url, out, clean)


def _keep_routes(engine: Engine, url: str, out: Path, clean: Cleaner) -> None:
    for name, route in engine.routes.items():
        (out / name).write_text(clean(ask(url + route).decode()), "utf-8")
    if engine.native:
        (out / "stream-native.sse").write_bytes(ask(url + engine.native, _native_request()))
    say(", ".join([*engine.routes, *(["stream-native.sse"] if engine.native else [])]))


def record_killed(engine: Engine, out: Path, clean: Cleaner) -> None:
    """What is left when the process is killed as the kernel kills for want of memory."""
    _record_kill(engine, "", out / "killed.log", clean)


def record_core_killed(engine: Engine, out: Path, clean: Cleaner) -> None:
    """The same of the process that its server cannot do without."""
    if engine.core:
        _record_kill(engine, engine.core, out / "core-killed.log", clean)


def _record_kill(engine: Engine, title: str, kept: Path, clean: Cleaner) -> None:
    with started(engine) as (process, url, log):
        wait_healthy(process, url)
        server = psutil.Process(process.pid)
        family = [server, *server.children(recursive=True)]
        # That one only: the others see it and clean up.
        next(one for one in family if " ".join(one.cmdline()).startswith(title)).kill()
        process.wait(FAIL_S)
        time.sleep(CLEAN_UP_S)
    kept.write_text(clean(log.read_text("utf-8", "replace")), "utf-8")
    say(kept.name)


def record_failures(engine: Engine, out: Path, clean: Cleaner) -> None:
    for name, (model, flags, env) in engine.failures.items():
        with started(engine, model, flags, env) as (process, _, log):
            code = process.wait(FAIL_S)
        text = clean(log.read_text("utf-8", "replace"))
        (out / f"{name}.log").write_text(f"{text}# exit code {code}\n", "utf-8")
        say(f"{name}.log: exit code {code}")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with started(engine, port=port) as (process, _, log):
            code = process.wait(FAIL_S)
    text = clean(log.read_text("utf-8", "replace"))
    (out / "port-in-use.log").write_text(f"{text}# exit code {code}\n", "utf-8")
    say(f"port-in-use.log: exit code {code}")


PARTS: dict[str, Callable[[Engine, Path, Cleaner], None]] = {
    "serving": record_serving,
    "told": record_told,
    "killed": record_killed,
    "core-killed": record_core_killed,
    "failures": record_failures,
}


@contextmanager
def started(
    engine: Engine,
    model: str = "",
    flags: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    port: int = 0,
) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    port = port or free_port()
    argv = [*engine.argv, model or engine.model, *engine.flags, *flags, "--port", str(port)]
    with tempfile.NamedTemporaryFile(suffix=".log", dir=engine.scratch, delete=False) as log:
        process = subprocess.Popen(
            argv,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **engine.env, **(env or {})},
            start_new_session=True,
            preexec_fn=limit_memory,  # noqa: PLW1509
        )
    try:
        yield process, f"http://127.0.0.1:{port}", Path(log.name)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        # Also after its end: the engine core of vLLM 0.12 outlives a server that was killed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    # The log is read by the caller after the block.


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def wait_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            ask(f"{url}/health")
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the engine did not come up")


def ask(url: str, body: dict[str, object] | None = None) -> bytes:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json"} if data else {}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: bytes = answer.read()
        return found


def _request() -> dict[str, object]:
    usage = {"include_usage": True, "continuous_usage_stats": True}
    return {
        "model": "tiny",
        "prompt": [40, 41, 42, 43],
        "max_tokens": 8,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": usage,
    }


def _native_request() -> dict[str, object]:
    """As Leadline itself asks llama.cpp."""
    return {
        "prompt": [40, 41, 42, 43],
        "n_predict": 8,
        "temperature": 0,
        "stream": True,
        "timings_per_token": True,
        "cache_prompt": False,
        "ignore_eos": True,
    }


if __name__ == "__main__":
    main()
