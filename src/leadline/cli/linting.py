"""``leadline lint``: is this command, script or manifest right for that engine version?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.options import json_option
from leadline.cli.terminal import echo_json
from leadline.errors import SpecError

if TYPE_CHECKING:
    from leadline.lint.finding import Finding


@click.command()
@click.argument("files", nargs=-1, metavar="FILE…")
@click.option("-c", "--command", "line", help="A command line instead of a file.")
@click.option(
    "--engine", "engines", multiple=True, help="vllm==0.12.0; several are all checked. [repeatable]"
)
@click.option("--model", help="The model, where a file does not say it: to be planned with.")
@click.option("--hardware", help="8xH200: adds what the plan says, timeouts among it.")
@click.option("--fix", is_flag=True, help="Rewrite what is safe; shows the difference.")
@click.option("--notes/--no-notes", default=True, show_default=True, help="Show notes too.")
@click.option("--sarif", is_flag=True, help="SARIF 2.1.0 on stdout, for code review.")
@json_option
def lint(files: tuple[str, ...], line: str | None, as_json: bool, **options: Any) -> int:
    """Check scripts, manifests and campaigns against what an engine's release takes.

    Shell scripts and command lines, Python (LLM(...), EngineArgs), docker run lines, compose
    files, Kubernetes manifests, campaigns; - is standard input. The version comes from --engine,
    the image's tag, or what the script installs. Exit code 1 where there is an error.
    """
    texts = dict(_read(name) for name in files)
    if line is not None:
        texts["command line"] = line
    if not texts:
        raise SpecError("nothing to check", where="leadline lint", cure="name a file, or give -c")
    found = _check(texts, options)
    if options["fix"]:
        _fix(texts, found)
        found = _check(dict(_read(name) for name in files if name != "-") or texts, options)
    shown = [each for each in found if options["notes"] or each.severity != "note"]
    if options["sarif"]:
        from leadline.lint.sarif import write_sarif

        echo_json(write_sarif(shown))
    elif as_json:
        echo_json({"schema": "leadline.lint/1", "findings": [_plain(each) for each in shown]})
    else:
        _show(shown, len(texts))
    return 1 if any(each.severity == "error" for each in found) else 0


def _read(name: str) -> tuple[str, str]:
    if name == "-":
        return "standard input", sys.stdin.read()
    try:
        return name, Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(str(reason), where=name, cure="give a text file that can be read") from None


def _check(texts: dict[str, str], options: dict[str, Any]) -> list[Finding]:
    from leadline.lint.check import lint_text

    return [
        finding
        for name, text in texts.items()
        for finding in lint_text(
            name,
            text,
            options["engines"],
            model=options["model"],
            hardware=options["hardware"],
        )
    ]


def _fix(texts: dict[str, str], found: list[Finding]) -> None:
    from leadline.lint.fixing import fix_text, show_difference
    from leadline.lint.reading import read_file

    for name, text in texts.items():
        after = fix_text(text, [each for each in found if each.file == name])
        if after == text:
            continue
        read_file(name, after)  # what cannot be read any more is not written
        if Path(name).is_file():
            Path(name).write_text(after, encoding="utf-8")
            texts[name] = after
        click.echo(show_difference(name, text, after), err=True)


def _plain(finding: Finding) -> dict[str, Any]:
    plain = asdict(finding) | {"fixable": finding.is_fixable}
    del plain["edits"]
    return plain


def _show(found: list[Finding], files: int) -> None:
    styles = {"error": "red", "warning": "yellow", "note": "cyan"}
    for each in found:
        head = click.style(f"{each.severity} {each.code}", fg=styles[each.severity], bold=True)
        click.echo(f"{each.file}:{each.line}: {head} {each.what}")
        click.echo(f"    cure: {each.cure}{' (--fix does it)' if each.is_fixable else ''}")
        click.echo(f"    why:  {each.why} [{each.source}]".replace("  [", " ["))
    counts = {level: sum(each.severity == level for each in found) for level in styles}
    summary = ", ".join(f"{count} {level}s" for level, count in counts.items())
    click.echo(f"{files} {'file' if files == 1 else 'files'}: {summary}", err=True)
