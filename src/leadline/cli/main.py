"""The command, its verbs, and the one boundary where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys

import click

from leadline import __version__
from leadline.cli.auditing import audit
from leadline.cli.bench import bench
from leadline.cli.doctor import doctor
from leadline.cli.engines import engines
from leadline.cli.explaining import explain
from leadline.cli.linting import lint
from leadline.cli.models import models
from leadline.cli.planning import plan
from leadline.cli.prompting import prompt
from leadline.cli.qualify import prove, quickstart, report, run, runs
from leadline.cli.rendering import render
from leadline.cli.standing import down, logs, status, up
from leadline.errors import LeadlineError

WRONG_USE = 3
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> None:
    """Entry point: every outcome as an exit code (0, 1, 2, 3 or 130), no error as a traceback."""
    sys.exit(_exit_code(argv))


def _exit_code(argv: list[str] | None) -> int:
    try:
        result = cli.main(args=argv, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return WRONG_USE
    except click.ClickException as error:
        error.show()
        return WRONG_USE
    except LeadlineError as error:
        click.echo(f"leadline: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "\nleadline: interrupted; everything started was stopped, and what was measured is "
            "kept.\n  The same command resumes a campaign.",
            err=True,
        )
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader of our output went away (`leadline runs | head`): not our failure. Click and
        # Rich turn that into an exit of their own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="leadline %(version)s")
def cli() -> None:
    """Qualify LLM serving at long context: deploy it, prove it, measure it, explain it.

    Exit codes: 0 passed, 1 did not qualify, 2 engine or infrastructure trouble, 3 wrong use,
    130 interrupted.
    """


_VERBS = (
    quickstart,
    plan,
    lint,
    render,
    doctor,
    up,
    status,
    logs,
    down,
    prompt,
    run,
    prove,
    bench,
    audit,
    explain,
    report,
    runs,
    engines,
    models,
)

for _verb in _VERBS:
    cli.add_command(_verb)
