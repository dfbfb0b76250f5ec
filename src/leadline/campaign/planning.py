"""What this machine and earlier runs add to a plan: local models, measured prefills."""

from __future__ import annotations

from pathlib import Path

from leadline.engines.llamacpp import model_file, read_settings
from leadline.journal import Run
from leadline.metrics.measures import measure
from leadline.plan.local_memory import LocalPlan, plan_llamacpp
from leadline.spec import Deployment, ProcessTarget

_LOCAL_ENGINE = "llamacpp"


def plan_local(deployment: Deployment) -> LocalPlan | None:
    """What the file of a local model says of its memory; ``None`` for any other deployment."""
    if isinstance(deployment.target, ProcessTarget) and deployment.engine_name == _LOCAL_ENGINE:
        path = Path(model_file(deployment.model or "")).expanduser()
        return plan_llamacpp(path, read_settings(deployment.settings))
    return None


def read_probes(run: Run) -> tuple[tuple[int, float], ...]:
    """Answered trials of an earlier run, as (prompt tokens, TTFT in seconds)."""
    found = []
    for record in run.records():
        ttft_s = measure(record.exchange).ttft_s
        if record.purpose == "trial" and record.exchange.failure is None and ttft_s:
            found.append((record.sent.input_tokens, ttft_s))
    return tuple(found)
