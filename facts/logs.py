"""The phrases of an engine's log that our tables wait for, and the releases that print them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

CATALOG = Path(__file__).parents[1] / "src/leadline/catalog"
# Between two parts of one literal: quotes, line ends, an f.
_JOINT = re.compile(r"""["']\s*\n\s*[frb]?["']""")
# Where a pattern stops being plain text.
_SPECIAL = re.compile(r"[(\[\\.*+?|^$]")
_SHORTEST = 8


def read_logs(folder: Path, engine: str) -> dict[str, Any]:
    texts = [path.read_text("utf-8", errors="replace") for path in folder.rglob("*.py")]
    whole = _JOINT.sub("", "\n".join(texts))
    return {phrase: {"kind": "env"} for phrase in list_phrases(engine) if phrase in whole}


def list_phrases(engine: str) -> list[str]:
    """Texts of the phases, and the plain beginnings of the statements' patterns."""
    tables = tomllib.loads((CATALOG / f"{engine}.toml").read_text("utf-8"))
    phases = [row["text"] for row in tables.get("phase", ())]
    patterns = [_SPECIAL.split(row["pattern"])[0] for row in tables.get("statement", ())]
    stated = [text.strip(" :=") for text in patterns]
    return sorted({text for text in [*phases, *stated] if len(text) >= _SHORTEST})
