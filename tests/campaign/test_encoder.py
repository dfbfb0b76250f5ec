"""Where token ids come from if the server's own /tokenize fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.fake_server import Answer, FakeServer, serving
from tests.prompts.tokenizers_for_tests import save

from leadline.campaign.serving import SAMPLE, adopt_tokenizer, choose_encoder
from leadline.engines.engine import load_engine
from leadline.errors import EngineError, LoadError
from leadline.launch import Endpoint
from leadline.load.server import Server, open_session
from leadline.prompts.tokenizer import Encode, LocalTokenizer, load_tokenizer
from leadline.spec import Deployment

BROKEN = {"/tokenize": Answer({"message": "Integer exceeds 64-bit range"}, 500)}


def choose(
    model: Path, target: str, routes: dict[str, Answer], tokenizer: str | None = None
) -> Encode:
    async def run() -> Encode:
        async with serving(FakeServer(routes=routes)) as fake, open_session() as session:
            there = {"kind": "endpoint", "url": fake.url, "tokenizer": tokenizer}
            deployment = Deployment.model_validate(
                {"engine": "sglang", "model": str(model), "target": target or there}
            )
            server = Server(session, Endpoint(fake.url, "tiny"))
            return await choose_encoder(server, load_engine("sglang"), deployment)

    return asyncio.run(run())


def test_a_broken_tokenize_is_replaced_by_the_tokenizer_of_the_models_folder(
    tmp_path: Path,
) -> None:
    save("llama3", tmp_path)
    assert isinstance(choose(tmp_path, "process", BROKEN), LocalTokenizer)


def test_a_local_tokenizer_is_used_where_it_gives_the_servers_own_ids(tmp_path: Path) -> None:
    ids = save("llama3", tmp_path).encode(SAMPLE)
    same, other = ({"/tokenize": Answer({"tokens": found})} for found in (ids, [1, 2]))
    assert isinstance(choose(tmp_path, "process", same), LocalTokenizer)
    assert not isinstance(choose(tmp_path, "process", other), LocalTokenizer)


def test_a_tokenizer_that_was_given_and_is_not_the_servers_is_an_error(tmp_path: Path) -> None:
    save("llama3", tmp_path)
    with pytest.raises(EngineError, match="the server counts 2 tokens where the local tokenizer"):
        choose(tmp_path, "", {"/tokenize": Answer({"tokens": [1, 2]})}, tokenizer=str(tmp_path))


def test_of_a_model_without_a_folder_or_a_server_of_others_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="tokenize"):
        choose(tmp_path / "absent", "process", BROKEN)
    save("llama3", tmp_path)
    with pytest.raises(LoadError, match="tokenize"):
        choose(tmp_path, "", BROKEN)


def test_deployments_with_the_same_ids_share_one_tokenizer_and_so_their_prompts(
    tmp_path: Path,
) -> None:
    """A GGUF has no tokenizer.json; the folder that it is compared with has."""
    save("llama3", tmp_path)
    kin = [Deployment(engine="llamacpp", model=f"{tmp_path}/m.gguf"), local_model(tmp_path)]
    ids = load_tokenizer(str(tmp_path)).encode(SAMPLE)

    async def same(_: str) -> list[int]:
        return ids

    async def other(_: str) -> list[int]:
        return [1, 2]

    async def broken(_: str) -> list[int]:
        raise LoadError("HTTP 500", where="/tokenize", cure="none")

    adopted = asyncio.run(adopt_tokenizer(same, kin))
    assert isinstance(adopted, LocalTokenizer)
    assert adopted.file == tmp_path / "tokenizer.json"
    for encode in (other, broken):
        assert asyncio.run(adopt_tokenizer(encode, kin)) is encode
    assert asyncio.run(adopt_tokenizer(same, kin[:1])) is same


def local_model(folder: Path) -> Deployment:
    return Deployment.model_validate({"engine": "vllm", "model": str(folder), "target": "process"})
