"""The haystack: real text, identified by its hash, never repeated."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path

from leadline.catalog.assets import asset_facts, asset_names, asset_path
from leadline.errors import SpecError


@dataclass(frozen=True)
class Corpus:
    name: str
    text: str
    source: str
    licence: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def load_corpus(reference: str) -> Corpus:
    """A corpus by catalog name (``kjv``) or from a UTF-8 text file.

    Raises ``SpecError`` when there is no such file, it is not text, or the package is missing.
    """
    if reference in asset_names("corpora"):
        return _packaged_corpus(reference)
    path = Path(reference)
    text = _read_text(path)
    if not text.strip():
        raise SpecError("the corpus is empty", where=reference, cure="give a file with text")
    return Corpus(name=path.name, text=text, source=str(path), licence="the user's own")


def _packaged_corpus(name: str) -> Corpus:
    facts = asset_facts("corpora", name)
    module = asset_path("corpora", name).read_text(encoding="utf-8")
    return Corpus(
        name=name, text=_longest_string(module), source=facts["source"], licence=facts["licence"]
    )


def _longest_string(module: str) -> str:
    """The text that a Python module holds as its longest literal; the module is never run."""
    literals = (
        node.value for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Constant)
    )
    return max((text for text in literals if isinstance(text, str)), key=len)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(asset_names("corpora"))
        raise SpecError(
            "no such corpus file",
            where=str(path),
            cure=f"give the path of a text file, or a corpus of the catalog: {known}",
        ) from None
    except UnicodeDecodeError as error:
        raise SpecError(
            f"not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}",
            where=str(path),
            cure="convert it, for example: iconv -f latin1 -t utf-8 FILE",
        ) from error
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", where=str(path), cure="check path and permissions"
        ) from error
