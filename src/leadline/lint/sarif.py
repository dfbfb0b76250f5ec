"""Findings as SARIF 2.1.0, which code review tools read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from leadline import __version__
from leadline.lint.check import list_rules
from leadline.lint.finding import Finding

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def write_sarif(findings: Iterable[Finding]) -> dict[str, Any]:
    rules = list_rules()
    index = {rule.code: at for at, rule in enumerate(rules)}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "leadline",
                        "version": __version__,
                        "rules": [
                            {
                                "id": rule.code,
                                "shortDescription": {"text": rule.title},
                                "fullDescription": {"text": rule.why or rule.title},
                                "defaultConfiguration": {"level": rule.severity},
                            }
                            for rule in rules
                        ],
                    }
                },
                "columnKind": "utf16CodeUnits",
                "results": [_result(each, index[each.code]) for each in findings],
            }
        ],
    }


def _result(finding: Finding, index: int) -> dict[str, Any]:
    text = f"{finding.what}. Cure: {finding.cure}. Source: {finding.source}"
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": finding.file.replace("\\", "/")},
                    "region": {"startLine": finding.line},
                }
            }
        ],
        "properties": {"versions": list(finding.versions)},
    }
