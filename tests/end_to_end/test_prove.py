"""``leadline prove`` against a server that somebody else runs."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.conftest import Finish, Start


def test_a_sound_server_passes_and_is_recognised(
    start: Start, finish: Finish, server_url: str
) -> None:
    outcome = finish(
        start(
            *("prove", "--url", server_url, "--model", "smollm2"),
            *("--input-tokens", "300", "--output-tokens", "8"),
        )
    )
    assert outcome.code == 0, outcome.stderr
    (deployment,) = outcome.report["deployments"]
    assert deployment["engine"] == "llamacpp"
    assert deployment["window_tokens"] == 1024
    assert [(p["name"], p["outcome"]) for p in deployment["limits"]] == [
        ("edge", "pass"),
        ("over_limit", "pass"),
    ]
    assert "sent 1,016, server counted 1,016" in deployment["limits"][0]["observed"]


def test_an_answer_from_the_cache_is_inconclusive(
    start: Start, finish: Finish, server_url: str
) -> None:
    """Taken for a plain OpenAI server, it is not asked to leave its cache alone."""
    arguments = (
        *("prove", "--url", server_url, "--model", "smollm2", "--engine", "openai"),
        *("--input-tokens", "300", "--output-tokens", "8", "--seed", "7", "--no-limit-probes"),
    )
    first, second = (finish(start(*arguments)) for _ in range(2))
    assert first.report["cells"][0]["status"] == "pass"
    assert second.code == 1
    cell = second.report["cells"][0]
    assert (cell["status"], cell["cause"]) == ("inconclusive", "warm-cache")
    assert first.report["cells"][0]["trials"][0]["sent"] == cell["trials"][0]["sent"]


def test_a_model_that_is_not_served_is_refused_without_a_trace(
    start: Start, server_url: str, tmp_path: Path
) -> None:
    process = start("prove", "--url", server_url, "--model", "llama-9")
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 3
    assert stdout == ""
    assert "does not serve 'llama-9'" in stderr
    assert "use one of: smollm2" in stderr
    assert not (tmp_path / "runs").exists()


def test_a_refused_key_says_which_variable_to_set(start: Start, keyed_server_url: str) -> None:
    process = start(
        "prove", "--url", keyed_server_url, "--model", "smollm2", "--input-tokens", "64"
    )
    _, stderr = process.communicate(timeout=30)
    # llama.cpp lists its models to anyone, so the refusal comes with the next question.
    assert process.returncode == 3, stderr
    assert "refuses the API key" in stderr
    assert "LEADLINE_API_KEY" in stderr


def test_the_key_works_from_the_environment_and_is_written_nowhere(
    start: Start, finish: Finish, keyed_server_url: str, tmp_path: Path
) -> None:
    key = "sesame-12345"
    outcome = finish(
        start(
            *("prove", "--url", keyed_server_url, "--model", "smollm2"),
            *("--input-tokens", "128", "--output-tokens", "8", "--no-limit-probes"),
            LEADLINE_API_KEY=key,
        )
    )
    assert outcome.code == 0, outcome.stderr
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(key.encode() in content for content in written)


def test_an_unreachable_server_is_infrastructure(start: Start) -> None:
    process = start("prove", "--url", "http://127.0.0.1:9", "--model", "m")
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "no answer from the server" in stderr
    assert "Traceback" not in stderr
