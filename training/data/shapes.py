"""A row of one of the known shapes becomes a conversation, or the list of what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from server.errors import InvalidRequest
from server.prompts.conversation import Message, parse_messages

Wrong = tuple[str, str]
"""A field, and what is wrong with it."""

# ShareGPT's names of who speaks.
_SPEAKERS: Final[Mapping[str, str]] = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}
_TURNS_KEYS: Final = ("from", "value"), ("role", "content"), ("role", "value")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a model is trained on.

    Args:
        messages: At least one; an assistant's alone is plain text to be continued.
        tools: Functions the model may call in it, in OpenAI's form.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether it is text without a question."""
        return len(self.messages) == 1


class RowError(Exception):
    """A row cannot be trained on.

    Args:
        wrongs: Everything that is wrong with it.
    """

    def __init__(self, wrongs: Sequence[Wrong]) -> None:
        super().__init__("; ".join(f"{field}: {reason}" for field, reason in wrongs))
        self.wrongs = tuple(wrongs)


def detect_shape(row: Any) -> str | None:
    """The shape that a row's fields speak for, or None."""
    if not isinstance(row, Mapping):
        return None
    for field, shape in (
        ("messages", "messages"),
        ("conversations", "sharegpt"),
        ("conversation", "sharegpt"),
        ("instruction", "alpaca"),
        ("text", "text"),
    ):
        if field in row:
            return shape
    return None


def read_conversation(
    row: Any, shape: str, fields: Mapping[str, str] | None = None
) -> Conversation:
    """Read one row.

    Args:
        row: A decoded JSON object.
        shape: ``alpaca``, ``sharegpt``, ``messages`` or ``text``.
        fields: The shape's field → what the row calls it.

    Raises:
        RowError: It cannot be trained on; says everything that is wrong.
    """
    if not isinstance(row, Mapping):
        raise RowError([("row", f"must be an object, not {_kind(row)}")])
    names = fields or {}
    known = {field: row[name] for field, name in names.items() if name in row}
    missing = [
        (field, f"is called '{name}' by the recipe, which the row lacks")
        for field, name in names.items()
        if name not in row
    ]
    if missing:
        raise RowError(missing)
    wrongs: list[Wrong] = []
    raw, tools = _SHAPES[shape]({**row, **known}, wrongs)
    if wrongs:
        raise RowError(wrongs)
    try:
        messages = parse_messages(raw)
    except InvalidRequest as error:
        raise RowError([(error.param or "messages", str(error))]) from None
    found = [*_wrongs(messages)]
    if found:
        raise RowError(found)
    return Conversation(messages, tools)


def as_row(conversation: Conversation) -> dict[str, Any]:
    """The conversation in the shape ``messages``, which reads back as the same."""
    rows: list[dict[str, Any]] = []
    for message in conversation.messages:
        parts = [{"type": "text", "text": part} for part in message.parts]
        row: dict[str, Any] = {"role": message.role, "content": parts or message.text}
        if message.input is not None:
            row["input"] = message.input
        if message.name is not None:
            row["name"] = message.name
        rows.append(row | dict(message.extra or {}))
    tools = {"tools": list(conversation.tools)} if conversation.tools else {}
    return {"messages": rows, **tools}


def as_openai_row(conversation: Conversation) -> dict[str, Any]:
    """The same for programs that know OpenAI's messages alone: an Alpaca input is a second part.

    It renders as the conversation does, in every format.
    """
    row = as_row(conversation)
    for message in row["messages"]:
        if (text := message.pop("input", None)) is not None:
            parts = (message["content"], text)
            message["content"] = [{"type": "text", "text": part} for part in parts]
    return row


def _wrongs(messages: Sequence[Message]) -> Iterator[Wrong]:
    answers = [m for m in messages if m.role == "assistant"]
    if not any(m.text.strip() or m.extra for m in answers):
        yield "messages", "hold no answer of an assistant to train on"
    elif len(messages) > 1 and not any(m.role == "user" for m in messages):
        yield "messages", "hold nothing that a user says"
    for number, message in enumerate(messages):
        try:
            (message.text + (message.input or "")).encode()
        except UnicodeEncodeError:
            yield f"messages.{number}", "holds half a character (a lone surrogate)"


_Raw = tuple[list[dict[str, Any]], tuple[Mapping[str, Any], ...]]


def _alpaca(row: Mapping[str, Any], wrongs: list[Wrong]) -> _Raw:
    texts = {name: _text_of(row, name, wrongs) for name in ("instruction", "output")}
    for name in ("input", "system"):
        texts[name] = _text_of(row, name, wrongs, optional=True)
    if not texts["instruction"].strip() and not texts["input"].strip():
        _add(wrongs, "instruction", "is empty")
    if not texts["output"].strip():
        _add(wrongs, "output", "is empty")
    messages = [{"role": "system", "content": texts["system"]}] if texts["system"] else []
    history = row.get("history")
    if history is not None and not isinstance(history, Sequence):
        _add(wrongs, "history", f"must be a list of pairs, not {_kind(history)}")
        history = None
    for number, pair in enumerate(history or ()):
        if not (_is_list(pair) and len(pair) == 2 and all(isinstance(t, str) for t in pair)):
            _add(wrongs, f"history.{number}", "must be a pair of texts: what was said, the answer")
            continue
        messages += [{"role": "user", "content": pair[0]}]
        messages += [{"role": "assistant", "content": pair[1]}]
    user = {"role": "user", "content": texts["instruction"], "input": texts["input"] or None}
    return [*messages, user, {"role": "assistant", "content": texts["output"]}], ()


def _sharegpt(row: Mapping[str, Any], wrongs: list[Wrong]) -> _Raw:
    field = "conversations" if "conversations" in row else "conversation"
    turns = row.get(field)
    messages = []
    if system := _text_of(row, "system", wrongs, optional=True):
        messages.append({"role": "system", "content": system})
    if not _is_list(turns) or not turns:
        _add(wrongs, field, f"must be a list of turns, not {_kind(turns)}")
        return [], ()
    for number, turn in enumerate(turns):
        where = f"{field}.{number}"
        if not isinstance(turn, Mapping):
            _add(wrongs, where, f"must be an object with 'from' and 'value', not {_kind(turn)}")
            continue
        speaker_key, text_key = next(
            (keys for keys in _TURNS_KEYS if all(key in turn for key in keys)), _TURNS_KEYS[0]
        )
        speaker, text = turn.get(speaker_key), turn.get(text_key)
        if not isinstance(speaker, str) or speaker.lower() not in _SPEAKERS:
            known = ", ".join(_SPEAKERS)
            _add(wrongs, f"{where}.{speaker_key}", f"must be one of {known}, not {speaker!r}")
        elif not isinstance(text, str):
            _add(wrongs, f"{where}.{text_key}", f"must be text, not {_kind(text)}")
        else:
            messages.append({"role": _SPEAKERS[speaker.lower()], "content": text})
    return messages, ()


def _messages(row: Mapping[str, Any], wrongs: list[Wrong]) -> _Raw:
    messages = row.get("messages")
    if not _is_list(messages) or not messages:
        _add(wrongs, "messages", f"must be a list of messages, not {_kind(messages)}")
        return [], ()
    tools = row.get("tools") or ()
    if not _is_list(tools) or not all(isinstance(tool, Mapping) for tool in tools):
        _add(wrongs, "tools", "must be a list of functions in OpenAI's form")
        return [], ()
    return list(messages), tuple(tools)


def _plain(row: Mapping[str, Any], wrongs: list[Wrong]) -> _Raw:
    text = _text_of(row, "text", wrongs)
    if not text.strip():
        _add(wrongs, "text", "is empty")
    return [{"role": "assistant", "content": text}], ()


def _text_of(
    row: Mapping[str, Any], field: str, wrongs: list[Wrong], *, optional: bool = False
) -> str:
    value = row.get(field)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        _add(wrongs, field, "is missing" if value is None else f"must be text, not {_kind(value)}")
        return ""
    return value


def _add(wrongs: list[Wrong], field: str, reason: str) -> None:
    if field not in {each for each, _ in wrongs}:
        wrongs.append((field, reason))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a truth value"
    kinds: Sequence[tuple[Any, str]] = (
        (str, "text"),
        (int | float, "a number"),
        (Mapping, "an object"),
    )
    return next((words for kind, words in kinds if isinstance(value, kind)), "a list")


_SHAPES: Final[Mapping[str, Callable[[Mapping[str, Any], list[Wrong]], _Raw]]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "text": _plain,
}
