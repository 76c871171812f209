"""Golden rows: the exact ids that a model is trained on, and which of them count.

The vocabularies are those of ``support_tokenizers``: in LLaMA's kind ``<s>`` is 1, ``</s>`` is 2, a
byte b is 3 + b, and pieces stand from 259 on (259 is the space, 267 "Hi", 268 " H", 269 " Hi").
In ChatML's kind ``<|im_start|>`` is 1 and ``<|im_end|>`` is 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from server.prompts.catalog import get_format
from server.prompts.conversation import Message, parse_messages
from server.prompts.formatter import Formatter
from server.prompts.tokenizer import PromptTokenizer
from tests.unit.prompts.support_tokenizers import CHATML_SPECIALS, byte_level
from training.data.shapes import Conversation
from training.rendering import NO_LABEL, TokenRow, token_rows

TokenizerOf = Callable[[str], PromptTokenizer]
PIECES = byte_level(CHATML_SPECIALS)["model"]["vocab"]


def llama_ids(text: str) -> list[int]:
    """Ids of text that no merge of LLaMA's kind touches: bytes, and pieces of one character."""
    single = {" ": 259, "H": 260, "i": 261, "<": 262, "/": 263, "s": 264, ">": 265, ":": 266}
    return [single.get(each, 3 + ord(each)) for each in text]


def byte_ids(text: str) -> list[int]:
    """The same of ChatML's kind."""
    return [PIECES[each.replace(" ", "Ġ").replace("\n", "Ċ")] for each in text]


def rows(
    tokenizer: PromptTokenizer, name: str, *turns: tuple[str, str], answers: str = "all"
) -> list[TokenRow]:
    formatter = Formatter(get_format(name), tokenizer)
    messages = parse_messages([{"role": role, "content": text} for role, text in turns])
    return list(token_rows(formatter, Conversation(messages), answers))  # type: ignore[arg-type]


def row(*parts: tuple[Sequence[int], bool]) -> TokenRow:
    """Ids in parts, each trained or not."""
    ids = [number for part, _ in parts for number in part]
    labels = [number if trained else NO_LABEL for part, trained in parts for number in part]
    return TokenRow(ids, labels)


def test_alpaca(tokenizer_of: TokenizerOf) -> None:
    assert rows(
        tokenizer_of("llama-first"), "alpaca", ("system", ""), ("user", "u"), ("assistant", "a b")
    ) == [
        row(
            ([1, 259, *llama_ids("### Instruction:\nu\n\n### Response:")], False),
            ([3 + ord("a"), 259, 3 + ord("b"), 2], True),
        )
    ]


def test_alpaca_with_its_preamble_and_an_input(tokenizer_of: TokenizerOf) -> None:
    formatter = Formatter(get_format("alpaca"), tokenizer_of("llama-first"))
    messages = (Message("user", "u", input="x"), Message("assistant", "a"))
    asked = (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nu\n\n### Input:\nx\n\n### Response:"
    )
    assert list(token_rows(formatter, Conversation(messages))) == [
        row(([1, 259, *llama_ids(asked)], False), ([3 + ord("a"), 2], True))
    ]


def test_alpaca_of_several_turns_is_one_row(tokenizer_of: TokenizerOf) -> None:
    turns = [("system", ""), ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")]
    first = [1, 259, *llama_ids("### Instruction:\nu\n\n### Response:")]
    second = llama_ids("\n\n### Instruction:\nv\n\n### Response:")
    a, b = [3 + ord("a"), 2], [3 + ord("b"), 2]
    tokenizer = tokenizer_of("llama-first")
    assert rows(tokenizer, "alpaca", *turns) == [
        row((first, False), (a, True), (second, False), (b, True))
    ]
    assert rows(tokenizer, "alpaca", *turns, answers="last") == [
        row((first + a + second, False), (b, True))
    ]


def test_vicuna(tokenizer_of: TokenizerOf) -> None:
    turns = [("system", ""), ("user", "u"), ("assistant", "Hi"), ("user", "v"), ("assistant", "b")]
    assert rows(tokenizer_of("llama-first"), "vicuna-v1.1", *turns) == [
        row(
            ([1, 259, *llama_ids("USER: u ASSISTANT:")], False),
            ([269, 2], True),  # " Hi" is one piece, and its space the model's to write
            (llama_ids("USER: v ASSISTANT:"), False),
            ([259, 3 + ord("b"), 2], True),
        )
    ]


def test_llama_2(tokenizer_of: TokenizerOf) -> None:
    turns = [("system", "y"), ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")]
    end_of_system = [262, 270, *llama_ids("SYS>>")]  # "</" is a piece
    asked = [1, 259, *llama_ids("[INST] <<SYS>>\ny\n"), *end_of_system, *llama_ids("\n\nu [/INST]")]
    assert rows(tokenizer_of("llama-first"), "llama-2", *turns) == [
        row(
            (asked, False),
            ([259, 3 + ord("a"), 259, 2], True),
            ([1, 259, *llama_ids("[INST] v [/INST]")], False),
            ([259, 3 + ord("b"), 259, 2], True),
        )
    ]


def test_chatml(tokenizer_of: TokenizerOf) -> None:
    turns = [("user", "u"), ("assistant", "hello"), ("user", "v"), ("assistant", "b")]
    hello = [PIECES["hello"]]
    assert rows(tokenizer_of("chatml"), "chatml", *turns) == [
        row(
            ([1, *byte_ids("user\nu"), 2, *byte_ids("\n"), 1, *byte_ids("assistant\n")], False),
            ([*hello, 2], True),
            (byte_ids("\n"), False),  # written by the template; generation has stopped before
            ([1, *byte_ids("user\nv"), 2, *byte_ids("\n"), 1, *byte_ids("assistant\n")], False),
            ([*byte_ids("b"), 2], True),
        )
    ]


def test_typed_control_tokens_are_trained_as_text(tokenizer_of: TokenizerOf) -> None:
    (only,) = rows(tokenizer_of("chatml"), "chatml", ("user", "u"), ("assistant", "a<|im_end|>b"))
    assert only.labels[-len("a<|im_end|>b") - 1 :] == [*byte_ids("a<|im_end|>b"), 2]
    assert only.labels.count(2) == 1


@pytest.mark.parametrize("name", ["dialogue", "guanaco", "vicuna-v0", "baize"])
def test_formats_that_end_answers_by_a_string_learn_to_end_by_eos(
    name: str, tokenizer_of: TokenizerOf
) -> None:
    turns = [("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")]
    found = rows(tokenizer_of("llama-first"), name, *turns)
    space = [] if name == "baize" else [259]
    # The server shows an earlier answer without EOS, so each answer has a row of its own.
    assert [[n for n in each.labels if n != NO_LABEL] for each in found] == [
        [*space, 3 + ord("a"), 2],
        [*space, 3 + ord("b"), 2],
    ]


def test_dolly_ends_with_its_own_marker(tokenizer_of: TokenizerOf) -> None:
    (only,) = rows(tokenizer_of("dolly"), "dolly-v2", ("user", "u"), ("assistant", "a"))
    marker = tokenizer_of("dolly").control_tokens["### End"]
    assert only.labels[-1] == marker
    assert only.labels.count(marker) == 1


def test_plain_text_begins_and_ends_where_a_text_does(tokenizer_of: TokenizerOf) -> None:
    (only,) = rows(tokenizer_of("llama-first"), "raw", ("assistant", "a b"))
    assert only == row(([1], False), ([259, 3 + ord("a"), 259, 3 + ord("b"), 2], True))
