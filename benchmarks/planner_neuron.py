# ruff: noqa: INP001 - a script, not a package
"""The rows of the Llama-3.3-70B kit on Trainium beside their predictions, then untried settings.

Run ``python benchmarks/planner_neuron.py``; it prints Markdown. No row is a blind test: see
``leadline.plan.neuron_kit``.
"""

from __future__ import annotations

import click

from leadline.plan.neuron_kit import show_kit, show_untried


def main() -> None:
    click.echo(f"## The kit's rows\n\n{show_kit()}\n\n## Untried settings\n\n{show_untried()}")


if __name__ == "__main__":
    main()
