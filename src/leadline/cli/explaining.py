"""``leadline explain``: why did it fail, which setting, which direction, how far?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leadline.cli.options import find_run, json_option, read_pairs, runs_option
from leadline.cli.terminal import console, echo_json
from leadline.errors import LeadlineError, SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from leadline.diagnose.diagnosis import Diagnosis
    from leadline.diagnose.facts import LogFacts
    from leadline.diagnose.log import Log
    from leadline.diagnose.runs import RunDiagnosis
    from leadline.plan.schema import Plan
    from leadline.records import Finding

_PLANNED = {
    "vllm": (
        "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "max_model_len",
        "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "kv_cache_dtype",
    ),
    "sglang": (
        "tp_size", "pp_size", "context_length", "mem_fraction_static", "max_running_requests",
        "chunked_prefill_size", "kv_cache_dtype",
    ),
}  # fmt: skip


@click.command()
@click.argument("subject", metavar="FILE|-|RUN|docker:NAME|pod:NAME[@NAMESPACE]")
@click.option("--model", help="What was served: a plan then computes how far to turn a setting.")
@click.option("--hardware", help="Where, for example 8xH200.")
@click.option("--engine", help="Engine and version, where the log does not tell.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="An engine setting.")
@runs_option
@json_option
def explain(
    subject: str,
    model: str | None,
    hardware: str | None,
    engine: str | None,
    sets: tuple[str, ...],
    runs_root: Path,
    as_json: bool,
) -> int:
    """Explain a failure: its first cause, the lines that show it, and which way to turn what.

    Takes a server's log, a container or pod, or a run (path, id or `last`). Exit code 0 if nothing
    wrong was found, 1 if something was, known or not.
    """
    given = (model, hardware, engine, read_pairs("--set", sets))
    if subject.startswith(("docker:", "pod:")):
        found = _explain_place(subject, given)
    elif subject == "-":
        found = _explain_text(sys.stdin.buffer.read(), "stdin", given)
    elif Path(subject).is_file():
        found = _explain_text(Path(subject).read_bytes(), subject, given)
    else:
        return _explain_run(subject, runs_root, as_json=as_json)
    _show(found, as_json=as_json)
    return 0 if found.is_clean else 1


_Given = tuple[str | None, str | None, str | None, dict[str, str]]


def _explain_text(content: bytes, source: str, given: _Given) -> Diagnosis:
    from leadline.diagnose.diagnosis import diagnose
    from leadline.diagnose.log import read_log, split_lines

    if not content.strip():
        raise SpecError("nothing to explain: it is empty", where=source, cure="give a server's log")
    if b"\0" in content[:4096]:
        raise SpecError("not a text", where=source, cure="give a server's log, unpacked")
    log = read_log(split_lines(content.decode(errors="replace")))
    return diagnose(log, _facts(log, given), source)


def _explain_place(subject: str, given: _Given) -> Diagnosis:
    from leadline.deploy.inspection import inspect_container, inspect_pod
    from leadline.deploy.pods import SIGN
    from leadline.diagnose.diagnosis import diagnose, heed_state
    from leadline.diagnose.log import read_log, split_lines
    from leadline.diagnose.rule import Evidence

    kind, _, name = subject.partition(":")
    pod, _, namespace = name.partition("@")
    if not pod:
        raise SpecError("no name", where=subject, cure=f"{kind}:NAME")
    seen = inspect_container(name) if kind == "docker" else inspect_pod(pod, namespace)
    log = read_log(split_lines(seen.log))
    state = Evidence(
        exit_status=seen.exit_status,
        oom_killed=seen.oom_killed,
        memory_limit=seen.memory_limit,
        log=tuple(line for line in seen.log.splitlines() if line.startswith(SIGN)),
    )
    return heed_state(diagnose(log, _facts(log, given), seen.source), state)


def _facts(log: Log, given: _Given) -> LogFacts:
    from leadline.diagnose.facts import LogFacts

    model, hardware, engine, settings = given
    hint = (engine or "").partition("==")[0]
    facts = LogFacts(log, engine_hint=hint, extra=settings)
    if not hardware:
        return facts
    return LogFacts(log, _plan(facts, model, hardware, engine), hint, settings)


def _plan(facts: LogFacts, model: str | None, hardware: str, engine: str | None) -> Plan | None:
    """Of what the options say, and the log where they do not; without it no amount is planned."""
    from leadline.plan.deployment import plan_deployment

    model = model or facts.settings.get("model") or facts.settings.get("model_path")
    engine = engine or (f"{facts.engine}=={facts.version}" if facts.version else None)
    if not model or not engine:
        missing = "--model" if not model else "--engine"
        raise SpecError(
            f"a plan needs {missing}: the log does not tell it",
            where="--hardware",
            cure="give it, or leave --hardware out",
        )
    names = _PLANNED.get(engine.partition("==")[0], ())
    settings = {name: facts.settings[name] for name in names if name in facts.settings}
    try:
        return plan_deployment(model, hardware, engine, settings=settings)
    except LeadlineError as error:
        click.echo(f"  no plan: {error}", err=True)
        return None


def _explain_run(name: str, runs_root: Path, *, as_json: bool) -> int:
    from leadline.diagnose.runs import RUN_DIAGNOSIS_SCHEMA, diagnose_run
    from leadline.journal import Run

    found = diagnose_run(Run(_find_run(name, runs_root)))
    if as_json:
        echo_json({"schema": RUN_DIAGNOSIS_SCHEMA, **found.model_dump(mode="json")})
    else:
        _print_run(console(), found)
    return 0 if found.is_clean else 1


def _find_run(name: str, runs_root: Path) -> Path:
    try:
        return find_run(name, runs_root)
    except SpecError as error:
        raise SpecError(
            f"neither a file nor a run: {name!r}",
            where=f"{runs_root}/",
            cure="give a log file, - for stdin, docker:NAME, pod:NAME, or a run that "
            "`leadline runs` lists",
        ) from error


def _show(found: Diagnosis, *, as_json: bool) -> None:
    from leadline.diagnose.diagnosis import DIAGNOSIS_SCHEMA

    if as_json:
        echo_json({"schema": DIAGNOSIS_SCHEMA, **found.model_dump(mode="json")})
    else:
        _print_diagnosis(console(), found)


def _print_diagnosis(out: Console, found: Diagnosis) -> None:
    from rich.text import Text

    engine = " ".join(part for part in (found.engine, found.version) if part)
    ready = "was ready" if found.ready else "never said that it was ready"
    out.print(Text(f"{found.source}: {found.lines} lines", style="bold"), end="")
    out.print(Text(f"; {engine or 'engine not recognised'}; the server {ready}", style="dim"))
    if found.primary:
        _print_finding(out, found.primary, "bold red")
        _print_rest(out, "Follows from it, or came later:", found.consequences)
    else:
        out.print(Text("nothing wrong found", style="bold green"))
    for note in found.notes:
        _print_finding(out, note, "yellow")


def _print_finding(out: Console, finding: Finding, style: str) -> None:
    from rich.padding import Padding
    from rich.text import Text

    cause = f"  [{finding.cause}]" if finding.cause != "unknown" else ""
    out.print(Text.assemble((f"\n{finding.code} ", "dim"), (finding.title, style), (cause, "dim")))
    out.print(Padding(Text(finding.explanation), (0, 0, 0, 2)))
    numbers = [*finding.line_numbers, *([0] * len(finding.evidence))]
    for number, line in zip(numbers, finding.evidence, strict=False):
        place = f"{number:>6} " if number else ""
        out.print(Padding(Text(f"{place}| {line.strip()}", style="dim"), (0, 0, 0, 2)))
    out.print(Padding(Text(f"cure: {finding.remedy}", style="green"), (0, 0, 0, 2)))
    versions = f" ({finding.versions})" if finding.versions else ""
    out.print(Padding(Text(f"source: {finding.source}{versions}", style="dim"), (0, 0, 0, 2)))


def _print_rest(out: Console, heading: str, rest: tuple[Finding, ...]) -> None:
    from rich.text import Text

    if rest:
        out.print(Text(f"\n{heading}", style="dim"))
    for finding in rest:
        where = f" (line {finding.line_numbers[0]})" if finding.line_numbers else ""
        out.print(Text(f"  {finding.code} {finding.title}{where}", style="dim"))


def _print_run(out: Console, found: RunDiagnosis) -> None:
    from rich.text import Text

    out.print(Text(found.run, style="bold"))
    for deployment in found.deployments:
        out.print(Text(f"\ndeployment {deployment.key}", style="bold"))
        for finding in deployment.findings:
            _print_finding(out, finding, "bold red")
        for log in deployment.logs:
            _print_diagnosis(out, log)
    for cell in found.cells:
        good = cell.status == "pass"
        head = f"\ncell {cell.cell}: {cell.status}" + (f", {cell.reason}" if cell.reason else "")
        out.print(Text(head, style="green" if good else "bold"))
        if cell.finding:
            _print_finding(out, cell.finding, "bold red")
    for warning in found.warnings:
        out.print(Text(f"\nnote: {warning}", style="yellow"))
    if found.is_clean:
        out.print(Text("\nnothing wrong found", style="bold green"))
