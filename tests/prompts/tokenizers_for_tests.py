"""Tokenizers of the kinds that real models have, trained here in a moment."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from leadline.models.byte_tokenizer import write_byte_tokenizer
from leadline.prompts.corpus import load_corpus
from leadline.prompts.tokenizer import LocalTokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
_BYTES_ONLY = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
_SPLITTERS = {
    "gpt2": _BYTES,
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _BYTES]),
    "llama3": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), _BYTES_ONLY]
    ),
    # Merges over whole lines: no place between words is a place to cut.
    "lines": pre_tokenizers.Sequence([pre_tokenizers.Split("\n", "isolated"), _BYTES_ONLY]),
}
KINDS = tuple(kind for kind in _SPLITTERS if kind != "lines")


@cache
def real_text() -> str:
    return load_corpus("kjv").text[:300_000]


@cache
def train(kind: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _SPLITTERS[kind]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken("<|end|>", special=True)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(real_text()[:100_000].splitlines(keepends=True), trainer)
    return tokenizer


def save(kind: str, folder: Path) -> LocalTokenizer:
    """``bytes`` is that of `leadline models make-tiny`: a token for each byte."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "bytes":
        write_byte_tokenizer(folder, window=1 << 20)
        return LocalTokenizer(str(folder))
    train(kind).save(str(folder / "tokenizer.json"))
    return LocalTokenizer(str(folder))
