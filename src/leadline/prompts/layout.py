"""Where in a corpus the prompts of a load are taken, so that no two share a piece of it."""

from __future__ import annotations

import random
from collections.abc import Sequence


def lay_out(sizes: Sequence[int], room: int, seed: str) -> list[int] | None:
    """For each piece the place where it starts: in random order, what is left over spread between.

    ``None`` if all of them together are longer than the room.
    """
    spare = room - sum(sizes)
    if spare < 0:
        return None
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    order = list(range(len(sizes)))
    rng.shuffle(order)
    gaps = sorted(rng.randint(0, spare) for _ in sizes)
    starts = [0] * len(sizes)
    used = 0
    for gap, piece in zip(gaps, order, strict=True):
        starts[piece] = gap + used
        used += sizes[piece]
    return starts
