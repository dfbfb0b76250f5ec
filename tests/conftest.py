"""One profile for every property test: no deadline on a busy machine, the same cases each time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "leadline",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("leadline")
