"""From text to the ids that the model reads: the Hugging Face tokenizer, or the server's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from tokenizers import Tokenizer

from leadline.errors import SpecError

Encode = Callable[[str], Awaitable[list[int]]]
"""Text to ids, without any special token added."""

# One call of the library holds about 1 KiB per token; blocks keep that bounded.
_BLOCK_CHARS = 1 << 20


def load_tokenizer(reference: str) -> Encode:
    """The tokenizer of a ``tokenizer.json``, or of a folder that holds one."""
    path = Path(reference)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise SpecError(
            "no tokenizer.json there",
            where=reference,
            cure="give the model's folder or its tokenizer.json",
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise SpecError(
            f"not a tokenizer: {error}", where=str(file), cure="download tokenizer.json again"
        ) from error

    async def encode(text: str) -> list[int]:
        ids: list[int] = []
        for block in text_blocks(text):
            ids += tokenizer.encode(block, add_special_tokens=False).ids
        return ids

    return encode


def text_blocks(text: str, size: int = _BLOCK_CHARS) -> list[str]:
    """The text in consecutive blocks of about ``size`` characters, cut at line ends."""
    blocks = []
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            line_end = text.rfind("\n", start, end)
            end = line_end + 1 if line_end > start else end
        blocks.append(text[start:end])
        start = end
    return blocks
