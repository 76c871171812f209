from __future__ import annotations

from typing import Any

import pytest

from server.errors import InvalidRequest
from server.prompts.conversation import Message, normalise, parse_messages, with_input


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str, **extra: Any) -> Message:
    return Message("assistant", text, extra=extra or None)


def system(text: str) -> Message:
    return Message("system", text)


def test_plain_messages() -> None:
    raw: list[dict[str, Any]] = [
        {"role": "developer", "content": "S"},
        {"role": "user", "content": "U", "name": "ann"},
        {"role": "assistant", "content": None},
        {"role": "tool", "content": "T", "tool_call_id": "c1"},
    ]
    assert parse_messages(raw) == (
        system("S"),
        Message("user", "U", name="ann"),
        assistant(""),
        Message("tool", "T", extra={"tool_call_id": "c1"}),
    )


def test_assistant_without_content_is_empty() -> None:
    assert parse_messages([{"role": "assistant"}]) == (assistant(""),)


def test_parts_are_joined_by_a_newline_and_kept() -> None:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "a"},
        {"type": "input_text", "text": "b"},
        {"type": "output_text", "text": "c"},
        {"type": "refusal", "refusal": "d"},
    ]
    (message,) = parse_messages([{"role": "user", "content": content}])
    assert message.text == "a\nb\nc\nd"
    assert message.parts == ("a", "b", "c", "d")


def test_a_single_part_is_a_plain_text() -> None:
    (message,) = parse_messages([{"role": "user", "content": [{"type": "text", "text": "a"}]}])
    assert message == user("a")


def test_extra_keeps_what_says_something() -> None:
    raw: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "annotations": [],
        "reasoning_content": "because",
    }
    assert parse_messages([raw]) == (assistant("x", reasoning_content="because"),)


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ('{"city": "Oslo"}', {"city": "Oslo"}),
        ("not json", "not json"),
        ("[1]", "[1]"),
        ({"city": "Oslo"}, {"city": "Oslo"}),
    ],
)
def test_tool_arguments_are_decoded_where_they_are_an_object(sent: Any, seen: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": sent}}
    (message,) = parse_messages([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert message.extra is not None
    assert message.extra["tool_calls"][0]["function"] == {"name": "weather", "arguments": seen}


def test_input_key_of_a_user_message() -> None:
    (message,) = parse_messages([{"role": "user", "content": "I", "input": "X"}])
    assert message == Message("user", "I", input="X")


@pytest.mark.parametrize(
    ("raw", "param", "words"),
    [
        ([], "messages", "at least one"),
        ("hi", "messages", "array"),
        (["hi"], "messages.0", "object"),
        ([{"content": "x"}], "messages.0.role", "Unknown role None"),
        ([{"role": "robot", "content": "x"}], "messages.0.role", "'robot'"),
        ([{"role": ["user"], "content": "x"}], "messages.0.role", "Unknown role"),
        ([{"role": "user"}], "messages.0.content", "needs 'content'"),
        ([{"role": "user", "content": []}], "messages.0.content", "needs 'content'"),
        ([{"role": "system", "content": None}], "messages.0.content", "'system'"),
        ([{"role": "tool"}], "messages.0.content", "'tool'"),
        ([{"role": "user", "content": 7}], "messages.0.content", "string or an array"),
        ([{"role": "user", "content": ["x"]}], "messages.0.content.0", "'type'"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages.0.content.0", "'type'"),
        (
            [{"role": "user", "content": [{"type": "text", "text": 1}]}],
            "messages.0.content.0.text",
            "string 'text'",
        ),
        ([{"role": "user", "content": "x", "name": 1}], "messages.0.name", "'name'"),
        ([{"role": "user", "content": "x", "input": 1}], "messages.0.input", "'input'"),
        (
            [{"role": "assistant", "tool_calls": "x"}],
            "messages.0.tool_calls",
            "array",
        ),
        (
            [{"role": "assistant", "tool_calls": ["x"]}],
            "messages.0.tool_calls.0",
            "object",
        ),
    ],
)
def test_malformed_messages(raw: Any, param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_messages(raw)
    assert caught.value.param == param
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_parts_that_are_no_text_are_named(kind: str) -> None:
    image = {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": kind}]}
    hello = {"role": "user", "content": "x"}
    with pytest.raises(InvalidRequest) as caught:
        parse_messages([hello, hello, image])
    assert caught.value.param == "messages.2.content.1"
    assert f"'{kind}'" in str(caught.value)


def test_repeated_turns_are_merged() -> None:
    messages = [system("S1"), system("S2"), user("U1"), user("U2"), assistant("A"), assistant("B")]
    assert normalise(messages) == (system("S1\n\nS2"), user("U1\n\nU2"), assistant("A\n\nB"))


def test_tool_results_and_calls_are_not_merged() -> None:
    messages = (
        assistant("", tool_calls=[{"id": "c1"}]),
        assistant("A"),
        Message("tool", "T1"),
        Message("tool", "T2"),
    )
    assert normalise(messages) == messages


def test_merging_keeps_inputs_names_and_parts() -> None:
    left = Message("user", "I1", input="X1", name="ann")
    right = Message("user", "I2", input="X2", name="ann")
    assert normalise([left, right]) == (Message("user", "I1\n\nI2", input="X1\n\nX2", name="ann"),)
    two = Message("user", "a\nb", parts=("a", "b"))
    assert normalise([user("q"), two]) == (Message("user", "q\n\na\nb", parts=("q\n\na", "b")),)
    assert normalise([Message("user", "a", name="ann"), Message("user", "b", name="bo")]) == (
        user("a\n\nb"),
    )


def test_system_in_mid_conversation() -> None:
    messages = (system("S1"), user("U1"), system("S2"), user("U2"))
    assert normalise(messages, system="anywhere") == messages
    assert normalise(messages, system="slot") == (system("S1\n\nS2"), user("U1\n\nU2"))


def test_without_a_tool_role_results_are_user_turns() -> None:
    messages = (
        user("U"),
        assistant("", tool_calls=[{"id": "c1"}]),
        Message("tool", "T1", name="weather"),
        Message("tool", "T2"),
    )
    assert normalise(messages, tools=False) == (user("U"), assistant(""), user("T1\n\nT2"))


def test_with_input() -> None:
    parts = Message("user", "a\nb\nc", parts=("a", "b", "c"))
    assert with_input(parts, input_block=True) == Message("user", "a", input="b\nc")
    assert with_input(parts, input_block=False) == parts
    block = Message("user", "a", input="b")
    assert with_input(block, input_block=True) == block
    assert with_input(block, input_block=False) == user("a\nb")
    spoken = Message("assistant", "a\nb", parts=("a", "b"))
    assert with_input(spoken, input_block=True) == spoken
