"""What a run may take: time, device hours, money."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from leadline.spec.frozen import Frozen, Positive
from leadline.units import parse_seconds

Duration = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(parse_seconds)]


class Amounts(Frozen):
    time: Duration | None = None
    """Of the clock: ``90s``, ``10m``, ``2h``, ``1h30m``; a number is seconds."""
    device_hours: Positive | None = None
    """Each device of each deployment that is up, for as long as it is."""
    usd: Positive | None = None
    """At the prices of the budget."""


class Budget(Amounts):
    """A run stops cleanly before a trial that would exceed it; with a larger one it goes on."""

    usd_per_device_hour: Positive | None = None
    """Your price of one device for one hour. None is built in."""
    usd_per_hour: Positive | None = None
    """Your price of the machine, or of all of them, for each hour that the run takes."""
    ask_above: Amounts = Amounts()
    """Ask before a start whose estimate is above any of these; ``--yes`` answers."""

    @model_validator(mode="after")
    def _priced(self) -> Budget:
        asks = self.usd is not None or self.ask_above.usd is not None
        if asks and self.usd_per_device_hour is None and self.usd_per_hour is None:
            raise ValueError("money needs a price: give usd_per_device_hour or usd_per_hour")
        return self

    def price_usd(self, time_s: float, device_s: float) -> float | None:
        """``None`` without a price."""
        prices = (self.usd_per_hour, self.usd_per_device_hour)
        if prices == (None, None):
            return None
        return (time_s * (prices[0] or 0.0) + device_s * (prices[1] or 0.0)) / 3600
