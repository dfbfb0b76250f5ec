"""From an error or a failed request to the finding that explains it."""

from __future__ import annotations

from leadline.campaign.serving import Served
from leadline.deploy.target import StartError
from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.errors import AccessError, LeadlineError, SpecError
from leadline.records import Failure, Finding

_EXIT_WAIT_S = 2.0


class WarmupError(LeadlineError):
    """The server came up but did not generate a token."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.title, cure=finding.remedy)
        self.finding = finding


class CapacityError(LeadlineError):
    """The server came up with a KV cache that cannot hold what it admits."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.title, cure=finding.remedy)
        self.finding = finding


class LostError(LeadlineError):
    """Somebody else's server is out of reach: what it owes stays owed."""

    def __init__(self, finding: Finding, cell: str = "") -> None:
        super().__init__(finding.title, cure=finding.remedy)
        self.finding = finding
        self.cell = cell
        """Which was under way."""


async def gather_evidence(
    served: Served, failure: Failure | None, input_tokens: int, output_tokens: int
) -> Evidence:
    """What there is to see after a failed request; a dying server gets a moment to die."""
    return Evidence(
        exit_status=await served.target.exited(_EXIT_WAIT_S) if served.target else None,
        log=served.target.log_tail() if served.target else (),
        failure=failure,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        window_tokens=served.window_tokens,
        pool_tokens=served.pool_tokens or served.words.max_request_tokens,
        waiting=tuple(served.waiting),
    )


def explain_start(error: LeadlineError) -> Finding:
    """Why a deployment is not up."""
    if isinstance(error, WarmupError | CapacityError | LostError):
        return error.finding
    if isinstance(error, StartError):
        return explain(
            Evidence(start_cause=error.cause, exit_status=error.exit_status, log=error.log_tail)
        )
    if isinstance(error, SpecError):
        return describe_error(error, "START009", "bad_option")
    cause = "access" if isinstance(error, AccessError) else "unreachable"
    return describe_error(error, "START009", cause)


def describe_error(error: LeadlineError, code: str, cause: str) -> Finding:
    """An error of our own checks as a finding."""
    return Finding(
        code=code,
        title=error.what,
        cause=cause,
        explanation="Leadline's own check stopped here.",
        evidence=(f"{error.where}: {error.what}",),
        remedy=error.cure,
        source="Leadline",
    )
