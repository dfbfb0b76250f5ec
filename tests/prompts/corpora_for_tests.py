"""Token corpora of real text, opened once and held in memory."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.prompts.tokenizers_for_tests import real_text, save

from leadline.prompts.corpus import find_corpora
from leadline.prompts.token_corpus import TokenCorpus, open_token_corpus
from leadline.prompts.tokenizer import LocalTokenizer


@cache
def prepared(kind: str, chars: int = 300_000) -> tuple[TokenCorpus, LocalTokenizer]:
    """Held in memory once its files are gone."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEADLINE_CACHE", folder)
        path = Path(folder) / "text.txt"
        path.write_text(real_text()[:chars], encoding="utf-8")
        tokenizer = save(kind, Path(folder))
        _ = tokenizer.huggingface
        return open_token_corpus(find_corpora(str(path)), tokenizer), tokenizer
