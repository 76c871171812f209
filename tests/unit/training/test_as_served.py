"""What is trained is what is served: every format of the catalog, over many conversations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from server.prompts.catalog import FORMATS, get_format
from server.prompts.conversation import Message
from server.prompts.formatter import Formatter
from server.prompts.history import History
from server.prompts.tokenizer import PromptTokenizer
from training.data.shapes import Conversation
from training.rendering import NO_LABEL, TokenRow, token_rows

GOLDEN = Path(__file__).parents[2] / "golden"
TEXTS = ("Hi", " spaced  ", "two\nlines\n", "</s><|im_end|>[INST] ### End", "émile 你好", "\n", ":")


def conversations() -> list[tuple[Message, ...]]:
    asked = [Message("user", text) for text in TEXTS]
    told = [Message("assistant", text) for text in TEXTS if text.strip()]
    single = [(ask, tell) for ask, tell in itertools.product(asked, told)]
    long = [(asked[i], told[i - 1], asked[i - 2], told[i - 3]) for i in range(len(told))]
    system = [(Message("system", "S"), *turns) for turns in long]
    return [*single, *long, *system, (Message("user", "do", input="this"), told[0])]


def kinds(name: str) -> list[str]:
    own = yaml.safe_load((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8"))["tokenizer"]
    return sorted({own, "llama", "llama-first", "chatml"} if name != "auto" else {own})


CASES = [(name, kind) for name in FORMATS for kind in kinds(name)]


def spans(row: TokenRow) -> list[tuple[int, int]]:
    """Where the trained parts of a row begin and end; one part is one answer."""
    stops = [i for i, label in enumerate(row.labels) if label != NO_LABEL]
    found: list[tuple[int, int]] = []
    for position in stops:
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return found


def check(formatter: Formatter, turns: Sequence[Message]) -> None:
    rows = list(token_rows(formatter, Conversation(tuple(turns))))
    served = [
        formatter.render(turns[:number]).token_ids
        for number, message in enumerate(turns)
        if message.role == "assistant"
    ]
    answers = [(row, *span) for row in rows for span in spans(row)]
    assert len(answers) == len(served)
    for prompt, (row, begin, end) in zip(served, answers, strict=True):
        assert row.input_ids[:begin] == prompt
        assert row.input_ids[begin:end] == row.labels[begin:end]
        stops = [n in formatter.stop_token_ids for n in row.input_ids[begin:end]]
        assert stops == [False] * (end - begin - 1) + [True]
    assert all(row.trained for row in rows)
    assert all(len(row.labels) == len(row.input_ids) for row in rows)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_prompt_is_the_servers_id_by_id(
    name: str, kind: str, tokenizer_of: Callable[[str], PromptTokenizer]
) -> None:
    formatter = Formatter(get_format(name), tokenizer_of(kind))
    for turns in conversations():
        check(formatter, turns)


@pytest.mark.parametrize("history", ["fold", "none"])
@pytest.mark.parametrize("name", ["alpaca", "chinese-alpaca", "chatml", "llama-2"])
def test_whatever_becomes_of_earlier_turns(
    name: str, history: History, tokenizer_of: Callable[[str], PromptTokenizer]
) -> None:
    formatter = Formatter(get_format(name), tokenizer_of("llama"), history=history)
    for turns in conversations():
        check(formatter, turns)


@pytest.mark.parametrize("name", ["alpaca", "chatml", "llama-2"])
def test_tools_are_shown_as_the_server_shows_them(
    name: str, tokenizer_of: Callable[[str], PromptTokenizer]
) -> None:
    formatter = Formatter(get_format(name), tokenizer_of("llama"))
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    call = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
    turns = (Message("user", "u"), Message("assistant", "", extra={"tool_calls": [call]}))
    (row,) = token_rows(formatter, Conversation(turns, (tool,)))
    ((begin, _),) = spans(row)
    assert row.input_ids[:begin] == formatter.render(turns[:1], tools=[tool]).token_ids
    assert '"name": "add"' in formatter.tokenizer.decode(row.input_ids[begin:])
