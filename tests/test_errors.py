from __future__ import annotations

import pytest

from leadline.errors import (
    AccessError,
    DeployError,
    EngineError,
    JournalError,
    LeadlineError,
    LoadError,
    PlanError,
    SpecError,
)


def test_the_message_says_where_what_and_the_cure() -> None:
    error = SpecError("no such file", where="a.yaml:3", cure="check the path")
    assert str(error) == "a.yaml:3: no such file\n  cure: check the path"


def test_place_and_cure_may_be_absent() -> None:
    assert str(LeadlineError("it broke")) == "it broke"
    assert str(LeadlineError("it broke", where="here")) == "here: it broke"
    assert str(LeadlineError("it broke", cure="mend it")) == "it broke\n  cure: mend it"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (SpecError, 3),
        (PlanError, 3),
        (AccessError, 3),
        (DeployError, 2),
        (EngineError, 2),
        (LoadError, 2),
        (JournalError, 2),
    ],
)
def test_each_error_has_the_exit_code_of_its_side(kind: type[LeadlineError], code: int) -> None:
    assert kind("x").exit_code == code
