"""A run explained: what its journal found, what its servers say, what its figures are worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from leadline.catalog.reading import read_table
from leadline.diagnose.diagnosis import Diagnosis, diagnose
from leadline.diagnose.facts import LogFacts
from leadline.diagnose.log import read_log, split_lines
from leadline.journal import Run, folder_name
from leadline.records import Finding
from leadline.verdict.run import judge_run
from leadline.verdict.schema import CellVerdict, RunVerdict

RUN_DIAGNOSIS_SCHEMA = "leadline.run_diagnosis/1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class CellDiagnosis(_Part):
    cell: str
    deployment: str
    status: str
    reason: str
    finding: Finding | None = None
    """``None``: it passed, or its reason says all there is."""


class DeploymentDiagnosis(_Part):
    key: str
    findings: tuple[Finding, ...] = ()
    """Of its starts, as journaled then."""
    logs: tuple[Diagnosis, ...] = ()
    """One for each start."""


class RunDiagnosis(_Part):
    run: str
    finished: bool
    deployments: tuple[DeploymentDiagnosis, ...]
    cells: tuple[CellDiagnosis, ...]
    warnings: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        troubled = any(item.findings for item in self.deployments)
        return not troubled and all(cell.status == "pass" for cell in self.cells)


def diagnose_run(run: Run) -> RunDiagnosis:
    verdict = judge_run(run)
    return RunDiagnosis(
        run=str(run.path),
        finished=verdict.finished,
        deployments=tuple(
            _diagnose_deployment(item.key, run, verdict) for item in verdict.deployments
        ),
        cells=tuple(_diagnose_cell(cell, verdict) for cell in verdict.cells),
        warnings=verdict.warnings,
    )


def measurement_rules() -> tuple[dict[str, Any], ...]:
    """What an inconclusive or wrong cell means, by the cause of its verdict."""
    return tuple(read_table("failures/measurement")["verdict"])


def _diagnose_deployment(key: str, run: Run, verdict: RunVerdict) -> DeploymentDiagnosis:
    own = tuple(item for item in verdict.findings if item.deployment == key and not item.cell)
    return DeploymentDiagnosis(key=key, findings=own, logs=tuple(_read_logs(key, run)))


def _read_logs(key: str, run: Run) -> Iterator[Diagnosis]:
    folder = run.path / "logs" / folder_name(key)
    for path in sorted(folder.glob("*/server.log"), key=lambda path: path.parent.name.zfill(6)):
        log = read_log(split_lines(path.read_text(encoding="utf-8", errors="replace")))
        yield diagnose(log, LogFacts(log), str(path.relative_to(run.path)))


def _diagnose_cell(cell: CellVerdict, verdict: RunVerdict) -> CellDiagnosis:
    found = [item for item in verdict.findings if item.cell == cell.cell]
    measured = None if cell.status == "pass" else _measurement(cell)
    return CellDiagnosis(
        cell=cell.cell,
        deployment=cell.deployment,
        status=cell.status,
        reason=cell.reason,
        finding=measured or (found[-1] if found and cell.status != "pass" else None),
    )


def _measurement(cell: CellVerdict) -> Finding | None:
    for rule in measurement_rules():
        if cell.cause in rule["causes"]:
            return Finding(
                code=rule["code"],
                title=rule["title"],
                cause=cell.cause,
                explanation=rule["explanation"],
                evidence=(cell.reason,),
                remedy=rule["remedy"],
                source=rule["source"],
                deployment=cell.deployment,
                cell=cell.cell,
            )
    return None
