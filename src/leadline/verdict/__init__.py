"""From the lines of a journal to verdicts: the one place where results are derived.

``leadline report`` calls this again at any time; nothing here needs a server.
"""

from leadline.verdict.run import judge_run
from leadline.verdict.schema import (
    INFRASTRUCTURE,
    CellVerdict,
    DeploymentVerdict,
    GateResult,
    RunVerdict,
    Status,
    TargetCost,
    Trial,
    TtftCost,
)

__all__ = [
    "INFRASTRUCTURE",
    "CellVerdict",
    "DeploymentVerdict",
    "GateResult",
    "RunVerdict",
    "Status",
    "TargetCost",
    "Trial",
    "TtftCost",
    "judge_run",
]
