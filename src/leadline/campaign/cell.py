"""One cell on one start of its deployment: what trials and loads have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from leadline.campaign.failures import LostError, describe_error, gather_evidence
from leadline.campaign.request import Sender
from leadline.campaign.work import Work
from leadline.deploy.health import is_reachable
from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.errors import LoadError, SpecError
from leadline.records import Failure, Finding
from leadline.spec import Cell

# After these the server is in an unknown state; one that we started is started afresh.
_LOST_S = 5.0
_UNSETTLING = ("disconnected", "unreachable", "timeout", "stalled", "malformed")


@dataclass(frozen=True)
class CellRun:
    sender: Sender
    cell: Cell
    siblings: Sequence[Cell]
    """All cells of the deployment, for the estimate of what is left."""

    @property
    def work(self) -> Work:
        return self.sender.work

    @abstractmethod
    async def measure(self, tokens: int) -> bool:
        """All that is owed, with prompts of at most ``tokens``; ``False`` as from ``run``."""

    async def run(self) -> bool:
        """Leave a result for the cell; ``False`` when the server must be started afresh."""
        try:
            return await self.measure(self._longest_input())
        except SpecError as error:
            self._cannot_build(error)
        except LoadError as error:  # the server did not even tokenise
            failure = Failure(kind="unreachable", message=str(error))
            return await self.fail(failure, tokens=0, event="cell_failed")
        return True

    async def fail(self, failure: Failure, tokens: int, event: str = "") -> bool:
        """A finding for the cell. ``LostError`` if instead somebody else's server is gone.

        ``event`` is journaled with it where no failed trial stands for the cell's end.
        """
        output_tokens = self.cell.workload.longest_output
        evidence = await gather_evidence(self.sender.served, failure, tokens, output_tokens)
        evidence = replace(evidence, **self._size())
        finding = explain(evidence).model_copy(update=self.place())
        await self._require_reachable(failure)
        self._settle(finding, event)
        unsettled = evidence.exit_status or failure.kind in _UNSETTLING
        return self.sender.served.target is None or not unsettled

    async def _require_reachable(self, failure: Failure) -> None:
        """The benefit of the doubt, once: that the network went, and no request killed a server."""
        served, key = self.sender.served, self.cell.key
        if served.target or failure.kind not in _UNSETTLING or self.work.losses[key]:
            return
        url = served.server.endpoint.url
        if not await is_reachable(url, _LOST_S):
            message = f"{failure.message}; then no connection to {url} within {_LOST_S:g} s"
            away = Failure(kind="unreachable", message=message)
            raise LostError(explain(Evidence(failure=away)), key)

    def _size(self) -> dict[str, Any]:
        """What a remedy has to know of the server that we started, and of the load."""
        engine, settings = self.sender.served.engine, self.cell.settings.settings
        load, seats = self.cell.workload.load, settings.get(engine.seats_setting or "", 1)
        parted = engine.pooled_setting and not settings.get(engine.pooled_setting)
        return {
            "window_setting": engine.window_setting if self.sender.served.target else "",
            "window_parts": seats if parted and isinstance(seats, int) else 1,
            "at_once": (load.users or 1) if load else 1,
        }

    def place(self) -> dict[str, str | int]:
        return {
            "deployment": self.sender.deployment,
            "cell": self.cell.key,
            "attempt": self.sender.attempt,
        }

    def _longest_input(self) -> int:
        asked = self.cell.workload.longest_input
        if asked != "max":
            return asked
        longest = self.sender.served.max_input_tokens(self.cell.workload.longest_output)
        if longest is None and not self.reads_trace:
            raise SpecError(
                "'max' cannot be resolved: the server does not tell its context window",
                where=self.cell.key,
                cure="give settings.max_model_len, or a number of tokens",
            )
        return longest or 0

    @property
    def reads_trace(self) -> bool:
        """All lengths come from elsewhere."""
        return bool(self.cell.workload.load and self.cell.workload.load.trace)

    def _cannot_build(self, error: SpecError) -> None:
        finding = describe_error(error, "PROMPT001", "prompt").model_copy(update=self.place())
        self._settle(finding, "cell_failed")

    def _settle(self, finding: Finding, event: str) -> None:
        """The event holds the finding too: we may be killed between the two."""
        self.work.settled.add(self.cell.key)
        if event:
            facts = {"cell": self.cell.key, "attempt": self.sender.attempt}
            self.work.journal.event(event, **facts, finding=finding.model_dump(mode="json"))
        self.work.fail(finding)
