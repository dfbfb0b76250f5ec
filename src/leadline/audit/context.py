"""What can be known about a claim without the report: the plan of its deployment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from leadline.audit.claims import Claim, Claims
from leadline.engines.engine import Engine, load_engine
from leadline.errors import LeadlineError
from leadline.plan.architecture import Model, load_model
from leadline.plan.deployment import plan_deployment
from leadline.plan.hardware import Hardware, parse_hardware
from leadline.plan.schema import Audit, Plan
from leadline.units import parse_tokens


@dataclass(frozen=True)
class Context:
    """Facts about one claim; ``None`` where the report does not say enough."""

    claim: Claim
    claims: Claims

    @cached_property
    def model(self) -> Model | None:
        return load_model(self.claims.model) if self.claims.model else None

    @cached_property
    def hardware(self) -> Hardware | None:
        return parse_hardware(self.claims.hardware) if self.claims.hardware else None

    @cached_property
    def engine(self) -> Engine | None:
        return load_engine(self.claim.engine.partition("==")[0]) if self.claim.engine else None

    @cached_property
    def window(self) -> int | None:
        if self.engine is None or self.engine.window_setting is None:
            return None
        value = self.claim.settings.get(self.engine.window_setting)
        return parse_tokens(value) if isinstance(value, int | str) else None

    @cached_property
    def plan(self) -> Plan | None:
        """At the claimed length, with the claimed time as a cold prefill."""
        claim = self.claim
        if self.model is None or self.hardware is None or "==" not in (claim.engine or ""):
            return None
        try:
            return plan_deployment(
                self.model,
                self.hardware,
                str(claim.engine),
                settings=claim.settings,
                env=claim.env,
                input_tokens=claim.input_tokens,
                output_tokens=claim.output_tokens or 1,
                measured_prefill_s=claim.ttft_s or claim.response_s,
            )
        except LeadlineError:
            return None  # a version that the planner does not know: nothing to hold against

    @property
    def audit(self) -> Audit | None:
        return self.plan.time.audit if self.plan and self.plan.time else None
