"""Prometheus text as the few counters and gauges that Leadline asks for.

A name is a sample's, or one label of it too, as PromQL selects it:
``family_sum{stage=~"prefill|chunked"}``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

# Shares of a whole: of several label sets the highest counts; counts are summed.
SHARES = frozenset({"kv_usage"})

_SELECTOR = re.compile(r'(?P<sample>[^{]+)(?:\{(?P<label>\w+)=~"(?P<values>[^"]*)"\})?')


class Selector(NamedTuple):
    sample: str
    label: str | None
    values: frozenset[str]

    def selects(self, sample: Sample) -> bool:
        if sample.name != self.sample:
            return False
        return self.label is None or sample.labels.get(self.label) in self.values


def read_counters(text: str, names: Mapping[str, str]) -> dict[str, float]:
    """Canonical name to value, summed over label sets; absent samples are left out.

    Empty for what is no Prometheus text, such as the page of a proxy.
    """
    return {name: sum(values) for name, values in _read(text, names).items()}


def read_gauges(text: str, names: Mapping[str, str]) -> dict[str, float]:
    """As ``read_counters``, but of ``SHARES`` the highest of all label sets."""
    found = _read(text, names)
    return {name: (max if name in SHARES else sum)(values) for name, values in found.items()}


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


def _read(text: str, names: Mapping[str, str]) -> dict[str, list[float]]:
    selectors = {name: _selector(written) for name, written in names.items()}
    found: dict[str, list[float]] = defaultdict(list)
    try:
        for sample in _samples(text, tuple({chosen.sample for chosen in selectors.values()})):
            for name, selector in selectors.items():
                if selector.selects(sample):
                    found[name].append(sample.value)
    except ValueError:
        return {}
    return found


def _samples(text: str, wanted: tuple[str, ...]) -> Iterator[Sample]:
    """Of a thousand lines, most of them buckets, only those that may be asked for are parsed."""
    lines = [line for line in text.splitlines() if line.startswith(wanted)]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        yield from family.samples


def _selector(written: str) -> Selector:
    match = _SELECTOR.fullmatch(written)
    if match is None:
        raise ValueError(f"{written!r} selects no Prometheus sample")
    values = frozenset((match["values"] or "").split("|"))
    return Selector(match["sample"], match["label"], values)
