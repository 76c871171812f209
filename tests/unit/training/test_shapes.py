"""Rows of every shape as conversations, and everything that is wrong with one."""

from __future__ import annotations

from typing import Any

import pytest

from server.prompts.conversation import Message
from training.data.shapes import Conversation, RowError, as_row, detect_shape, read_conversation

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}

ROWS: list[tuple[dict[str, Any], tuple[Message, ...]]] = [
    (
        {"instruction": "do", "input": "", "output": "done"},
        (Message("user", "do"), Message("assistant", "done")),
    ),
    (
        {
            "instruction": "do",
            "input": "this",
            "output": "done",
            "system": "be brief",
            "history": [["u", "a"]],
        },
        (
            Message("system", "be brief"),
            Message("user", "u"),
            Message("assistant", "a"),
            Message("user", "do", input="this"),
            Message("assistant", "done"),
        ),
    ),
    (
        {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]},
        (Message("user", "u"), Message("assistant", "a")),
    ),
    (
        {
            "system": "S",
            "conversations": [
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": "a"},
            ],
        },
        (Message("system", "S"), Message("user", "u"), Message("assistant", "a")),
    ),
    (
        {
            "messages": [
                {"role": "developer", "content": "S"},
                {"role": "user", "content": [{"type": "text", "text": "u"}]},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "content": "2", "tool_call_id": "1"},
                {"role": "assistant", "content": "a"},
            ]
        },
        (
            Message("system", "S"),
            Message("user", "u"),
            Message("assistant", "", extra={"tool_calls": [CALL]}),
            Message("tool", "2", extra={"tool_call_id": "1"}),
            Message("assistant", "a"),
        ),
    ),
    ({"text": "once upon a time"}, (Message("assistant", "once upon a time"),)),
]


@pytest.mark.parametrize(("row", "messages"), ROWS)
def test_shapes(row: dict[str, Any], messages: tuple[Message, ...]) -> None:
    shape = detect_shape(row)
    assert shape is not None
    conversation = read_conversation(row, shape)
    assert conversation.messages == messages
    # What is written for the evaluation reads back as the same.
    assert read_conversation(as_row(conversation), "messages") == conversation


def test_rows_may_call_their_fields_otherwise() -> None:
    row = {"question": "u", "answer": "a"}
    fields = {"instruction": "question", "output": "answer"}
    assert read_conversation(row, "alpaca", fields).messages == (
        Message("user", "u"),
        Message("assistant", "a"),
    )
    with pytest.raises(RowError) as caught:
        read_conversation({"question": "u"}, "alpaca", fields)
    assert caught.value.wrongs == (
        ("output", "is called 'answer' by the recipe, which the row lacks"),
    )


def test_tools_go_along() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    conversation = read_conversation({"messages": turns, "tools": [tool]}, "messages")
    assert conversation == Conversation((Message("user", "u"), Message("assistant", "a")), (tool,))


@pytest.mark.parametrize(
    ("row", "shape", "wrongs"),
    [
        ("text", "alpaca", {"row": "must be an object, not text"}),
        (
            {"instruction": 1, "history": [["u"]]},
            "alpaca",
            {
                "instruction": "must be text, not a number",
                "output": "is missing",
                "history.0": "must be a pair of texts: what was said, the answer",
            },
        ),
        (
            {"instruction": " ", "output": ""},
            "alpaca",
            {"instruction": "is empty", "output": "is empty"},
        ),
        (
            {"instruction": "do", "output": "a", "history": 3, "system": []},
            "alpaca",
            {
                "system": "must be text, not a list",
                "history": "must be a list of pairs, not a number",
            },
        ),
        (
            {"conversations": [{"from": "cat", "value": "u"}, {"from": "gpt"}, 3]},
            "sharegpt",
            {
                "conversations.0.from": "must be one of human, user, prompter, gpt, assistant, "
                "chatgpt, bing, bard, model, system, tool, observation, not 'cat'",
                "conversations.1.value": "must be text, not nothing",
                "conversations.2": "must be an object with 'from' and 'value', not a number",
            },
        ),
        (
            {"messages": {}},
            "messages",
            {"messages": "must be a list of messages, not an object"},
        ),
        (
            {"messages": [{"role": "user", "content": "u"}]},
            "messages",
            {"messages": "hold no answer of an assistant to train on"},
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "S"},
                    {"role": "assistant", "content": "a"},
                ]
            },
            "messages",
            {"messages": "hold nothing that a user says"},
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages",
            {
                "messages.0.content.0": "Content part of type 'image_url' is not supported: the "
                "models here take text only."
            },
        ),
        (
            {"instruction": "\ud83d", "output": "a"},
            "alpaca",
            {"messages.0": "holds half a character (a lone surrogate)"},
        ),
        ({"text": True}, "text", {"text": "must be text, not a truth value"}),
    ],
)
def test_everything_that_is_wrong(row: Any, shape: str, wrongs: dict[str, str]) -> None:
    with pytest.raises(RowError) as caught:
        read_conversation(row, shape)
    assert dict(caught.value.wrongs) == wrongs


def test_rows_of_no_known_shape() -> None:
    assert detect_shape({"prompt": "u"}) is None
    assert detect_shape(["u"]) is None
