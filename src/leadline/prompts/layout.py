"""Where in a corpus the prompts of a load are taken, so that no two share a piece of it."""

from __future__ import annotations

import random
from collections.abc import Sequence


def lay_out(sizes: Sequence[int], room: int, seed: str) -> list[tuple[int, int]] | None:
    """For each piece a region of its own, (begin, end); which comes where is drawn.

    What the pieces leave over is shared out evenly, so that each can move within its region.
    ``None`` if all of them together are longer than the room.
    """
    spare = room - sum(sizes)
    if spare < 0:
        return None
    order = list(range(len(sizes)))
    random.Random(seed).shuffle(order)  # noqa: S311  (reproducible, not secret)
    regions = [(0, 0)] * len(sizes)
    low = 0
    for rank, number in enumerate(order):
        share = spare * (rank + 1) // len(order) - spare * rank // len(order)
        high = low + sizes[number] + share
        regions[number] = low, high
        low = high
    return regions
