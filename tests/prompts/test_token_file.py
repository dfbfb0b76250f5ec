from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.prompts.token_file import read_token_file, write_token_file

IDS = np.arange(1000, dtype=np.uint32)
TEXT = np.frombuffer(b"deep blue sea", np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache") / "new" / "a.tokens"
    write_token_file(path, "key", {"chars": 13}, {"ids": IDS, "text": TEXT})
    return path


def test_what_is_written_is_read_back_and_nothing_else_is_left(path: Path) -> None:
    found = read_token_file(path, "key")
    assert found is not None
    assert np.array_equal(found.arrays["ids"], IDS)
    assert found.arrays["text"].tobytes() == b"deep blue sea"
    assert found.facts == {"chars": 13}
    assert not found.arrays["ids"].flags.writeable
    assert [item.name for item in path.parent.iterdir()] == ["a.tokens"]


@given(st.data())
def test_a_changed_byte_is_noticed(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    damaged = path.with_name("damaged")
    damaged.write_bytes(content)
    found = read_token_file(damaged, "key")
    # Only what pads an array may change.
    assert found is None or np.array_equal(found.arrays["ids"], IDS)


@given(st.integers(0, 4200))
def test_a_torn_file_is_noticed(path: Path, size: int) -> None:
    content = path.read_bytes()
    torn = path.with_name("torn")
    torn.write_bytes(content[: min(size, len(content) - 64)])
    assert read_token_file(torn, "key") is None


def test_another_key_an_absent_file_and_a_folder_are_no_hit(path: Path) -> None:
    assert read_token_file(path, "other") is None
    assert read_token_file(path.with_name("absent"), "key") is None
    assert read_token_file(path.parent, "key") is None


def test_a_failed_write_leaves_no_neighbour(tmp_path: Path) -> None:
    (tmp_path / "a.tokens").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_token_file(tmp_path / "a.tokens", "key", {}, {"ids": IDS})
    assert [item.name for item in tmp_path.iterdir()] == ["a.tokens"]
