# ruff: noqa: INP001 - a script, not a package
"""The texts and the real tokenizers that ``prompts.py`` measures on; from packages, see there."""

from __future__ import annotations

import base64
import gzip
import random
import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from leadline.prompts.corpus import find_corpora
from leadline.prompts.token_corpus import TokenCorpus, cache_folder, open_token_corpus
from leadline.prompts.tokenizer import LocalTokenizer

FOLDER = cache_folder() / "benchmark"
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
        (folder / "config.json").write_bytes(orjson.dumps({"model_type": "llama"}))
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
