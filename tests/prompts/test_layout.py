from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from leadline.prompts.layout import lay_out


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(0, 500), st.text())
def test_no_two_regions_overlap_and_all_of_the_room_is_used(
    sizes: list[int], spare: int, seed: str
) -> None:
    room = sum(sizes) + spare
    regions = lay_out(sizes, room, seed)
    assert regions is not None
    assert all(
        size <= high - low <= size + spare // len(sizes) + 1
        for size, (low, high) in zip(sizes, regions, strict=True)
    )
    ordered = sorted(regions)
    assert (ordered[0][0], ordered[-1][1]) == (0, room)
    assert all(one[1] == other[0] for one, other in pairwise(ordered))


def test_too_little_room_is_said() -> None:
    assert lay_out([3, 3], 5, "s") is None


def test_the_order_is_not_that_of_sending() -> None:
    regions = lay_out([1] * 50, 1000, "s")
    assert regions is not None
    assert regions != sorted(regions)
    assert regions != lay_out([1] * 50, 1000, "t")
