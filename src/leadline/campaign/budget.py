"""The guard of a run's budget: may this take place, with all that it is predicted to take?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from leadline.spec import Budget
from leadline.units import show_seconds
from leadline.verdict.spent import Spent


class BudgetReachedError(Exception):
    """The next step would exceed the budget. No error of the user's: the run ends early."""

    def __init__(self, limit: str, text: str) -> None:
        super().__init__(text)
        self.limit = limit
        self.text = text


class _Amount(NamedTuple):
    name: str
    cap: float
    used: float
    more: float
    """What the next step is predicted to add."""
    show: Callable[[float], str]


class Meter:
    """Counts what the run takes; of earlier processes by the journal, of this one by the clock."""

    def __init__(
        self,
        budget: Budget,
        earlier: Spent = Spent(),  # noqa: B008  (frozen)
        devices: Mapping[str, int | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self.devices = dict(devices or {})
        self._clock = clock
        self._earlier = earlier
        self._begun = clock()
        self._ended_device_s = 0.0
        self._up: dict[str, float] = {}

    def adopt(self, deployment: str) -> None:
        """A variant that the campaign does not name takes the devices of the one it stems from."""
        name = deployment.partition("/")[0]
        same = [count for key, count in self.devices.items() if key.partition("/")[0] == name]
        self.devices.setdefault(deployment, same[0] if same else None)

    @contextmanager
    def up(self, deployment: str) -> Iterator[None]:
        """From before its start until it has ended."""
        self._up[deployment] = self._clock()
        try:
            yield
        finally:
            since = self._up.pop(deployment)
            self._ended_device_s += self._count(deployment) * (self._clock() - since)

    @property
    def spent(self) -> Spent:
        now = self._clock()
        open_s = sum(self._count(name) * (now - since) for name, since in self._up.items())
        return Spent(
            self._earlier.time_s + now - self._begun,
            self._earlier.device_s + self._ended_device_s + open_s,
        )

    def require(self, seconds: float = 0.0, starting: str | None = None) -> None:
        """``BudgetReachedError`` if what follows would exceed the budget.

        ``seconds`` is what it is predicted to take, 0 where that is not known; ``starting`` the
        deployment that it starts.
        """
        for amount in self._amounts(seconds, starting):
            if amount.used + amount.more > amount.cap or amount.used >= amount.cap:
                raise BudgetReachedError(amount.name, _word(amount))

    def _amounts(self, seconds: float, starting: str | None) -> Iterator[_Amount]:
        spent, budget = self.spent, self.budget
        busy = {*self._up, *([starting] if starting else [])}
        more = Spent(seconds, seconds * sum(map(self._count, busy)))
        if budget.time is not None:
            yield _Amount("time", budget.time, spent.time_s, more.time_s, show_seconds)
        if budget.device_hours is not None:
            hours = spent.device_s / 3600, more.device_s / 3600
            yield _Amount("device_hours", budget.device_hours, *hours, "{:.3g} device hours".format)
        if budget.usd is not None:
            costs = budget.price_usd(*spent) or 0.0, budget.price_usd(*more) or 0.0
            yield _Amount("usd", budget.usd, *costs, "{:.2f} USD".format)

    def _count(self, deployment: str) -> int:
        return self.devices.get(deployment) or 0


def _word(amount: _Amount) -> str:
    used = f"{amount.show(amount.used)} of {amount.show(amount.cap)} are used"
    if amount.used >= amount.cap:
        return f"{amount.name}: {used}"
    return (
        f"{amount.name}: {used}, and the next step is predicted to take {amount.show(amount.more)}"
    )
