"""What a server and its devices say while it works, sampled into the journal."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from leadline.campaign.serving import Served
from leadline.deploy.process import ProcessTarget
from leadline.metrics.sampling import MetricsSource, sampling


def sampled(served: Served, deployment: str, run: Path) -> AbstractAsyncContextManager[None]:
    """For the length of the block; of a server that somebody else runs without its processes."""
    pid = served.target.pid if isinstance(served.target, ProcessTarget) else None
    return sampling(run, _metrics(served, deployment), pid=pid)


def _metrics(served: Served, deployment: str) -> MetricsSource | None:
    engine, endpoint = served.engine, served.server.endpoint
    if not engine.metrics_path or not (engine.gauges or engine.counters):
        return None
    return MetricsSource(
        deployment=deployment,
        url=endpoint.url + engine.metrics_path,
        counters=engine.counters,
        gauges=engine.gauges,
        headers=endpoint.headers,
    )
