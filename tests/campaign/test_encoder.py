"""Where token ids come from if the server's own /tokenize fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.fake_server import Answer, FakeServer, serving
from tests.prompts.tokenizers_for_tests import save

from leadline.campaign.serving import choose_encoder
from leadline.engines.engine import load_engine
from leadline.errors import LoadError
from leadline.launch import Endpoint
from leadline.load.server import Server, open_session
from leadline.prompts.tokenizer import Encode, LocalTokenizer
from leadline.spec import Deployment

BROKEN = {"/tokenize": Answer({"message": "Integer exceeds 64-bit range"}, 500)}


def choose(model: Path, target: str, routes: dict[str, Answer]) -> Encode:
    async def run() -> Encode:
        async with serving(FakeServer(routes=routes)) as fake, open_session() as session:
            deployment = Deployment.model_validate(
                {"engine": "sglang", "model": str(model), "target": target or fake.url}
            )
            server = Server(session, Endpoint(fake.url, "tiny"))
            return await choose_encoder(server, load_engine("sglang"), deployment)

    return asyncio.run(run())


def test_a_broken_tokenize_is_replaced_by_the_tokenizer_of_the_models_folder(
    tmp_path: Path,
) -> None:
    save("llama3", tmp_path)
    assert isinstance(choose(tmp_path, "process", BROKEN), LocalTokenizer)


def test_the_servers_own_tokenizer_is_preferred(tmp_path: Path) -> None:
    save("llama3", tmp_path)
    routes = {"/tokenize": Answer({"tokens": [1, 2]})}
    assert not isinstance(choose(tmp_path, "process", routes), LocalTokenizer)


def test_of_a_model_without_a_folder_or_a_server_of_others_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="tokenize"):
        choose(tmp_path / "absent", "process", BROKEN)
    save("llama3", tmp_path)
    with pytest.raises(LoadError, match="tokenize"):
        choose(tmp_path, "", BROKEN)
