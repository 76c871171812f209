"""OpenAI message dicts become ``Message`` values, and messages become alternating turns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from server.errors import InvalidRequest

Role = Literal["system", "user", "assistant", "tool"]
SystemPlace = Literal["anywhere", "slot"]

_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Type of a content part -> the key that holds its text.
_TEXT_PARTS: Final[Mapping[str, str]] = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
}
_OWN_KEYS: Final = frozenset({"role", "content", "name"})
_MERGE: Final = "\n\n"
_JOIN: Final = "\n"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: Who speaks; ``developer`` has become ``system``.
        text: What is said; the parts of a content array joined by a newline, as vLLM does for
            templates that take strings.
        input: An Alpaca ``### Input:`` block that belongs to ``text``, or None.
        name: The speaker's name, or None.
        extra: Whatever else a template may read: ``tool_calls``, ``tool_call_id``,
            ``reasoning_content`` and so on; None when there is nothing.
        parts: The texts of a content array that had two or more parts, else empty. A format with
            an Input block takes the first as the instruction and the others as its input.
    """

    role: Role
    text: str
    input: str | None = None
    name: str | None = None
    extra: Mapping[str, Any] | None = None
    parts: tuple[str, ...] = ()


def parse_messages(raw: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Read the ``messages`` of an OpenAI chat request.

    Args:
        raw: Decoded JSON objects, at least one.

    Returns:
        One ``Message`` for each object, in order, nothing merged yet.

    Raises:
        InvalidRequest: A message is malformed; ``param`` is its path (``messages.2.content.1``).
    """
    if not isinstance(raw, (list, tuple)):
        raise InvalidRequest("'messages' must be an array of messages.", param="messages")
    if not raw:
        raise InvalidRequest("'messages' must hold at least one message.", param="messages")
    return tuple(_parse_message(message, f"messages.{i}") for i, message in enumerate(raw))


def normalise(
    messages: Iterable[Message], *, system: SystemPlace = "anywhere", tools: bool = True
) -> tuple[Message, ...]:
    """Bring a conversation into the shape that a format can show.

    Repeated turns of one role are merged with an empty line between them, except tool results
    and assistant messages that carry more than text.

    Args:
        messages: The conversation.
        system: ``anywhere`` leaves a system message in mid-conversation where it is; ``slot``
            appends it to the one system text at the start, for formats that have no other place.
        tools: False for formats without a tool role: a tool's result becomes a user turn, so
            that the model sees it at all, and tool calls are dropped.
    """
    turns = list(messages)
    if not tools:
        turns = [_without_tools(message) for message in turns]
    if system == "slot":
        first = [message for message in turns if message.role == "system"]
        turns = first + [message for message in turns if message.role != "system"]
    return merge_turns(turns)


def merge_turns(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Merge neighbours of one role; see ``normalise``."""
    turns: list[Message] = []
    for message in messages:
        if turns and _mergeable(turns[-1], message):
            turns[-1] = _merged(turns[-1], message)
        else:
            turns.append(message)
    return tuple(turns)


def with_input(message: Message, *, input_block: bool) -> Message:
    """Settle where a message's second part goes.

    Args:
        message: Any message.
        input_block: True splits a user's content array into instruction (first part) and
            ``input`` (the others); False folds an ``input`` into the text after a newline.
    """
    if message.role != "user":
        return message
    if input_block:
        if message.input is None and len(message.parts) > 1:
            first, *others = message.parts
            return replace(message, text=first, input=_JOIN.join(others), parts=())
        return message
    if message.input:
        joined = _JOIN.join((message.text, message.input))
        return replace(message, text=joined, input=None, parts=())
    return message


def _mergeable(left: Message, right: Message) -> bool:
    if left.role != right.role or left.role == "tool":
        return False
    return left.role != "assistant" or not (left.extra or right.extra)


def _merged(left: Message, right: Message) -> Message:
    inputs = [text for text in (left.input, right.input) if text is not None]
    parts: tuple[str, ...] = ()
    if left.parts or right.parts:
        first, *more = left.parts or (left.text,)
        second, *others = right.parts or (right.text,)
        parts = (first + _MERGE + second, *more, *others)
    return Message(
        role=left.role,
        text=left.text + _MERGE + right.text,
        input=_MERGE.join(inputs) if inputs else None,
        name=left.name if left.name == right.name else None,
        extra={**(left.extra or {}), **(right.extra or {})} or None,
        parts=parts,
    )


def _without_tools(message: Message) -> Message:
    if message.role == "tool":
        return replace(message, role="user", name=None, extra=None)
    return replace(message, extra=None) if message.extra else message


def _parse_message(raw: Any, where: str) -> Message:
    if not isinstance(raw, Mapping):
        raise InvalidRequest("A message must be an object with 'role' and 'content'.", param=where)
    role = _parse_role(raw.get("role"), f"{where}.role")
    parts = _parse_content(raw.get("content"), role, f"{where}.content")
    name = raw.get("name")
    if name is not None and not isinstance(name, str):
        raise InvalidRequest("A message's 'name' must be a string.", param=f"{where}.name")
    own = _OWN_KEYS | {"input"} if role == "user" else _OWN_KEYS
    extra = {k: v for k, v in raw.items() if k not in own and not _is_empty(v)}
    block = raw.get("input") if role == "user" else None
    if block is not None and not isinstance(block, str):
        raise InvalidRequest("A message's 'input' must be a string.", param=f"{where}.input")
    calls = raw.get("tool_calls")
    if calls is not None and (parsed := _parse_tool_calls(calls, f"{where}.tool_calls")):
        extra["tool_calls"] = parsed
    return Message(
        role=role,
        text=_JOIN.join(parts),
        input=block or None,
        name=name,
        extra=extra or None,
        parts=parts if len(parts) > 1 else (),
    )


def _is_empty(value: Any) -> bool:
    """OpenAI's SDKs send back ``"refusal": null, "annotations": []``; those say nothing."""
    return value is None or value in ("", [], {})


def _parse_role(role: Any, where: str) -> Role:
    if not isinstance(role, str) or role not in _ROLES:
        known = ", ".join(sorted(_ROLES))
        raise InvalidRequest(f"Unknown role {role!r}; a role is one of: {known}.", param=where)
    return _ROLES[role]


def _parse_content(content: Any, role: Role, where: str) -> tuple[str, ...]:
    if isinstance(content, str):
        return (content,)
    if content is None or content == []:
        if role == "assistant":
            return ("",)
        raise InvalidRequest(
            f"A message of role '{role}' needs 'content': a string or an array of text parts.",
            param=where,
        )
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise InvalidRequest("'content' must be a string or an array of parts.", param=where)
    return tuple(_parse_part(part, f"{where}.{i}") for i, part in enumerate(content))


def _parse_part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str):
        raise InvalidRequest("A content part must be an object with a 'type'.", param=where)
    key = _TEXT_PARTS.get(kind)
    if key is None:
        raise InvalidRequest(
            f"Content part of type '{kind}' is not supported: the models here take text only.",
            param=where,
        )
    text = part.get(key)
    if not isinstance(text, str):
        raise InvalidRequest(
            f"A content part of type '{kind}' needs a string '{key}'.", param=f"{where}.{key}"
        )
    return text


def _parse_tool_calls(calls: Any, where: str) -> list[Any]:
    """Decode each call's ``arguments``: templates expect an object where OpenAI sends JSON text.

    Text that is no JSON object stays as it is: a model may have written it, and the client only
    sends it back.
    """
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise InvalidRequest("'tool_calls' must be an array.", param=where)
    decoded: list[Any] = []
    for i, call in enumerate(calls):
        if not isinstance(call, Mapping):
            raise InvalidRequest("A tool call must be an object.", param=f"{where}.{i}")
        function = call.get("function")
        if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
            arguments = _json_object(function["arguments"])
            decoded.append({**call, "function": {**function, "arguments": arguments}})
        else:
            decoded.append(call)
    return decoded


def _json_object(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
