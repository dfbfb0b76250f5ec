from __future__ import annotations

import json
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prompts.corpora_for_tests import prepared
from tests.prompts.tokenizers_for_tests import save
from tokenizers import processors

from leadline.errors import EngineError, SpecError
from leadline.prompts.chat import (
    ChatTemplate,
    added_to_text,
    draw_chats,
    draw_shared_chats,
    load_chat_template,
    verify_against,
)
from leadline.prompts.shared import SharedPrefix, expect_hits, plan_hits
from leadline.prompts.tokenizer import LocalTokenizer

CASES = json.loads((Path(__file__).parent / "data" / "chat_templates.json").read_text("utf-8"))
PLAIN = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TRIMMING = PLAIN.replace("message['content'] }}", "message['content'] | trim }}")
DAY = datetime(2026, 3, 4)  # noqa: DTZ001


def make(source: str, bos: str = "<|end|>") -> ChatTemplate:
    return ChatTemplate(source, {"bos_token": bos}, "test", now=lambda: DAY)


@pytest.mark.parametrize("case", CASES["renderings"], ids=lambda case: str(case["name"]))
def test_renderings_are_those_that_transformers_made(case: dict[str, Any]) -> None:
    template = ChatTemplate(
        CASES["templates"][case["template"]], CASES["special_tokens"], "test", now=lambda: DAY
    )
    found = template.render(case["messages"], **case["variables"])
    assert found == case["rendered"]


def test_the_date_is_that_of_today_unless_said() -> None:
    template = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}", {}, "test")
    before = datetime.now().strftime("%Y-%m-%d")  # noqa: DTZ005
    after = template.render([]), datetime.now().strftime("%Y-%m-%d")  # noqa: DTZ005
    assert after[0] in (before, after[1])


@pytest.mark.parametrize("source", [PLAIN, TRIMMING])
@settings(max_examples=25)
@given(tokens=st.integers(150, 3000), seed=st.text("ab"), needles=st.integers(0, 2))
def test_a_chat_has_exactly_the_tokens_asked_for_with_template_and_bos(
    source: str, tokens: int, seed: str, needles: int
) -> None:
    corpus, tokenizer = prepared("llama3")
    template = make(source)
    (drawn,) = draw_chats(corpus, tokenizer.encode, template, [tokens], seed, needles)
    chat = drawn.as_chat(tokenizer.encode)
    assert chat is not None
    rendered = template.render([{"role": "user", "content": chat.content}])
    assert rendered == chat.prompt.text
    ids = tokenizer.huggingface.encode(rendered, add_special_tokens=False).ids
    assert ids == np.asarray(chat.prompt.ids).tolist()
    assert len(ids) == len(drawn) == tokens
    for needle in chat.prompt.needles:
        after = tokenizer.huggingface.decode(ids[needle.depth_tokens :])
        assert after.partition(" is: ")[2].startswith(f"{needle.answer}.\n")


def test_several_chats_do_not_overlap() -> None:
    corpus, tokenizer = prepared("llama3")
    drawn = draw_chats(corpus, tokenizer.encode, make(PLAIN), [500, 800, 300], "s")
    assert [len(item) for item in drawn] == [500, 800, 300]
    starts = [item.slice.as_ids().corpus_start for item in drawn]
    assert len(set(starts)) == 3


@pytest.mark.parametrize(
    "shared", [SharedPrefix(tokens=300), SharedPrefix(share=Fraction(1, 2), groups=2)]
)
def test_chats_share_what_is_asked_for_with_what_the_template_puts_before(
    shared: SharedPrefix,
) -> None:
    corpus, tokenizer = prepared("llama3")
    lengths = [600, 900, 700, 800]
    template = make(PLAIN)
    drawn = draw_shared_chats(corpus, tokenizer.encode, template, lengths, shared, "s")
    chats = [item.as_chat(tokenizer.encode) for item in drawn]
    prompts = []
    for chat in chats:
        assert chat is not None
        rendered = template.render([{"role": "user", "content": chat.content}])
        ids = tokenizer.huggingface.encode(rendered, add_special_tokens=False).ids
        assert ids == np.asarray(chat.prompt.ids).tolist()
        prompts.append(ids)
    assert [len(ids) for ids in prompts] == lengths
    found, planned = expect_hits(prompts, 1), plan_hits(lengths, shared, 1)
    slack = 12 if shared.share else 0  # of a share, the prefix ends at the cut before
    for actual, expected in zip(found.cached_tokens, planned.cached_tokens, strict=True):
        # All begin with what the template puts before, and by chance one token more is the same.
        assert expected - slack <= actual <= max(expected, 20) + 2


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "once and unchanged"),
        ("hello", "once and unchanged"),
        ("{{ raise_exception('no users here') }}", "no users here"),
        ("{{ messages[7]['content'] }}", "refuses the messages"),
        ("{{ messages.append(1) }}", "refuses the messages"),
        ("{{ ''.__class__.__mro__ }}{{ [].__class__() }}", "refuses the messages"),
    ],
)
def test_a_template_that_cannot_be_used_says_why(source: str, what: str) -> None:
    corpus, tokenizer = prepared("llama3")
    with pytest.raises(SpecError, match=what):
        draw_chats(corpus, tokenizer.encode, make(source), [500], "s")


def test_a_template_that_alters_the_message_is_found_out() -> None:
    corpus, tokenizer = prepared("llama3")
    source = "{{ messages[0]['content'].replace(' the ', ' THE ') }}"
    (drawn,) = draw_chats(corpus, tokenizer.encode, make(source), [2000], "s")
    with pytest.raises(SpecError, match="once and unchanged"):
        drawn.as_chat(tokenizer.encode)


def test_a_broken_template_is_one_message() -> None:
    with pytest.raises(SpecError, match="not a chat template"):
        make("{% if %}")


def write(folder: Path, **files: Any) -> str:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        file = folder / name.replace("__", ".")
        file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return str(folder)


def test_templates_are_found_where_models_keep_them(tmp_path: Path) -> None:
    config = {"chat_template": "config {{ bos_token }}", "bos_token": {"content": "<s>"}}
    folder = write(tmp_path / "a", tokenizer_config__json=config, tokenizer__json="{}")
    assert load_chat_template(folder).render([]) == "config <s>"
    assert load_chat_template(f"{folder}/tokenizer.json").render([]) == "config <s>"
    write(tmp_path / "a", chat_template__jinja="file {{ bos_token }}")
    assert load_chat_template(folder).render([]) == "file <s>"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    folder = write(tmp_path / "b", tokenizer_config__json={"chat_template": named})
    assert load_chat_template(folder).render([]) == "d"
    folder = write(
        tmp_path / "c",
        chat_template__json={"chat_template": "old {{ eos_token }}"},
        special_tokens_map__json={"eos_token": "</s>"},
    )
    assert load_chat_template(folder).render([]) == "old </s>"


def test_a_folder_without_a_template_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no chat template there") as refusal:
        load_chat_template(str(tmp_path))
    assert "base model" in refusal.value.cure
    write(tmp_path, tokenizer_config__json="{")
    with pytest.raises(SpecError, match="cannot be read"):
        load_chat_template(str(tmp_path))


def test_what_the_server_adds_to_text_is_what_the_post_processor_adds(tmp_path: Path) -> None:
    tokenizer = save("llama3", tmp_path)
    assert added_to_text(tokenizer) == ([], [])
    end = tokenizer.huggingface.token_to_id("<|end|>")
    bos = processors.TemplateProcessing(
        single="<|end|> $A", pair="<|end|> $A $B", special_tokens=[("<|end|>", end)]
    )
    tokenizer = LocalTokenizer(str(tmp_path))
    tokenizer.huggingface.post_processor = bos  # type: ignore[assignment]
    assert added_to_text(tokenizer) == ([end], [])


@pytest.mark.parametrize(("bos", "eos"), [(True, False), (True, True), (False, False)])
def test_the_config_has_the_last_word_on_bos(bos: bool, eos: bool, tmp_path: Path) -> None:
    tokenizer = save("llama3", tmp_path)
    tokens = {"bos_token": "<|end|>", "eos_token": "<|end|>"}
    write(tmp_path, tokenizer_config__json=tokens | {"add_bos_token": bos, "add_eos_token": eos})
    end = tokenizer.encode("<|end|>")
    assert added_to_text(LocalTokenizer(str(tmp_path))) == (end * bos, end * eos)


def test_the_servers_own_tokens_are_compared() -> None:
    verify_against([1, 2, 3], [1, 2, 3])
    verify_against(np.array([1, 2, 3], np.uint32), 3)
    with pytest.raises(EngineError, match="counts 4 tokens where"):
        verify_against([1, 2, 3], 4)
    with pytest.raises(EngineError, match="first difference is at token 1"):
        verify_against([1, 2, 3], [1, 5, 3])
    with pytest.raises(EngineError, match="count 3, the first difference is at token 3"):
        verify_against([1, 2, 3], [1, 2, 3, 4])
