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
from leadline.verdict.search_schema import FrontierPoint, HealStep, SearchStep, SearchVerdict

__all__ = [
    "INFRASTRUCTURE",
    "CellVerdict",
    "DeploymentVerdict",
    "FrontierPoint",
    "GateResult",
    "HealStep",
    "RunVerdict",
    "SearchStep",
    "SearchVerdict",
    "Status",
    "TargetCost",
    "Trial",
    "TtftCost",
    "judge_run",
]
