"""How the requests of a load come, how many, and what is good enough for them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from leadline.spec.frozen import Frozen, Positive

Arrivals = Literal["poisson", "constant", "bursts", "ramp"]
Users = Annotated[int, Field(ge=1, le=100_000)]

_REQUESTS = 100
DRIVERS = ("users", "rate", "trace", "sweep")


class Goals(Frozen):
    """A request is good if it is answered within all of these; goodput counts the good ones."""

    ttft_s: Positive | None = None
    """Seconds to the first token."""
    itl_s: Positive | None = None
    """For 99 % of the request's own gaps between tokens."""
    e2e_s: Positive | None = None
    """Seconds to the last token."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Of all requests sent: a sweep's step passes if at least so many are good."""

    @property
    def limits(self) -> dict[str, float]:
        named = {"TTFT": self.ttft_s, "99 % of gaps": self.itl_s, "E2E": self.e2e_s}
        return {name: limit for name, limit in named.items() if limit is not None}


class UserRange(Frozen):
    """Doubled from ``low`` until a step does not pass or ``high`` is reached, then bisected."""

    low: Users
    high: Users

    @model_validator(mode="after")
    def _in_order(self) -> UserRange:
        _require_order(self.low, self.high)
        return self


class RateRange(Frozen):
    """As a range of users; bisected until the neighbours are within 10 %."""

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _in_order(self) -> RateRange:
        _require_order(self.low, self.high)
        return self


def _require_order(low: float, high: float) -> None:
    if low > high:
        raise ValueError("low is above high")


def _form(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else "range"


def _several(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if list(value) != sorted(set(value)):
        raise ValueError("write the steps of a sweep in rising order, each once")
    return value


_UserSteps = Annotated[tuple[Users, ...], Field(min_length=1), AfterValidator(_several)]
_RateSteps = Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_several)]


_UserLevels = Annotated[
    Annotated[_UserSteps, Tag("list")] | Annotated[UserRange, Tag("range")], Discriminator(_form)
]
_RateLevels = Annotated[
    Annotated[_RateSteps, Tag("list")] | Annotated[RateRange, Tag("range")], Discriminator(_form)
]


class Sweep(Frozen):
    """One load after another on the same server, to find how much it can take."""

    users: _UserLevels | None = None
    """A list: exactly these. ``{low: 1, high: 64}``: doubled, then bisected."""
    rate: _RateLevels | None = None
    """Requests per second, in the same forms."""

    @model_validator(mode="after")
    def _one(self) -> Sweep:
        if (self.users is None) == (self.rate is None):
            raise ValueError("a sweep goes over users or over rate: give one of them")
        return self

    @property
    def unit(self) -> Literal["users", "rate"]:
        return "rate" if self.users is None else "users"

    @property
    def levels(self) -> Levels:
        found = self.rate if self.users is None else self.users
        assert found is not None  # noqa: S101  (one of them is given)
        return found


Levels: TypeAlias = tuple[float, ...] | UserRange | RateRange


class Load(Frozen):
    """Many requests at once, driven by exactly one of users, rate, trace and sweep."""

    users: Users | None = None
    """Closed loop: so many, each of whom waits for the answer before asking again."""
    rate: Positive | None = None
    """Open loop: requests per second, whatever is answered."""
    arrivals: Arrivals = "poisson"
    """How an open loop's requests come."""
    burst: Annotated[int, Field(ge=1)] = 1
    """Requests that come at once, for ``bursts``."""
    last_rate: Positive | None = None
    """Where a ``ramp`` ends."""
    trace: str | None = None
    """A recorded day as JSON lines: timestamp (ms), input_length, output_length, hash_ids."""
    trace_prefixes: bool = True
    """Prompts whose ``hash_ids`` are equal have equal tokens there; false: no two share a token."""
    trace_block_tokens: Annotated[int, Field(ge=1)] = 512
    """Tokens that one of the ``hash_ids`` stands for; Mooncake's traces: 512."""
    sweep: Sweep | None = None
    """Several loads, to find the largest within the goals."""
    requests: Annotated[int, Field(ge=1)] | None = None
    """Default: 100, or the whole trace; of a sweep, for each step."""
    warmup: Annotated[int, Field(ge=0)] | None = None
    """Requests before that do not count. Default: one for each user, at most 64."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Client processes that share the load, where one core of client is not enough."""
    self_check: bool = False
    """Measure the client's own error first, by some seconds of such a load on a server of known
    truth."""
    goals: Goals = Goals()

    @model_validator(mode="after")
    def _driven_once(self) -> Load:
        if len(self.drivers) > 1:
            raise ValueError(f"{' and '.join(self.drivers)} cannot both drive a load; keep one")
        if self.arrivals == "ramp" and self.last_rate is None:
            raise ValueError("a ramp needs last_rate, where it ends")
        if self.sweep and self.last_rate:
            raise ValueError("a sweep's steps have one rate each; leave last_rate out")
        return self

    @property
    def drivers(self) -> list[str]:
        return [name for name in DRIVERS if getattr(self, name) is not None]

    @property
    def count(self) -> int:
        """Requests, unless a trace says."""
        return self.requests or _REQUESTS

    @property
    def is_open(self) -> bool:
        return self.users is None

    @property
    def warmup_requests(self) -> int:
        return min(self.users or 4, 64) if self.warmup is None else self.warmup

    def at(self, level: float) -> Load:
        """One step of the sweep, as a load of its own."""
        assert self.sweep  # noqa: S101
        exact = int(level) if self.sweep.unit == "users" else level
        return self.model_copy(update={"sweep": None, self.sweep.unit: exact})

    def __str__(self) -> str:
        if self.trace:
            return f"trace {self.trace}"
        if self.users:
            return f"{self.users} user{'s' if self.users > 1 else ''}"
        if self.rate:
            return f"{self.rate:g} requests/s ({self.arrivals})"
        return f"sweep over {self.sweep.unit}" if self.sweep else "nothing"
