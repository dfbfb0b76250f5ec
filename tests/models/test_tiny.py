"""Small models are read back by our own planner and by the library of the format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tests.prompts.tokenizers_for_tests import save
from tokenizers import Tokenizer

from leadline.errors import SpecError
from leadline.models.readable import draw_model, find_words
from leadline.models.shapes import EMBEDDING, HEAD, SHAPES, Size, Tensor, _ends
from leadline.models.tiny import make_tiny
from leadline.models.weights import draw, save_weights, to_bf16
from leadline.plan.architecture import load_model
from leadline.plan.weights import count_parameters

SIZES = {
    "window": 10 * 2**20,
    "layers": 4,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "hidden": 64,
    "intermediate": 96,
    "local_window": 1024,
}


def data_bytes(file: Path) -> int:
    with file.open("rb") as weights:
        head = int.from_bytes(weights.read(8), "little")
    return file.stat().st_size - 8 - head


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return str(save("digits", tmp_path / "tokenizer").file.parent)


def make(tmp_path: Path, tokenizer: str, shape: str = "gqa", **changes: int) -> Path:
    return make_tiny(tmp_path / f"{shape}{len(changes)}", shape, SIZES | changes, tokenizer, seed=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_planner_counts_the_parameters_that_the_file_holds(
    tmp_path: Path, tokenizer: str, shape: str
) -> None:
    folder = make(tmp_path, tokenizer, shape)
    model = load_model(folder)
    assert data_bytes(folder / "model.safetensors") == 2 * count_parameters(model)
    assert model.max_position == SIZES["window"]


def test_the_planner_counts_experts_too(tmp_path: Path, tokenizer: str) -> None:
    folder = make(tmp_path, tokenizer, "llama4", experts=3)
    expected = 2 * count_parameters(load_model(folder))
    assert data_bytes(folder / "model.safetensors") == expected


def test_three_layers_of_four_look_at_their_chunk(tmp_path: Path, tokenizer: str) -> None:
    model = load_model(make(tmp_path, tokenizer, "llama4"))
    kinds = [layer.attention.reach for layer in model.layers]
    assert kinds[0] == kinds[1] == kinds[2] != kinds[3]


def test_the_file_is_safetensors_with_the_drawn_numbers(tmp_path: Path, tokenizer: str) -> None:
    folder = make(tmp_path, tokenizer)
    name = "model.layers.1.self_attn.k_proj.weight"
    with safe_open(folder / "model.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}
        assert len(list(file.keys())) == 3 + 4 * 9
        found = file.get_slice(name)
        assert (found.get_dtype(), found.get_shape()) == ("BF16", [64, 64])
    head = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(head[:8], "little")
    start, end = json.loads(head[8 : 8 + size])[name]["data_offsets"]
    stored = np.frombuffer(head[8 + size + start : 8 + size + end], np.uint16)
    drawn = to_bf16(draw(Tensor(name, (64, 64)), 1))
    assert np.array_equal(stored, drawn.ravel())


def test_equal_options_give_equal_bytes_and_another_seed_others(
    tmp_path: Path, tokenizer: str
) -> None:
    made = {
        name: make_tiny(tmp_path / name, "gqa", SIZES, tokenizer, seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    first, same, other = (
        {file.name: file.read_bytes() for file in folder.iterdir()} for folder in made.values()
    )
    assert first == same
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


def test_a_layer_more_leaves_the_others_as_they_are() -> None:
    shared = Tensor("model.layers.0.mlp.up_proj.weight", (8, 8))
    assert np.array_equal(draw(shared, 3), draw(shared, 3))
    other = shared._replace(name="model.layers.1.mlp.up_proj.weight")
    assert not np.array_equal(draw(shared, 3), draw(other, 3))


def test_its_greedy_answer_is_one_word_after_another() -> None:
    """By the embedding and the output rows alone: what the layers add is small beside them."""
    size = Size(window=8, vocabulary=900)
    words = list(range(300, 900, 2))
    drawn = {tensor.name: values for tensor, values in draw_model(_ends(size), 1, words)}
    logits = drawn[EMBEDDING] @ drawn[HEAD].T
    assert logits[words].argmax(1).tolist() == [*words[1:], words[0]]
    assert set(logits[:300].argmax(1).tolist()) <= set(words)


def test_words_are_found_in_a_vocabulary() -> None:
    vocabulary = {"Ġthe": 9, "▁old": 3, "Ġ": 4, "Ġ12": 5, "old": 6, "Ġé": 7}
    assert find_words(vocabulary) == [3, 9]


def test_one_token_is_one_byte(tmp_path: Path) -> None:
    folder = make(tmp_path, "bytes")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "In the beginning \n12 é€"
    ids = tokenizer.encode(text).ids
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text
    config = json.loads((folder / "config.json").read_bytes())
    assert config["vocab_size"] == tokenizer.get_vocab_size() == 320
    assert tokenizer.decode([257, 258]) == " the quick"


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (-2.0, 0xC000),
        (1.00390625, 0x3F80),  # halfway to the next: to the even one below
        (1.01171875, 0x3F82),  # halfway: to the even one above
        (1.0040, 0x3F81),
        (0.0, 0),
    ],
)
def test_bf16_is_rounded_to_nearest_even(value: float, bits: int) -> None:
    assert to_bf16(np.array([value], np.float32))[0] == bits


def test_the_head_is_aligned(tmp_path: Path) -> None:
    save_weights({"x": np.zeros((3, 1), np.uint16)}, tmp_path / "x")
    assert (tmp_path / "x").stat().st_size % 8 == 6


@pytest.mark.parametrize(
    ("shape", "changes", "where"),
    [
        ("gqa", {"heads": 4, "kv_heads": 3}, "--kv-heads"),
        ("gqa", {"head_dim": 31}, "--head-dim"),
        ("swa", {"experts": 2}, "--experts"),
    ],
)
def test_sizes_that_no_engine_loads_are_refused_and_nothing_is_left(
    tmp_path: Path, tokenizer: str, shape: str, changes: dict[str, int], where: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        make(tmp_path, tokenizer, shape, **changes)
    assert refusal.value.where == where
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path, tokenizer: str) -> None:
    make(tmp_path, tokenizer)
    with pytest.raises(SpecError, match="it is there already"):
        make(tmp_path, tokenizer)


def test_a_tokenizer_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no tokenizer\.json there"):
        make(tmp_path, str(tmp_path))


def test_a_copied_tokenizer_gets_the_window_and_keeps_its_special_ids(
    tmp_path: Path, tokenizer: str
) -> None:
    (Path(tokenizer) / "config.json").write_text('{"bos_token_id": 7, "eos_token_id": [8, 9]}')
    (Path(tokenizer) / "tokenizer_config.json").write_text('{"bos_token": "<x>"}')
    folder = make(tmp_path, tokenizer)
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    assert config == {"bos_token": "<x>", "model_max_length": SIZES["window"]}
    model = json.loads((folder / "config.json").read_bytes())
    assert (model["bos_token_id"], model["eos_token_id"]) == (7, [8, 9])
    assert model["vocab_size"] == 1500
