"""What this machine and earlier runs add to a plan: local models, measured prefills."""

from __future__ import annotations

from pathlib import Path

from leadline.engines.engine import load_engine
from leadline.engines.llamacpp import model_file, read_settings
from leadline.errors import SpecError
from leadline.journal import Run
from leadline.metrics.measures import measure
from leadline.plan.local_memory import LocalPlan, plan_llamacpp
from leadline.prove.structural import prove_cold
from leadline.spec import Deployment, DockerTarget, ProcessTarget

_LOCAL_ENGINE = "llamacpp"


def plan_local(deployment: Deployment) -> LocalPlan | None:
    """What the file of a local model says of its memory; ``None`` for any other deployment."""
    if (
        isinstance(deployment.target, ProcessTarget | DockerTarget)
        and deployment.engine_name == _LOCAL_ENGINE
    ):
        path = Path(model_file(deployment.model or "")).expanduser()
        return plan_llamacpp(path, read_settings(deployment.settings))
    return None


def read_probes(run: Run, deployment: str = "") -> tuple[tuple[int, float], ...]:
    """Cold answered trials of one deployment of a run, as (prompt tokens, TTFT in seconds).

    The run's only deployment where none is named. A trial that a cache helped tells nothing.
    """
    trials = [r for r in run.records() if r.purpose == "trial" and r.exchange.failure is None]
    chosen = _choose_deployment({record.deployment for record in trials}, deployment, run)
    engines = {
        event["deployment"]: event["engine"]
        for event in run.events()
        if event.get("event") == "deployment_ready"
    }
    engine = load_engine(engines.get(chosen, "openai"))
    return tuple(
        (record.sent.input_tokens, ttft_s)
        for record in trials
        if record.deployment == chosen and prove_cold(record, engine).outcome != "fail"
        if (ttft_s := measure(record.exchange).ttft_s)
    )


def _choose_deployment(names: set[str], asked: str, run: Run) -> str:
    if asked in names:
        return asked
    if asked or len(names) > 1:
        raise SpecError(
            f"the run holds trials of {', '.join(sorted(names)) or 'nothing'}",
            where=str(run.path),
            cure="name one of its deployments: --calibrate RUN:DEPLOYMENT",
        )
    return next(iter(names), "")
