"""What a deployment's cells are known to come to: a failure that is known is a result as good."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from leadline.spec.frozen import Frozen

_HINT = "write 'pass', 'fail' or '{fail: CAUSE}', with the cause that a report names"


class Expectation(Frozen):
    verdict: Literal["pass", "fail"]
    cause: str = ""
    """Of the failure; empty: any."""

    def __str__(self) -> str:
        return f"{self.verdict} ({self.cause})" if self.cause else self.verdict


def _read(value: object) -> object:
    match value:
        case Expectation() | {"verdict": _}:
            return value
        case "pass" | "fail":
            return {"verdict": value}
        case {"fail": str(cause), **rest} if not rest:
            return {"verdict": "fail", "cause": cause}
    raise ValueError(f"{value!r} is not an expectation; {_HINT}")


Expected = Annotated[Expectation, BeforeValidator(_read)]
