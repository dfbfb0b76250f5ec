"""Prometheus text as the few counters that Leadline asks for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families


def read_counters(text: str, names: Mapping[str, str]) -> dict[str, float]:
    """Canonical name to value, summed over label sets; absent samples are left out.

    Empty for what is no Prometheus text, such as the page of a proxy.
    """
    totals: dict[str, float] = defaultdict(float)
    canonical = {sample: name for name, sample in names.items()}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in canonical:
                    totals[canonical[sample.name]] += sample.value
    except ValueError:
        return {}
    return dict(totals)


def read_labels(text: str, sample_name: str) -> dict[str, str]:
    """The labels of the first such sample: some engines tell their settings so."""
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == sample_name:
                    return dict(sample.labels)
    except ValueError:
        return {}
    return {}


def growth(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """How much each counter grew; a counter that went back (a restart) is left out."""
    return {
        name: after[name] - before.get(name, 0.0)
        for name in after
        if after[name] >= before.get(name, 0.0)
    }
