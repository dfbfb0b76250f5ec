# ruff: noqa: INP001 - a script, not a package
"""Other load generators against the same server of known truth, read from their own result files.

For ``client.py --rivals``. Each has a folder of its own outside of the repository, filled once;
what was begun and not finished is made anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from leadline.load.self_check import Truth, serving

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "leadline" / "rivals"
USERS, TOKENS, ITL_MS, TTFT_MS = 256, 200, 10.0, 200.0
LIMIT_S = 240
EACH_TWICE = 2 * USERS


class Scene(NamedTuple):
    """What a rival is told."""

    home: Path
    url: str
    tokenizer: Path
    results: Path


class Reported(NamedTuple):
    """In milliseconds, from the rival's own result file."""

    ttft_ms: tuple[float, float]
    """p50 and p99, as are the others."""
    itl_ms: tuple[float, float]


@dataclass(frozen=True)
class Rival:
    name: str
    size: str
    install: Callable[[Path], None]
    """Into that folder."""
    argv: Callable[[Scene], Sequence[str | Path]]
    read: Callable[[Path], Reported]
    """From the folder of its results."""
    itl: str = "gap by gap"
    """What its ITL is."""


class Outcome(NamedTuple):
    name: str
    start_s: float
    """From its start to its first request at the server."""
    ttft_ms: tuple[float, float]
    """Reported minus true, of p50 and p99."""
    itl_ms: tuple[float, float]
    memory_mb: float
    """Most of all its processes together, shared memory counted once."""
    cpu_s: float


# --- the rivals -----------------------------------------------------------------------------


def _pip(home: Path, *packages: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", *packages]
    subprocess.run([*pip, "--disable-pip-version-check"], check=True)


def _unpack_sglang(home: Path) -> None:
    """Its Rust client is one library inside of the wheel and needs nothing else of it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", home]
    subprocess.run([*pip, "sglang==0.5.23"], check=True)
    with zipfile.ZipFile(next(home.glob("sglang*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if "_bench.cpython" in name)
        (home / "_bench.so").write_bytes(wheel.read(name))


def _needs_path(_: Path) -> None:
    raise SystemExit("vllm: give the folder of an environment that has it: --vllm PATH")


def _vllm(scene: Scene) -> Sequence[str | Path]:
    return [
        *(scene.home / "bin" / "vllm", "bench", "serve", "--backend", "openai"),
        *("--base-url", scene.url, "--model", "truth", "--tokenizer", scene.tokenizer),
        *("--dataset-name", "random", "--random-input-len", "64"),
        *("--random-output-len", str(TOKENS), "--num-prompts", str(EACH_TWICE)),
        *("--max-concurrency", str(USERS), "--ignore-eos", "--ready-check-timeout-sec", "0"),
        *("--save-result", "--save-detailed", "--result-dir", scene.results),
        *("--result-filename", "result.json"),
    ]


def _read_vllm(results: Path) -> Reported:
    found = json.loads((results / "result.json").read_text())
    return in_ms(found["ttfts"], [gap for gaps in found["itls"] for gap in gaps])


_RUN_RUST = """
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
loader = ExtensionFileLoader("_bench", sys.argv[1])
spec = spec_from_file_location("_bench", sys.argv[1], loader=loader)
module = module_from_spec(spec)
loader.exec_module(module)
module.run_argv(["sglang-bench", *sys.argv[2:]])
"""


def _sglang(scene: Scene) -> Sequence[str | Path]:
    return [
        *(sys.executable, "-c", _RUN_RUST, scene.home / "_bench.so"),
        *("--backend", "sglang-oai", "--base-url", scene.url, "--model", "truth"),
        *("--tokenizer", scene.tokenizer, "--dataset-name", "random-ids"),
        *("--random-input-len", "64", "--random-output-len", str(TOKENS)),
        *("--random-range-ratio", "1", "--num-prompts", str(EACH_TWICE)),
        *("--max-concurrency", str(USERS), "--warmup-requests", "0"),
        *("--ready-check-timeout-sec", "0", "--output-details"),
        *("--output-file", scene.results / "result.jsonl"),
    ]


def _read_sglang(results: Path) -> Reported:
    found = json.loads((results / "result.jsonl").read_text().splitlines()[-1])
    return in_ms(found["ttfts"], [gap for gaps in found["itls"] for gap in gaps])


def _aiperf(scene: Scene) -> Sequence[str | Path]:
    return [
        *(scene.home / "bin" / "aiperf", "profile", "--model", "truth", "--url", scene.url),
        *("--endpoint-type", "completions", "--streaming", "--tokenizer", scene.tokenizer),
        *("--isl", "64", "--osl", str(TOKENS), "--concurrency", str(USERS)),
        *("--request-count", str(EACH_TWICE), "--artifact-dir", scene.results, "--ui", "none"),
    ]


def _read_aiperf(results: Path) -> Reported:
    found = json.loads((results / "profile_export_aiperf.json").read_text())
    ttft, itl = found["time_to_first_token"], found["inter_token_latency"]
    return Reported((ttft["p50"], ttft["p99"]), (itl["p50"], itl["p99"]))


def in_ms(ttft_s: Sequence[float], itl_s: Sequence[float]) -> Reported:
    return Reported(_p50_p99(np.array(ttft_s) * 1e3), _p50_p99(np.array(itl_s) * 1e3))


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("vllm", "several GB", _needs_path, _vllm, _read_vllm),
        Rival("sglang-rust", "40 MB", _unpack_sglang, _sglang, _read_sglang),
        Rival(
            "aiperf",
            "1.2 GB",
            lambda home: _pip(home, "aiperf==0.13.0"),
            _aiperf,
            _read_aiperf,
            itl="mean of each request",
        ),
    )
}


# --- the runs -------------------------------------------------------------------------------


def install(names: Sequence[str], given: dict[str, Path]) -> dict[str, Path]:
    """The folder of each rival; sizes are told before anything is fetched."""
    missing = [n for n in names if n not in given and not (CACHE / n / "done").exists()]
    for name in missing:
        print(f"{name}: {RIVALS[name].size} into {CACHE / name}", flush=True)  # noqa: T201
    for name in missing:
        home = CACHE / name
        home.mkdir(parents=True, exist_ok=True)
        RIVALS[name].install(home)
        (home / "done").touch()
    return {name: given.get(name, CACHE / name) for name in names}


def race(name: str, home: Path, folder: Path, server_options: Sequence[str]) -> Outcome:
    """One rival on the scenario of the benchmark: 256 users, 200 tokens at 10 ms, two rounds."""
    tokenizer, results = make_tokenizer(folder / "tokenizer"), folder / name
    results.mkdir()
    with serving(*server_options, ttft_s=TTFT_MS / 1e3, itl_s=ITL_MS / 1e3, tokens=TOKENS) as (
        url,
        truth,
    ):
        argv = [str(part) for part in RIVALS[name].argv(Scene(home, url, tokenizer, results))]
        begun_ns = time.perf_counter_ns()
        memory_mb, cpu_s = _run(argv, results / "output.txt")
    return outcome(name, RIVALS[name].read(results), truth, begun_ns, memory_mb, cpu_s)


def outcome(
    name: str, reported: Reported, truth: Truth, begun_ns: int, memory_mb: float, cpu_s: float
) -> Outcome:
    whole = [line for line in truth.values() if len(line.sent_ns) == TOKENS]
    true_ttft = _p50_p99(np.array([line.sent_ns[0] - line.arrived_ns for line in whole]) / 1e6)
    true_itl = _p50_p99(np.concatenate([np.diff(line.sent_ns) for line in whole]) / 1e6)
    return Outcome(
        name,
        start_s=(min(line.arrived_ns for line in truth.values()) - begun_ns) / 1e9,
        ttft_ms=_minus(reported.ttft_ms, true_ttft),
        itl_ms=_minus(reported.itl_ms, true_itl),
        memory_mb=memory_mb,
        cpu_s=cpu_s,
    )


def _minus(found: tuple[float, float], true: tuple[float, float]) -> tuple[float, float]:
    return found[0] - true[0], found[1] - true[1]


def _p50_p99(values: Any) -> tuple[float, float]:
    return float(np.percentile(values, 50)), float(np.percentile(values, 99))


def _run(argv: list[str], output: Path) -> tuple[float, float]:
    """(most memory of its processes in MB, CPU seconds); ``SystemExit`` with its last words."""
    watch = _Watch()
    with output.open("w") as out:
        env = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_COLOR": "1"}
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=env)
        watch.begin(process.pid)
        try:
            code = process.wait(LIMIT_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            watch.end()
    if code:
        last = output.read_text(errors="replace").splitlines()[-12:]
        raise SystemExit(f"{argv[0]} ended with code {code}:\n" + "\n".join(last))
    return watch.memory_mb, watch.cpu_s


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
