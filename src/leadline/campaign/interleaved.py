"""Deployments that are compared: all up at once, and trial by trial in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

from leadline.campaign.deployment import DeploymentRun
from leadline.campaign.request import Sender
from leadline.campaign.trials import TrialsRun
from leadline.errors import JournalError, LeadlineError
from leadline.spec import Cell

Up = tuple[DeploymentRun, Sender]


async def take_turns(runs: Sequence[DeploymentRun]) -> None:
    """Every trial of every deployment that comes up; what fails is left owed for a start of its
    own, as are loads.
    """
    async with AsyncExitStack() as stack:
        up = [each for run in runs if (each := await _start(run, stack))]
        lost: set[str] = set()
        for run, sender, cell, trial in _turns(up):
            if run.key not in lost and trial in run.work.owed_trials(cell):
                kept = await TrialsRun(sender, cell, run.cells, only=trial).run()
                lost |= set() if kept else {run.key}
        for run, sender in up:
            if run.key not in lost and run.limits_owed():
                await run.probe_limits(sender)


async def _start(run: DeploymentRun, stack: AsyncExitStack) -> Up | None:
    owed = [cell for cell in run.cells if not cell.is_load and run.work.owed_trials(cell)]
    if run.is_ruled_out or not owed:
        return None
    try:
        sender = await stack.enter_async_context(run.up())
        await run.warm_up(sender)
    except JournalError:
        raise
    except LeadlineError as error:
        run.note_not_up(error)
        return None
    return run, sender


def _turns(up: Sequence[Up]) -> Iterator[tuple[DeploymentRun, Sender, Cell, int]]:
    """Round by round; who begins moves on by one, so that nobody is always first."""
    rounds = max((cell.workload.repeats for run, _ in up for cell in run.cells), default=0)
    places = max((len(run.cells) for run, _ in up), default=0)
    for trial in range(1, rounds + 1):
        for place in range(places):
            first = (trial + place) % len(up)
            for run, sender in (*up[first:], *up[:first]):
                if place < len(run.cells) and not run.cells[place].is_load:
                    yield run, sender, run.cells[place], trial
