from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from tests.prompts.tokenizers_for_tests import real_text, save, train

from leadline.errors import SpecError
from leadline.prompts import token_corpus as module
from leadline.prompts.corpus import find_corpora
from leadline.prompts.token_corpus import (
    OnProgress,
    TokenCorpus,
    UncuttableError,
    cache_folder,
    open_token_corpus,
)
from leadline.prompts.tokenizer import LocalTokenizer


def open_text(
    references: str | list[str], tokenizer: LocalTokenizer, *on_progress: OnProgress
) -> TokenCorpus:
    return open_token_corpus(find_corpora(references), tokenizer, *on_progress)


@pytest.fixture
def tokenizer(tmp_path: Path) -> LocalTokenizer:
    return save("gpt2", tmp_path / "model")


@pytest.fixture
def text_file(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(real_text(), encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEADLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(module, "_tokenise", fail)


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "digits", "lines"])
def test_the_ids_are_those_of_the_whole_text(kind: str, tmp_path: Path, text_file: str) -> None:
    corpus = open_text(text_file, save(kind, tmp_path / kind))
    assert corpus.ids.tolist() == train(kind).encode(real_text(), add_special_tokens=False).ids
    assert corpus.text == real_text()
    assert corpus.facts["encoder"] == ("tokenizers" if kind == "lines" else "tiktoken")
    assert (len(corpus.cuts.tokens) == 1) is (kind == "lines")


def test_the_second_time_nothing_is_tokenised(
    tokenizer: LocalTokenizer, text_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    first = open_text(text_file, tokenizer, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    forbid_work(monkeypatch)
    again = open_text(text_file, LocalTokenizer(str(tokenizer.file)))
    assert np.array_equal(again.ids, first.ids)
    assert again.facts == first.facts


def test_another_text_or_tokenizer_is_another_entry(
    tokenizer: LocalTokenizer, text_file: str, tmp_path: Path, cache: Path
) -> None:
    first = open_text(text_file, tokenizer)
    Path(text_file).write_text("Something else.", encoding="utf-8")
    assert open_text(text_file, tokenizer).text == "Something else."
    other = open_text(text_file, save("llama3", tmp_path / "other"))
    assert other.facts["tokenizer_sha256"] != first.facts["tokenizer_sha256"]
    assert len(list(cache.iterdir())) == 3


def test_a_damaged_entry_is_made_anew(
    tokenizer: LocalTokenizer, text_file: str, cache: Path
) -> None:
    ids = open_text(text_file, tokenizer).ids.copy()
    (entry,) = cache.iterdir()
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)
    assert np.array_equal(open_text(text_file, tokenizer).ids, ids)
    assert entry.read_bytes() != content
    assert [*cache.iterdir()] == [entry]


def test_an_open_corpus_outlives_its_file(
    tokenizer: LocalTokenizer, text_file: str, cache: Path
) -> None:
    corpus = open_text(text_file, tokenizer)
    (entry,) = cache.iterdir()
    entry.unlink()
    assert corpus.text == real_text()


def _open_and_sum(folder: str, text_file: str) -> tuple[int, int]:
    corpus = open_text(text_file, LocalTokenizer(folder))
    return len(corpus.ids), int(corpus.ids.sum())


def test_processes_that_build_the_same_entry_at_once_agree(
    tokenizer: LocalTokenizer, text_file: str, cache: Path
) -> None:
    task = (str(tokenizer.file.parent), text_file)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(_open_and_sum, [task] * 4, chunksize=1)
    assert set(found) == {_open_and_sum(*task)}
    assert len(list(cache.iterdir())) == 1


def test_files_are_joined_in_order(tokenizer: LocalTokenizer, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    for name, text in zip(names, ("deep blue", "sea"), strict=True):
        Path(name).write_text(text, encoding="utf-8")
    assert open_text(names, tokenizer).text == "deep blue\nsea"
    assert open_text(names[::-1], tokenizer).text == "sea\ndeep blue"
    with pytest.raises(SpecError, match="is given twice; text is never repeated"):
        open_text([names[0]] * 2, tokenizer)


def test_a_cache_that_cannot_be_written_says_where_and_how_to_move_it(
    tokenizer: LocalTokenizer, text_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LEADLINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(SpecError, match="the token cache cannot be written: ") as refusal:
        open_text(text_file, tokenizer)
    assert refusal.value.where == str(tmp_path / "file" / "tokens")
    assert "LEADLINE_CACHE" in refusal.value.cure


def test_the_cache_lies_in_the_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEADLINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/leadline")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "leadline"


def test_every_cut_splits_text_and_ids_alike(tokenizer: LocalTokenizer, text_file: str) -> None:
    corpus: TokenCorpus = open_text(text_file, tokenizer)
    assert len(corpus.cuts.tokens) > 20_000
    spots = [*range(0, len(corpus.cuts.tokens) - 1, 997)]
    for spot in spots:
        tokens, chars = (array[spot : spot + 2] for array in corpus.cuts)
        piece = corpus.text[chars[0] : chars[1]]
        assert tokenizer.encode(piece) == corpus.ids[tokens[0] : tokens[1]].tolist()


def test_a_long_text_is_not_forced_on_a_tokenizer_without_cuts(
    tmp_path: Path, text_file: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WHOLE_CHARS", 100_000)
    with pytest.raises(UncuttableError, match="merges over words") as refusal:
        open_text(text_file, save("lines", tmp_path / "lines"))
    assert refusal.value.cure == "give a corpus of at most 100,000 characters"
    assert not cache.exists()
