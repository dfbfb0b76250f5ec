"""Whatever stands in a file, the answer is findings or a message: never a traceback."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.lint.test_reading import CAMPAIGN, COMPOSE, KUBERNETES, PYTHON, SCRIPT
from tests.lint.test_rules import CASES

from leadline.errors import LeadlineError
from leadline.lint.check import lint_text
from leadline.lint.fixing import fix_text

DATA = Path(__file__).parent / "data"
ODD = (None, 0, -1, "", "x", "1m", [], {}, [None], {"a": None}, True, 1.5, "--x", "$X", [{}], "é")
MANIFESTS = (COMPOSE, KUBERNETES, CAMPAIGN, (DATA / "scout_vllm.yaml").read_text())
MANIFESTS += tuple(text for name, _, text, _ in CASES.values() if name.endswith(".yaml"))


def lint(name: str, text: str) -> None:
    with contextlib.suppress(LeadlineError):
        fix_text(text, lint_text(name, text))


def change(node: Any, dice: random.Random) -> Any:
    """One value somewhere below becomes something odd, or goes."""
    if not isinstance(node, dict | list) or not node or dice.random() < 0.04:
        return dice.choice(ODD)
    key = dice.choice(list(node) if isinstance(node, dict) else range(len(node)))
    if dice.random() < 0.1:
        del node[key]
    else:
        node[key] = change(node[key], dice)
    return node


@pytest.mark.parametrize("seed", range(150))
def test_manifests_with_odd_values(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)  # noqa: S311
    yaml = YAML(typ="safe")
    documents = list(yaml.load_all(dice.choice(MANIFESTS)))
    for _ in range(3):
        documents = [change(each, dice) for each in documents]
    yaml.dump_all(documents, tmp_path / "a.yaml")
    lint("a.yaml", (tmp_path / "a.yaml").read_text())


@pytest.mark.parametrize("seed", range(100))
def test_scripts_and_programs_with_pieces_missing(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    texts = [(n, t) for n, _, t, _ in CASES.values() if not n.endswith(".yaml")]
    texts += [("a.sh", SCRIPT), ("a.py", PYTHON)]
    texts += [(p.name, p.read_text()) for p in sorted(DATA.glob("*")) if p.suffix != ".yaml"]
    name, text = dice.choice(texts)
    start = dice.randrange(len(text))
    lint(name, text[:start] + dice.choice(["", "'", "\\", " \n", "é", "$("]) + text[start + 3 :])


def test_a_file_that_contains_itself() -> None:
    lint("a.yaml", "kind: &a\n  x: *a\nspec: &b [*b, {template: {spec: *b}}]\n")


@pytest.mark.parametrize("text", ["", "\0", "-", "\ufeff", "- - -", "\n\n"])
@pytest.mark.parametrize("name", ["a.sh", "a.py", "a.yaml"])
def test_empty_and_broken_texts(name: str, text: str) -> None:
    lint(name, text)
