"""In which order the trials of a campaign are made.

Deployments one after the other, each started once for all its cells; where deployments are
compared, their trials take turns instead, with all of them up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from leadline.spec.campaign import Campaign, Cell


class Turn(NamedTuple):
    cell: Cell
    trial: int


def order_work(campaign: Campaign, chosen: frozenset[str] | None = None) -> list[Turn]:
    """Every trial of the chosen cells exactly once; ``None``: of all."""
    groups = {
        key: [cell for cell in cells if chosen is None or cell.key in chosen]
        for key, cells in campaign.starts().items()
    }
    turns = list(take_turns(groups)) if campaign.order == "interleaved" else []
    made = {(turn.cell.key, turn.trial) for turn in turns}
    rest = (Turn(c, trial) for cells in groups.values() for c in cells for trial in c.trials)
    return [*turns, *(turn for turn in rest if (turn.cell.key, turn.trial) not in made)]


def take_turns(groups: Mapping[str, Sequence[Cell]]) -> Iterator[Turn]:
    """Round by round, workload by workload; who begins moves on by one, so that nobody is always
    first. Not of loads, nor of what has no server.
    """
    names = [name for name, cells in groups.items() if any(map(_takes_turns, cells))]
    workloads: dict[str, dict[str, Cell]] = {}
    for name in names:
        for cell in filter(_takes_turns, groups[name]):
            workloads.setdefault(cell.workload_key, {})[name] = cell
    rounds = max((len(c.trials) for cells in workloads.values() for c in cells.values()), default=0)
    for trial in range(1, rounds + 1):
        for place, cells in enumerate(workloads.values()):
            first = (trial + place) % len(names)
            for name in (*names[first:], *names[:first]):
                if name in cells and trial in cells[name].trials:
                    yield Turn(cells[name], trial)


def _takes_turns(cell: Cell) -> bool:
    return not cell.is_load and cell.settings.target.kind != "offline"
