"""From text to the ids that the model reads: the Hugging Face tokenizer, or the server's own."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from leadline.errors import SpecError
from leadline.prompts.cuts import last_cut

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Encode = Callable[[str], Awaitable[list[int]]]
"""Text to ids, without any special token added."""

# One call of the library holds about 1 KiB per token; blocks keep that bounded.
_BLOCK_CHARS = 1 << 20


class ServerAdds(NamedTuple):
    """Ids that a server puts around every text by itself."""

    before: list[int]
    after: list[int]

    @property
    def tokens(self) -> int:
        return len(self.before) + len(self.after)


class LocalTokenizer:
    """A ``tokenizer.json``, read when it is first needed; called, it is an ``Encode``."""

    def __init__(self, reference: str) -> None:
        path = Path(reference)
        self.file = path / "tokenizer.json" if path.is_dir() else path
        if not self.file.is_file():
            raise SpecError(
                "no tokenizer.json there",
                where=reference,
                cure="give the model's folder or its tokenizer.json",
            )

    @cached_property
    def sha256(self) -> str:
        with self.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def huggingface(self) -> Tokenizer:
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_file(str(self.file))
        except Exception as error:  # the library raises bare Exception
            raise SpecError(
                f"not a tokenizer: {error}",
                where=str(self.file),
                cure="download tokenizer.json again",
            ) from error

    @cached_property
    def added(self) -> ServerAdds:
        """By the post-processor: what it puts around an encoded text."""
        plain = self.huggingface.encode("a", add_special_tokens=False).ids
        whole = self.huggingface.encode("a").ids
        start = next(n for n in range(len(whole)) if whole[n : n + len(plain)] == plain)
        return ServerAdds(whole[:start], whole[start + len(plain) :])

    async def __call__(self, text: str) -> list[int]:
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for block in text_blocks(text):
            ids += self.huggingface.encode(block, add_special_tokens=False).ids
        return ids


def load_tokenizer(reference: str) -> LocalTokenizer:
    """The tokenizer of a ``tokenizer.json``, or of a folder that holds one, checked at once."""
    tokenizer = LocalTokenizer(reference)
    _ = tokenizer.huggingface
    return tokenizer


def text_blocks(text: str, size: int = _BLOCK_CHARS) -> list[str]:
    """The text in consecutive blocks of at most ``size`` characters, cut at cuts.

    Line ends would not do: GPT-2 and its heirs take all of several together, or all but the last.
    """
    blocks = []
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            end = last_cut(text, start, end) or end
        blocks.append(text[start:end])
        start = end
    return blocks
