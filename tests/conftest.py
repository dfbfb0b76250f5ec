"""One profile for every property test: no deadline on a busy machine, the same cases each time."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "leadline",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("leadline")

# A shell's background job is begun with Ctrl-C ignored, and so is all that the tests start from it.
signal.signal(signal.SIGINT, signal.default_int_handler)
