from __future__ import annotations

import pytest

from leadline.deploy.endpoint import reach
from leadline.errors import SpecError
from leadline.spec import EndpointTarget


def target(**changes: str) -> EndpointTarget:
    return EndpointTarget(url="http://127.0.0.1:8000", **changes)  # type: ignore[arg-type]


def test_without_a_key_no_credentials_are_sent() -> None:
    endpoint = reach(target(), "tiny", {})
    assert (endpoint.url, endpoint.model) == ("http://127.0.0.1:8000", "tiny")
    assert endpoint.headers == {}


def test_the_key_comes_from_the_named_variable() -> None:
    environ = {"MY_KEY": "mine", "LEADLINE_API_KEY": "general"}
    endpoint = reach(target(api_key_env="MY_KEY"), "tiny", environ)
    assert endpoint.headers == {"Authorization": "Bearer mine"}


def test_the_general_variable_is_the_default() -> None:
    endpoint = reach(target(), "tiny", {"LEADLINE_API_KEY": "general"})
    assert endpoint.headers == {"Authorization": "Bearer general"}


def test_a_key_read_from_a_file_may_end_with_a_line_end() -> None:
    endpoint = reach(target(), "tiny", {"LEADLINE_API_KEY": "general\n"})
    assert endpoint.headers == {"Authorization": "Bearer general"}


def test_a_named_variable_that_is_not_set_is_refused() -> None:
    with pytest.raises(SpecError) as refusal:
        reach(target(api_key_env="MY_KEY"), "tiny", {"LEADLINE_API_KEY": "general"})
    assert str(refusal.value) == (
        "target.api_key_env: the environment has no MY_KEY\n  cure: export MY_KEY=… before running"
    )
