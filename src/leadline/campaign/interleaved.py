"""Deployments that are compared: all up at once, and trial by trial in turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from leadline.campaign.deployment import DeploymentRun
from leadline.campaign.failures import LostError
from leadline.campaign.request import Sender
from leadline.campaign.trials import TrialsRun
from leadline.errors import JournalError, LeadlineError
from leadline.spec import Cell
from leadline.spec import take_turns as order_turns

Up = tuple[DeploymentRun, Sender]


async def take_turns(runs: Sequence[DeploymentRun]) -> None:
    """Every trial of every deployment that comes up; what fails is left owed for a start of its
    own, as are loads.
    """
    async with AsyncExitStack() as stack:
        up = {run.key: each for run in runs if (each := await _start(run, stack))}
        lost: set[str] = set()
        for cell, trial in order_turns({run.key: run.chosen_cells for run, _ in up.values()}):
            run, sender = up[cell.deployment]
            if run.key not in lost and trial in run.work.owed_trials(cell):
                kept = await _take_turn(run, sender, cell, trial)
                lost |= set() if kept else {run.key}
        for run, sender in up.values():
            if run.key not in lost and run.limits_owed():
                await run.probe_limits(sender)


async def _start(run: DeploymentRun, stack: AsyncExitStack) -> Up | None:
    run.rule_out()
    if not any(run.work.owed_trials(cell) for cell in run.cells if not cell.is_load):
        return None
    run.work.require(run.key, None, 0, starting=True)
    try:
        sender = await stack.enter_async_context(run.up())
        await run.warm_up(sender)
    except JournalError:
        raise
    except LeadlineError as error:
        await run.note_not_up(error)
        return None
    return run, sender


async def _take_turn(run: DeploymentRun, sender: Sender, cell: Cell, trial: int) -> bool:
    try:
        return await TrialsRun(sender, cell, run.cells, only=trial).run()
    except LostError as error:
        await run.note_not_up(error)
        return False
