"""Progress on stderr: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from leadline.units import show_seconds, show_tokens

# (low, expected, high) seconds to the first token.
Prediction = tuple[float, float, float] | None


class Lines:
    """One line per thing that happens; for logs, pipes and ``--json``."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._trials = 0
        self._done = 0

    def run_started(self, name: str, path: str, trials: int | None, resumed: bool) -> None:
        self._trials = trials or 0
        verb = "resuming" if resumed else "running"
        what = "a search" if trials is None else f"{trials} trials"
        self.say(f"[bold]{verb} {name}[/bold]: {what}, journal in {path}")

    def note(self, text: str) -> None:
        self.console.print(f"→ {text}", markup=False, highlight=False)

    def phase(self, deployment: str, text: str) -> None:
        self.say(f"{deployment}: {text}")

    def trial_started(
        self, cell: str, trial: int, of: int, tokens: int, prediction: Prediction
    ) -> None:
        self.say(f"{cell} trial {trial}/{of}: {_sending(tokens, prediction)}")

    def chunk(self, count: int) -> None: ...

    def load_progress(self, ended: int, of: int) -> None: ...

    def trial_ended(self, cell: str, trial: int, summary: str, remaining_s: float | None) -> None:
        self._done += 1
        left = f"; about {show_seconds(remaining_s)} left" if remaining_s else ""
        self.say(f"{cell} trial {trial}: {summary}{left}")

    def problem(self, title: str, detail: str) -> None:
        self.console.print(f"✗ {title}", style="bold red", markup=False, highlight=False)
        self.console.print(detail, markup=False, highlight=False)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def close(self) -> None: ...


class Live(Lines):
    """The same lines, with a bar for the campaign and a clock for the running trial."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=20),
            _Clock(table_column=Column(no_wrap=True)),
            console=console,
            refresh_per_second=4,
            transient=True,
        )
        self._all = self._progress.add_task("campaign", total=None)
        self._current = self._progress.add_task("starting", total=None)
        self._progress.start()

    def run_started(self, name: str, path: str, trials: int | None, resumed: bool) -> None:
        super().run_started(name, path, trials, resumed)
        self._progress.update(self._all, total=None if trials is None else max(1, trials))

    def phase(self, deployment: str, text: str) -> None:
        self._restart(f"{deployment}: {text}", total=None)

    def trial_started(
        self,
        cell: str,  # noqa: ARG002  (the watcher's contract)
        trial: int,
        of: int,
        tokens: int,
        prediction: Prediction,
    ) -> None:
        total = prediction[1] if prediction else None
        self._restart(f"reading {show_tokens(tokens)} tokens, trial {trial}/{of}", total=total)

    def chunk(self, count: int) -> None:
        if count == 1:
            self._progress.update(self._current, description="answering")

    def load_progress(self, ended: int, of: int) -> None:
        self._progress.update(self._current, description=f"{ended} of {of} requests ended")

    def trial_ended(self, cell: str, trial: int, summary: str, remaining_s: float | None) -> None:
        super().trial_ended(cell, trial, summary, None)
        left = f"about {show_seconds(remaining_s)} left" if remaining_s else "campaign"
        self._progress.update(self._all, advance=1, description=left)

    def close(self) -> None:
        self._progress.stop()

    def _restart(self, description: str, total: float | None) -> None:
        self._progress.reset(self._current, description=description, total=total)


class _Clock(ProgressColumn):
    """Trials done for the campaign, elapsed against expected time for the running step."""

    def render(self, task: Task) -> Text:
        if task.id == 0:
            of = "" if task.total is None else f"/{task.total:.0f}"
            return Text(f"{task.completed:.0f}{of} trials")
        elapsed = task.elapsed or 0.0
        if task.total:
            task.completed = min(elapsed, task.total)
            return Text(f"{show_seconds(elapsed)} of about {show_seconds(task.total)}")
        return Text(show_seconds(elapsed))


def watch_on(console: Console, *, plain: bool) -> Lines:
    """The display that fits: live on a terminal, lines otherwise."""
    return Lines(console) if plain or not console.is_terminal else Live(console)


def _sending(tokens: int, prediction: Prediction) -> str:
    if prediction is None:
        return f"{show_tokens(tokens)} tokens"
    low, expected, high = prediction
    return (
        f"{show_tokens(tokens)} tokens, first token predicted after {show_seconds(expected)} "
        f"({show_seconds(low)} to {show_seconds(high)})"
    )
