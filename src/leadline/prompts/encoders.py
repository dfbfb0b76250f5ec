"""Fast encoders, used only where they are proven to give the Hugging Face tokenizer's ids."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import orjson

from leadline.prompts.cuts import EncodeBlocks, TokenIds, spell_byte_level
from leadline.prompts.tokenizer import LocalTokenizer

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Each digit for itself, cut off before the rest is looked at.
_GPT2_DIGITS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"


# What a Split does with the matches and with the rest, where the matches are the pieces.
_KEEPING = (("Isolated", False), ("Removed", True))


class Encoder(NamedTuple):
    name: str
    encode: EncodeBlocks


def choose_encoder(tokenizer: LocalTokenizer, text: str, sample: Sequence[str]) -> Encoder:
    """The first fast encoder that gives the same ids for the whole sample, else the real one."""
    truth = partial(encode_huggingface, tokenizer)
    expected = truth(sample)
    for name, build in FAST_ENCODERS.items():
        encode = build(orjson.loads(tokenizer.file.read_bytes()), text)
        if encode and all(map(np.array_equal, encode(sample), expected)):
            return Encoder(name, encode)
    return Encoder("tokenizers", truth)


def encode_huggingface(tokenizer: LocalTokenizer, blocks: Sequence[str]) -> list[TokenIds]:
    """By the reference implementation, which uses every core by itself."""
    found = tokenizer.huggingface.encode_batch_fast(list(blocks), add_special_tokens=False)
    return [np.asarray(encoding.ids, np.uint32) for encoding in found]


class PlainBpe(NamedTuple):
    """A tokenizer that splits text by one expression and then only merges bytes."""

    pattern: str
    ranks: dict[bytes, int]


def read_plain_bpe(facts: Mapping[str, Any], text: str) -> PlainBpe | None:
    """From the content of a ``tokenizer.json``; ``None`` where it does more, for this text."""
    pattern = _split_pattern(facts.get("pre_tokenizer") or {})
    if pattern is None or not _is_plain_bpe(facts, text):
        return None
    added = {token["id"] for token in facts["added_tokens"]}
    ranks = {
        spell_byte_level(token): number
        for token, number in facts["model"]["vocab"].items()
        if number not in added
    }
    if any(bytes([byte]) not in ranks for byte in set(text.encode())):
        return None  # SmolLM2 lacks bytes that no valid text holds
    return PlainBpe(pattern, ranks)


def _build_tiktoken(facts: Mapping[str, Any], text: str) -> EncodeBlocks | None:
    found = read_plain_bpe(facts, text)
    if found is None:
        return None
    from tiktoken import Encoding

    encoding = Encoding(
        "corpus", pat_str=found.pattern, mergeable_ranks=found.ranks, special_tokens={}
    )
    return partial(_encode_threaded, encoding.encode_to_numpy)


FAST_ENCODERS: dict[str, Callable[[Mapping[str, Any], str], EncodeBlocks | None]] = {
    "tiktoken": _build_tiktoken
}
"""From the content of a ``tokenizer.json`` and the text, or ``None`` where it cannot be meant."""


def _encode_threaded(encode: Callable[[str], TokenIds], blocks: Sequence[str]) -> list[TokenIds]:
    """For libraries that let go of the interpreter while they work."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(encode, blocks))


def _is_plain_bpe(facts: Mapping[str, Any], text: str) -> bool:
    """Byte-level BPE that takes the text as it is, and finds no special token in it."""
    model = facts["model"]
    odd = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    if model.get("type") != "BPE" or facts.get("normalizer") or any(map(model.get, odd)):
        return False
    added = [token["content"] for token in facts["added_tokens"]]
    likely = {head for head in {token[:2] for token in added} if head in text}
    return not any(token in text for token in added if token[:2] in likely)


def _split_pattern(stage: Mapping[str, Any]) -> str | None:
    """The one expression that splits text as these pre-tokenizer stages do; ``None`` if unknown."""
    match stage:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return _GPT2
        case {"type": "Sequence", "pretokenizers": [{"type": "Split"} as split, last]} if last[
            "type"
        ] == "ByteLevel" and not last.get("use_regex", True):
            return split["pattern"].get("Regex") if _keeps_matches(split) else None
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False},
            ],
        }:
            return _GPT2_DIGITS
    return None


def _keeps_matches(split: Mapping[str, Any]) -> bool:
    """The matches of the expression are the pieces; what lies between them is nothing."""
    return (split["behavior"], split.get("invert", False)) in _KEEPING
