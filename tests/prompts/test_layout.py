from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leadline.prompts.layout import lay_out


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(0, 500), st.text())
def test_no_two_pieces_overlap_and_none_leaves_the_room(
    sizes: list[int], spare: int, seed: str
) -> None:
    room = sum(sizes) + spare
    starts = lay_out(sizes, room, seed)
    assert starts is not None
    pieces = sorted(zip(starts, sizes, strict=True))
    ends = [start + size for start, size in pieces]
    assert pieces[0][0] >= 0
    assert all(end <= start for end, (start, _) in zip(ends, pieces[1:], strict=False))
    assert ends[-1] <= room


def test_too_little_room_is_said() -> None:
    assert lay_out([3, 3], 5, "s") is None


def test_the_order_is_not_that_of_sending() -> None:
    starts = lay_out([1] * 50, 1000, "s")
    assert starts is not None
    assert starts != sorted(starts)
    assert starts != lay_out([1] * 50, 1000, "t")
