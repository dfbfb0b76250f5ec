"""Names of the Prometheus metrics that an engine's files quote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_NAME = re.compile(r"""["']((?:vllm|sglang):[a-z][a-z0-9_]*[a-z0-9])["']""")


def read_metrics(folder: Path) -> dict[str, Any]:
    """As they stand in the source: without the ``_total`` that a counter gets when exposed."""
    texts = (path.read_text("utf-8", errors="replace") for path in folder.rglob("*.py"))
    names = {name for text in texts for name in _NAME.findall(text)}
    return {name: {"kind": "env"} for name in sorted(names)}
