"""A tokenizer of one token for each byte of text, so that a short corpus fills a long window."""

from __future__ import annotations

from pathlib import Path

import orjson

from leadline.models.tokenizer_files import BYTES, bpe_tokenizer

END = "<|end|>"
# No text is encoded with these; they are what a small model answers with. With the bytes and the
# end they make 320, a multiple of 64, as engines like a vocabulary to be.
_WORDS = """
the quick brown fox jumps over a lazy dog and runs away from one old house near some river where
many small birds sing each morning while people walk along its banks with their children who like
to look at boats that pass under stone bridges on long summer days before autumn brings rain wind
cold nights then snow upon quiet empty fields
"""


def write_byte_tokenizer(folder: Path, window: int) -> None:
    tokens = [END, *_byte_characters(), *(f"Ġ{word}" for word in _WORDS.split())]
    end = {"id": 0, "content": END, "special": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer = bpe_tokenizer(tokens, [], added=[end | flags], splitter=BYTES)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "model_max_length": window,
        "clean_up_tokenization_spaces": False,
        "chat_template": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
    }
    (folder / "tokenizer.json").write_bytes(orjson.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(config))


def _byte_characters() -> list[str]:
    """One printable character for each byte, as all byte-level tokenizers have them (GPT-2)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = len([byte for byte in range(0x100) if byte not in plain])
    return [chr(code) for code in plain] + [chr(0x100 + number) for number in range(others)]
