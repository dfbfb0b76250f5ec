"""The verbs: parse, call, render. The only place that catches ``LeadlineError``.

Heavy modules are imported inside the verbs, so that ``leadline --help`` stays quick.
"""

from leadline.cli.main import cli, main

__all__ = ["cli", "main"]
