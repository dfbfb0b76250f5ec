"""Safe changes of a file's text: nothing but the named pieces is touched."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from leadline.lint.finding import Edit, Finding


def fix_text(text: str, findings: Iterable[Finding]) -> str:
    """The text with every edit that does not overlap an earlier one; taken-out words go whole."""
    content = text.encode()
    taken = len(content)
    edits = {edit for finding in findings for edit in finding.edits}
    for edit in sorted(edits, key=lambda each: (each.span[1], each.span[0]), reverse=True):
        start, end = _find(content, edit)
        if start < 0 or end > taken:
            continue
        if not edit.text:
            start, end = _widen(content, start, end)
        content = content[:start] + edit.text.encode() + content[end:]
        taken = start
    return content.decode()


def show_difference(name: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"a/{name.lstrip('/')}",
        f"b/{name.lstrip('/')}",
    )
    return "".join(lines)


def _find(content: bytes, edit: Edit) -> tuple[int, int]:
    start, end = edit.span
    if not edit.part:
        return start, end
    at = content.find(edit.part.encode(), start, end)
    return at, at + len(edit.part.encode())


def _widen(content: bytes, start: int, end: int) -> tuple[int, int]:
    """With the comma after a keyword, or a whole line that would stay empty."""
    after = _skip_blanks(content, end)
    own_comma = content[after : after + 1] == b","
    after = _skip_blanks(content, after + own_comma)
    line = content.rfind(b"\n", 0, start) + 1
    if content[after : after + 1] == b"\\" and content[after + 1 : after + 2] == b"\n":
        return (line, after + 2) if not content[line:start].strip() else (start, after)
    if content[after : after + 1] == b"\n" and not content[line:start].strip():
        return _drop_line(content, line, after + 1)
    if content[after : after + 1] == b")" or content[after : after + 1] == b"\n":
        blank = b" \t" if own_comma else b" \t,"  # one comma goes with one keyword
        while start > line and content[start - 1 : start] in blank:
            start -= 1
    return start, after


def _skip_blanks(content: bytes, at: int) -> int:
    while content[at : at + 1] in (b" ", b"\t"):
        at += 1
    return at


def _drop_line(content: bytes, line: int, after: int) -> tuple[int, int]:
    """The last line of a continued command takes the backslash before it along."""
    if content[line - 2 : line] == b"\\\n":
        start = line - 2
        while content[start - 1 : start] in (b" ", b"\t"):
            start -= 1
        return start, after - 1
    return line, after
