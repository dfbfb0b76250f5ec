"""The documentation cannot drift from the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from ruamel.yaml import YAML

from leadline.spec import Campaign, parse_campaign

ROOT = Path(__file__).parents[1]


def _reference_maker() -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        "make_reference", ROOT / "docs" / "make_reference.py"
    )
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    ["commands.md", "campaign.md", "findings.md", "objections.md", "lint.md", "instrument.md"],
)
def test_reference_is_what_the_code_says(name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == _reference_maker().pages()[name], "run `make docs`"


def test_every_campaign_in_the_readme_is_one() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert examples
    for example in examples:
        assert isinstance(parse_campaign(example, source="README.md"), Campaign)


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_shipped_example_is_valid_yaml_with_comments() -> None:
    text = (ROOT / "src" / "leadline" / "examples" / "quickstart.yaml").read_text(encoding="utf-8")
    assert YAML().load(text)["name"] == "quickstart"
