"""A text, tokenised once: prompts of any length are slices of a memory-mapped file.

The ids are those of the Hugging Face tokenizer for the joined text. They are kept in the cache
folder under a name that follows from the content of the text files and of the tokenizer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from leadline.errors import SpecError
from leadline.prompts.corpus import JOINT, CorpusFile
from leadline.prompts.cuts import (
    Cuts,
    TokenIds,
    cut_blocks,
    find_cuts,
    prove_cuts,
    spell_tokens,
)
from leadline.prompts.encoders import choose_encoder, encode_huggingface, read_plain_bpe
from leadline.prompts.token_file import TokenFile, read_token_file, write_token_file
from leadline.prompts.tokenizer import LocalTokenizer, ServerAdds
from leadline.prompts.vocabulary import Vocabulary, pack_vocabulary, prove_vocabulary

OnProgress = Callable[[float], None]
"""Told the share of the text that is tokenised, from 0 to 1."""

_FORMAT = 2
_BLOCK_CHARS = 1 << 16
_BATCH_BLOCKS = 16
# The fast encoder has to agree on this much of the text, spread evenly over it.
_SAMPLE_BLOCKS = 32
_SAMPLE_CHARS = 1 << 15
_CUT_SAMPLE_CHARS = 1 << 17
# One call of the real tokenizer holds about 1 KiB per token.
_WHOLE_CHARS = 1 << 20


class UncuttableError(SpecError):
    """The tokenizer has no cuts, and the text is too long to be encoded in one call."""


class TokenCorpus:
    def __init__(self, file: TokenFile) -> None:
        self.facts = file.facts
        """``source``, ``tokenizer_sha256``, ``encoder``, ``pattern``, ``chars``, ``sha256``…"""
        self.ids: TokenIds = file.arrays["ids"]
        self.cuts = Cuts(file.arrays["cut_tokens"], file.arrays["cut_chars"])
        self._text = file.arrays["text"]
        self._arrays = file.arrays

    @cached_property
    def text(self) -> str:
        return self._text.tobytes().decode()

    @property
    def added(self) -> ServerAdds:
        """What the tokenizer's post-processor puts around an encoded text."""
        return ServerAdds(*self.facts["added"])

    def encoder(self, tokenizer: LocalTokenizer) -> Callable[[str], list[int]]:
        """For what is put into its slices; the tokenizer itself is read only if need be."""
        pattern = self.facts["pattern"]
        return Vocabulary(self._arrays, pattern, tokenizer.encode) if pattern else tokenizer.encode


def open_token_corpus(
    files: Sequence[CorpusFile],
    tokenizer: LocalTokenizer,
    on_progress: OnProgress = lambda _: None,
) -> TokenCorpus:
    """From the cache, or tokenised now and put there; the files are joined in order.

    Raises ``SpecError`` for what cannot be read and for a cache folder that cannot be written,
    ``UncuttableError`` where prompts can only be found by counting.
    """
    key = _cache_key(files, tokenizer)
    path = cache_folder() / "tokens" / f"{key}.tokens"
    found = read_token_file(path, key)
    if found is None:
        try:
            _write(path, key, files, tokenizer, on_progress)
        except OSError as error:
            raise SpecError(
                f"the token cache cannot be written: {error.strerror}",
                where=str(path.parent),
                cure="free some space, or set LEADLINE_CACHE to a folder that can be written",
            ) from error
        found = read_token_file(path, key)
    if found is None:
        raise SpecError(
            "the token cache cannot be read back",
            where=str(path),
            cure="check the disk, or set LEADLINE_CACHE to a folder on another",
        )
    return TokenCorpus(found)


def cache_folder() -> Path:
    """``LEADLINE_CACHE``, else ``leadline`` in the user's cache folder."""
    if own := os.environ.get("LEADLINE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leadline"


def _cache_key(files: Sequence[CorpusFile], tokenizer: LocalTokenizer) -> str:
    parts = [str(_FORMAT), tokenizer.sha256, *(file.hash() for file in files)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _write(
    path: Path,
    key: str,
    files: Sequence[CorpusFile],
    tokenizer: LocalTokenizer,
    on_progress: OnProgress,
) -> None:
    text = JOINT.join(file.read() for file in files)
    name, ids, cuts = _tokenise(text, tokenizer, on_progress)
    content = text.encode()
    facts: dict[str, Any] = {
        "source": " + ".join(file.source for file in files),
        "tokenizer_sha256": tokenizer.sha256,
        "encoder": name,
        "pattern": None,
        "added": list(tokenizer.added),
        "chars": len(text),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    arrays: dict[str, NDArray[Any]] = {
        "ids": ids,
        "cut_tokens": cuts.tokens,
        "cut_chars": cuts.chars,
        "text": np.frombuffer(content, np.uint8),
    }
    if name == "tiktoken":
        facts["pattern"], words = _pack_proven(tokenizer, text)
        arrays |= words
    write_token_file(path, key, facts, arrays)


def _pack_proven(
    tokenizer: LocalTokenizer, text: str
) -> tuple[str | None, dict[str, NDArray[Any]]]:
    """(the expression that splits text, the vocabulary); nothing if it is not proven."""
    bpe = read_plain_bpe(orjson.loads(tokenizer.file.read_bytes()), text)
    if bpe is None:
        return None, {}
    words = pack_vocabulary(bpe.ranks)
    vocabulary = Vocabulary(words, bpe.pattern, tokenizer.encode)
    is_proven = prove_vocabulary(vocabulary, tokenizer.encode, text)
    return (bpe.pattern, words) if is_proven else (None, {})


def _tokenise(
    text: str, tokenizer: LocalTokenizer, on_progress: OnProgress
) -> tuple[str, TokenIds, Cuts]:
    """(name of the encoder that did it, all ids, all cuts)."""
    cut_sample = text[:_CUT_SAMPLE_CHARS]
    (sample_ids,) = encode_huggingface(tokenizer, [cut_sample])
    spelling = spell_tokens(tokenizer.huggingface.get_vocab(), cut_sample, sample_ids)
    if not spelling or not prove_cuts(
        lambda texts: encode_huggingface(tokenizer, texts), cut_sample
    ):
        # Never seen with a byte-level tokenizer: no parts, no parallel work, ids all the same.
        if len(text) > _WHOLE_CHARS:
            raise UncuttableError(
                "this tokenizer merges over words, so a long text cannot be tokenised in parts",
                where=str(tokenizer.file),
                cure=f"give a corpus of at most {_WHOLE_CHARS:,} characters",
            )
        (ids,) = encode_huggingface(tokenizer, [text])
        return "tokenizers", ids, Cuts(np.zeros(1, np.uint32), np.zeros(1, np.uint32))
    encoder = choose_encoder(tokenizer, text, _sample(text))
    blocks = cut_blocks(text, _BLOCK_CHARS)
    parts: list[TokenIds] = []
    for batch in _batches(blocks):
        parts += encoder.encode(batch)
        on_progress(len(parts) / len(blocks))
    return encoder.name, np.concatenate(parts), _join_cuts(blocks, parts, spelling)


def _sample(text: str) -> list[str]:
    """Pieces from all over the text; a short one whole."""
    if len(text) <= _SAMPLE_BLOCKS * _SAMPLE_CHARS:
        return [text]
    step = len(text) // _SAMPLE_BLOCKS
    return [text[start : start + _SAMPLE_CHARS] for start in range(0, len(text), step)]


def _batches(blocks: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(blocks), _BATCH_BLOCKS):
        yield blocks[start : start + _BATCH_BLOCKS]


def _join_cuts(blocks: list[str], parts: list[TokenIds], spelling: list[bytes]) -> Cuts:
    """The cuts of all blocks, counted from the start of the text; each block starts at one."""
    tokens, chars = [], []
    token, char = 0, 0
    for block, ids in zip(blocks, parts, strict=True):
        found = find_cuts(block, ids, spelling)
        tokens.append(np.concatenate([[0], found.tokens]) + token)
        chars.append(np.concatenate([[0], found.chars]) + char)
        token += len(ids)
        char += len(block)
    return Cuts(np.concatenate(tokens).astype(np.uint32), np.concatenate(chars).astype(np.uint32))
