# ruff: noqa: INP001 - a script, not a package
"""What runs the rivals: where they are installed, what they report beside what was true.

Each has a folder of its own outside of the repository, filled once; what was begun and not finished
is made anew.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from rivals import RIVALS, Reported, Scenario, Scene, p50_p99
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from leadline.load.self_check import Line, Truth, serving

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "leadline" / "rivals"
ENGINES = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local/share")) / "leadline"
LIMIT_S = 150
LOG_MS = 0.01
"""How surely the server's log knows when a token left: p50 of the time that its sending took."""
# Where their environments are if Leadline itself has installed them.
INSTALLED = {
    "vllm": "engines/vllm-0.32.0-cpu",
    "sglang-python": "test-engines/sglang-0.5.6.post2",
}


class Outcome(NamedTuple):
    name: str
    version: str
    start_s: float
    """From its start to its first request at the server."""
    ttft_ms: tuple[float, float]
    """Reported minus true, of p50 and p99."""
    itl_ms: tuple[float, float]
    e2e_ms: tuple[float, float]
    true_itl99_ms: float
    tokens_per_s: float
    """As the server sent them: a client that reads too slowly, or asks too late, holds it up."""
    memory_mb: float
    """Most of all its processes together, shared memory counted once."""
    cpu_s: float


def install(names: Sequence[str], given: dict[str, Path]) -> dict[str, Path]:
    """The folder of each rival; sizes are told before anything is fetched."""
    found = {name: ENGINES / place for name, place in INSTALLED.items()}
    homes = {name: home for name, home in found.items() if home.exists()} | given
    missing = [n for n in names if n not in homes and not (CACHE / n / "done").exists()]
    for name in missing:
        print(f"{name}: {RIVALS[name].size} into {CACHE / name}", flush=True)  # noqa: T201
    for name in missing:
        home = CACHE / name
        home.mkdir(parents=True, exist_ok=True)
        RIVALS[name].install(home)
        (home / "done").touch()
    return {name: homes.get(name, CACHE / name) for name in names}


def race(
    name: str, home: Path, folder: Path, it: Scenario, server_options: Sequence[str]
) -> Outcome | str:
    """What one rival reports of a scenario beside what was true; or why it could not be run."""
    tokenizer, results = make_tokenizer(folder / "tokenizer"), folder / f"{it.name}-{name}"
    results.mkdir()
    with serving(
        *(*server_options, *it.server_options),
        ttft_s=it.ttft_ms / 1e3,
        itl_s=it.itl_ms / 1e3,
        tokens=it.tokens,
        mode=it.mode,
    ) as (url, truth):
        scene = Scene(home, url, tokenizer, results, it)
        argv = [str(part) for part in RIVALS[name].argv(scene)]
        begun_ns = time.perf_counter_ns()
        memory_mb, cpu_s, problem = run_watched(argv, results / "output.txt")
    if problem:
        return problem
    try:
        reported = RIVALS[name].read(results)
        return outcome(name, version(name, home), it, reported, truth, begun_ns, memory_mb, cpu_s)
    except (OSError, LookupError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


def version(name: str, home: Path) -> str:
    """Of its distribution in that folder; ours is the one that runs."""
    if name == "leadline":
        return distribution_version(name)
    package = name.removesuffix("-python").removesuffix("-rust").replace("-", "_")
    places = (f"lib/python*/site-packages/{package}*-*.dist-info", f"{package}-*.whl")
    found = sorted(path.name for place in places for path in home.glob(place))
    return next((n.split("-")[1].removesuffix(".dist") for n in found), "unknown")


def outcome(
    name: str,
    version: str,
    it: Scenario,
    reported: Reported,
    truth: Truth,
    begun_ns: int,
    memory_mb: float,
    cpu_s: float,
) -> Outcome:
    lines = list(truth.values())
    if not lines:
        raise ValueError("no request came")
    true = Reported((0, 0), (0, 0), (0, 0)) if it.mode == "flood" else _true(lines, it)
    parsed_per_s = reported.tokens_per_s if it.mode == "flood" else None
    begun, ended = (min(n.arrived_ns for n in lines), max(n.gone_ns[-1] for n in lines))
    return Outcome(
        name,
        version,
        start_s=(begun - begun_ns) / 1e9,
        ttft_ms=_minus(reported.ttft_ms, true.ttft_ms),
        itl_ms=_minus(reported.itl_ms, true.itl_ms),
        e2e_ms=_minus(reported.e2e_ms, true.e2e_ms),
        true_itl99_ms=true.itl_ms[1],
        tokens_per_s=parsed_per_s or len(lines) * it.tokens / ((ended - begun) * 1e-9),
        memory_mb=memory_mb,
        cpu_s=cpu_s,
    )


def times(value: float, own: float) -> str:
    """How many times ours; an error counts as what the log itself does not know, at least.

    Figures of time are in milliseconds, and no other is that small.
    """
    ratio = max(abs(value), LOG_MS) / max(abs(own), LOG_MS)
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"  # noqa: PLR2004


def _true(lines: Sequence[Line], it: Scenario) -> Reported:
    whole = [line for line in lines if len(line.sent_ns) == it.tokens]
    ttft, e2e = (np.array([n.sent_ns[k] - n.arrived_ns for n in whole]) / 1e6 for k in (0, -1))
    gaps = np.concatenate([np.diff(line.sent_ns) for line in whole]) / 1e6
    return Reported(p50_p99(ttft), p50_p99(gaps), p50_p99(e2e))


def _minus(found: tuple[float, float], true: tuple[float, float]) -> tuple[float, float]:
    return found[0] - true[0], found[1] - true[1]


def run_watched(argv: list[str], output: Path) -> tuple[float, float, str]:
    """(most memory of its processes in MB, CPU seconds, its last words if it failed)."""
    watch = _Watch()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started ends below
    with output.open("w") as out:
        env = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_COLOR": "1"}
        process = subprocess.Popen(
            argv, stdout=out, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
        watch.begin(process.pid)
        try:
            code: int | str = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            code = f"nothing within {LIMIT_S} s"
        finally:
            watch.end()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    words = output.read_text(errors="replace").splitlines() or ["nothing"]
    problem = f"ended with {code}: {words[-1][:200]}" if code else ""
    return watch.memory_mb, watch.cpu_s, problem


class _Watch:
    """Looks at a process and its children twice a second."""

    def __init__(self) -> None:
        self.memory_mb = self.cpu_s = 0.0
        self._over = threading.Event()

    def begin(self, pid: int) -> None:
        self._thread = threading.Thread(target=self._look, args=(psutil.Process(pid),))
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self, root: psutil.Process) -> None:
        cpu: dict[int, float] = {}
        while not self._over.wait(0.5):
            memory = 0
            try:
                for process in (root, *root.children(recursive=True)):
                    times = process.cpu_times()
                    cpu[process.pid] = times.user + times.system
                    memory += process.memory_full_info().pss
            except psutil.Error:
                continue
            self.memory_mb = max(self.memory_mb, memory / 1e6)
        self.cpu_s = sum(cpu.values())


def make_tokenizer(folder: Path) -> Path:
    """A small byte-level one: every rival wants some, none of them the server."""
    if not folder.exists():
        folder.mkdir(parents=True)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        texts = [path.read_text() for path in Path(__file__).parent.glob("*.py")]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=2000, initial_alphabet=alphabet, special_tokens=["<end>"]
        )
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.save(str(folder / "tokenizer.json"))
        facts = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<end>",
            "model_max_length": 100_000,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(facts))
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder
