"""All checks, in the order in which things are needed."""

from __future__ import annotations

from collections.abc import Iterator

from leadline.preflight.check import Check, Needs
from leadline.preflight.cluster import check_cluster
from leadline.preflight.devices import check_devices
from leadline.preflight.docker import check_docker
from leadline.preflight.machine import check_machine
from leadline.preflight.models import check_models


def examine(needs: Needs) -> Iterator[Check]:
    """Each as soon as it is known; what is absent does not stop the rest."""
    for reason in needs.unplanned:
        yield Check("plan", "warn", reason, "leadline plan says what it lacks")
    yield from check_devices(needs)
    yield from check_machine(needs)
    yield from check_docker(needs)
    yield from check_cluster(needs)
    yield from check_models(needs)
