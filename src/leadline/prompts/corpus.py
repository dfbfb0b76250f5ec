"""The haystack: real text, identified by its hash, never repeated."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from leadline.catalog.assets import asset_facts, asset_names, asset_path
from leadline.errors import SpecError

JOINT = "\n"
"""Stands between the files of a joined corpus."""


@dataclass(frozen=True)
class Corpus:
    name: str
    text: str
    source: str
    licence: str
    files: tuple[CorpusFile, ...] = ()
    """What was read, to be tokenised as a whole."""

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class CorpusFile:
    """A corpus that has been found but not yet read."""

    name: str
    path: Path
    source: str
    licence: str
    is_module: bool = False
    """The text is the longest literal of a Python module."""

    def hash(self) -> str:
        """Of the file's bytes: cheaper than of the text where that has to be taken out first."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def read(self) -> str:
        """The text. ``SpecError`` if there is none or it is not UTF-8."""
        text = _read_text(self.path)
        if not text.strip():
            raise SpecError("the corpus is empty", where=self.source, cure="give a file with text")
        return _longest_string(text) if self.is_module else text


def load_corpus(references: str | Sequence[str]) -> Corpus:
    """Catalog names (``kjv``) and UTF-8 text files, joined in order.

    Raises ``SpecError`` when there is no such file, it is not text, or the package is missing.
    """
    found = find_corpora(references)
    return Corpus(
        name=" + ".join(file.name for file in found),
        text=JOINT.join(file.read() for file in found),
        source=" + ".join(file.source for file in found),
        licence="; ".join(dict.fromkeys(file.licence for file in found)),
        files=tuple(found),
    )


def find_corpora(references: str | Sequence[str]) -> list[CorpusFile]:
    """The files behind the references, unread; none may come twice, since text never repeats."""
    names = (references,) if isinstance(references, str) else references
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SpecError(
            f"{', '.join(sorted(twice))} is given twice; text is never repeated",
            where="corpus",
            cure="give each text once, and another one if they are too short",
        )
    return [_find_corpus(name) for name in names]


def _find_corpus(reference: str) -> CorpusFile:
    if reference in asset_names("corpora"):
        facts = asset_facts("corpora", reference)
        path = asset_path("corpora", reference)
        return CorpusFile(reference, path, facts["source"], facts["licence"], is_module=True)
    path = Path(reference)
    return CorpusFile(path.name, path, reference, "the user's own")


def _longest_string(module: str) -> str:
    """The text that a Python module holds as its longest literal; the module is never run."""
    literals = (
        node.value for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Constant)
    )
    return max((text for text in literals if isinstance(text, str)), key=len)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(
            f"not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}",
            where=str(path),
            cure="convert it, for example: iconv -f latin1 -t utf-8 FILE",
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> SpecError:
    if isinstance(error, FileNotFoundError):
        known = ", ".join(asset_names("corpora"))
        return SpecError(
            "no such corpus file",
            where=str(path),
            cure=f"give the path of a text file, or a corpus of the catalog: {known}",
        )
    return SpecError(
        f"cannot be read: {error.strerror}", where=str(path), cure="check path and permissions"
    )
