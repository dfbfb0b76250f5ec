"""The objections that can be raised without running anything; each shows its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from leadline.audit.capacity import (
    capacity_times_concurrency,
    capacity_times_devices,
    concurrency_below_one,
    units_mixed,
    weights_of_active_parameters,
)
from leadline.audit.claims import Claims
from leadline.audit.context import Context
from leadline.audit.lengths import (
    beyond_the_window,
    client_counted,
    corpus_too_short,
    failures_left_out,
    lengths_not_as_asked,
    status_is_no_proof,
)
from leadline.audit.objection import Found, Objection
from leadline.audit.reports import (
    packages_never_released_together,
    rate_that_grows_with_length,
    unlike_compared,
)
from leadline.audit.times import (
    cached_and_called_cold,
    faster_than_light,
    generation_rate_of_a_log_window,
    prefill_and_decode_in_one,
    prompt_rate_of_a_log_window,
    tail_of_means,
    too_few_trials,
)


def raise_objections(claims: Claims) -> list[Objection]:
    """All objections, claim by claim, then those against the report as a whole."""
    found = [
        objection
        for claim in claims.claims
        for rule in CLAIM_RULES
        for objection in rule(Context(claim, claims))
    ]
    return found + [objection for rule in REPORT_RULES for objection in rule(claims)]


def titles() -> dict[str, str]:
    """Code to what the rule says, from the rules themselves."""
    lines = [(rule.__doc__ or "").splitlines()[0] for rule in (*CLAIM_RULES, *REPORT_RULES)]
    return {code: title for code, _, title in (line.partition(" ") for line in lines)}


CLAIM_RULES: Sequence[Callable[[Context], Found]] = (
    prompt_rate_of_a_log_window,
    generation_rate_of_a_log_window,
    faster_than_light,
    cached_and_called_cold,
    beyond_the_window,
    concurrency_below_one,
    capacity_times_concurrency,
    capacity_times_devices,
    weights_of_active_parameters,
    units_mixed,
    too_few_trials,
    prefill_and_decode_in_one,
    corpus_too_short,
    status_is_no_proof,
    client_counted,
    failures_left_out,
    lengths_not_as_asked,
    tail_of_means,
)
REPORT_RULES: Sequence[Callable[[Claims], Found]] = (
    packages_never_released_together,
    rate_that_grows_with_length,
    unlike_compared,
)
