"""A vocabulary counts as its model does; one that would not is none."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_otel._tokens.splits import SPLITS
from ollama_otel._tokens.vocabulary import encode, vocabulary_of
from ollama_otel._wire.installed_models import read_digest
from ollama_otel._wire.vocabularies import VocabularyTable, read_card

from .tables import card, show, table


def count(text: str, **changes: Any) -> int:
    vocabulary = vocabulary_of(table(**changes))
    assert vocabulary is not None
    return vocabulary.count(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("hello", 1),
        ("hello hello", 3),
        ("help", 3),
        ("hello wor", 3),
        ("<|im_start|>hello<|im_end|>", 3),
        ("<|im_start|><|x|>", 1),
        ("é", 2),
        ("\ud83d", 3),
    ],
)
def test_tokens_are_counted(text: str, tokens: int) -> None:
    assert count(text) == tokens


def test_bytes_without_a_token_are_ignored() -> None:
    normal = tuple(token for token in table().normal if token != "x")
    assert count("xhellox", normal=normal) == 1


def test_a_whole_word_is_a_token_only_where_the_split_says_so() -> None:
    normal = (*table().normal, "xyz")
    assert count("xyz", normal=normal) == 3
    assert count("xyz", normal=normal, split="llama-bpe") == 1


@pytest.mark.parametrize(
    ("changes", "frame"),
    [
        ({}, 0),
        ({"adds_bos": True}, 1),
        ({"split": "llama-bpe"}, 1),
        ({"split": "llama-bpe", "adds_bos": False}, 0),
        ({"adds_bos": True, "adds_eos": True}, 2),
    ],
)
def test_the_frame_of_a_prompt_is_known(changes: dict[str, Any], frame: int) -> None:
    vocabulary = vocabulary_of(table(**changes))
    assert vocabulary is not None
    assert vocabulary.frame == frame


@pytest.mark.parametrize(
    "changes",
    [
        {"split": None},
        {"split": "a-new-one"},
        {"is_byte_level": False},
        {"merges": ("▁ a",)},
        {"normal": ("▁",)},
    ],
)
def test_a_vocabulary_that_is_not_understood_is_none(changes: dict[str, Any]) -> None:
    assert vocabulary_of(table(**changes)) is None


@pytest.mark.parametrize("name", SPLITS)
def test_every_split_loses_no_letter(name: str) -> None:
    text = "Don't  stop 12345 \n\r\n HTTPServer's größe 漢字 // !\t "
    assert count(text, split=name, merges=(), normal=table().normal[:256]) == len(text.encode())


class PanicException(BaseException):
    """As tiktoken raises it."""


class _Encoding:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def encode_ordinary(self, text: str) -> list[int]:
        raise self.error


def test_a_text_that_cannot_be_split_is_no_panic() -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        encode(_Encoding(PanicException()), "text")


def test_an_interrupt_is_none() -> None:
    with pytest.raises(KeyboardInterrupt):
        encode(_Encoding(KeyboardInterrupt()), "text")


# --- what servers say ---------------------------------------------------------------------


def test_a_card_is_read() -> None:
    found = card()
    assert (found.num_ctx, found.num_keep, found.longest_context) == (64, 5, 2048)
    assert found.vocabulary == table(adds_bos=False)


@pytest.mark.parametrize(
    "info",
    [
        {"tokenizer.ggml.tokens": None},
        {"tokenizer.ggml.tokens": [1, 2]},
        {"tokenizer.ggml.tokens": ["a"]},
        {"tokenizer.ggml.token_type": "x"},
    ],
)
def test_a_card_without_a_table_has_no_vocabulary(info: dict[str, Any]) -> None:
    assert card(**info).vocabulary is None


def test_values_of_an_unexpected_type_are_unknown() -> None:
    found = card(**{"tokenizer.ggml.pre": 7, "llama.context_length": "x"})
    assert found.longest_context is None
    assert isinstance(found.vocabulary, VocabularyTable)
    assert found.vocabulary.split is None


@pytest.mark.parametrize("answer", [None, [], {}, {"model_info": 1}, {"error": "x"}])
def test_anything_else_is_no_card(answer: Any) -> None:
    assert read_card(answer) is None


def test_parameters_that_are_no_text_are_unknown() -> None:
    found = read_card({**show(), "parameters": 3})
    assert found is not None
    assert found.num_ctx is None


def test_the_digest_of_a_model_is_read() -> None:
    rows = [
        {"name": "a:latest", "digest": "1" * 64},
        {"name": "B:x", "digest": "sha256:" + "2" * 64},
    ]
    assert read_digest({"models": rows}, "a") == "1" * 64
    assert read_digest({"models": rows}, "b:x") == "2" * 64
    assert read_digest({"models": rows}, "c") is None
    assert read_digest({"models": [{"name": "c:latest", "digest": "../../etc"}, 7]}, "c") is None
    assert read_digest({"models": None}, "c") is None


@pytest.mark.parametrize("odd", [None, "x", 1.5, True, [1], {"a": 1}])
@pytest.mark.parametrize(
    "name", ["tokens", "token_type", "merges", "pre", "model", "add_bos_token"]
)
def test_no_value_of_a_table_is_a_fault(name: str, odd: Any) -> None:
    key = f"tokenizer.ggml.{name}"
    answer = show()
    known = answer["model_info"][key]
    for value in (odd, [odd] * len(known) if isinstance(known, list) else odd):
        found = read_card(show(**{key: value}))
        assert found is not None
        if found.vocabulary is not None:
            vocabulary = vocabulary_of(found.vocabulary)
            assert vocabulary is None or vocabulary.count("hello") > 0
