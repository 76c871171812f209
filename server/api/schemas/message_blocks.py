"""Anthropic's messages and content blocks become OpenAI's chat messages.

Everything is checked here, so that an error names the block as the caller sent it: what comes out
has other indexes. https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from server.errors import InvalidRequest

ChatMessage = dict[str, Any]

_ROLES: Final = ("user", "assistant", "system")
# Anthropic's blocks that the models here cannot see; other types are unknown.
_NOT_TEXT: Final = frozenset({"image", "document"})
# There is no field for it in a chat message, and the model should know.
_FAILED: Final = "Error: "


def chat_messages(messages: Sequence[Mapping[str, Any]], system: Any) -> list[ChatMessage]:
    """The conversation as OpenAI has it.

    A user message with tool results becomes a ``tool`` message for each, and a user message for
    the text between and after them.

    Args:
        messages: Anthropic's.
        system: A string, text blocks or None.

    Raises:
        InvalidRequest: Something is malformed or no text; ``param`` is its path
            (``messages.2.content.1``).
    """
    if not messages:
        raise InvalidRequest("'messages' must hold at least one message.", param="messages")
    found: list[ChatMessage] = []
    if system not in (None, "", []):
        found.append({"role": "system", "content": _texts(system, "system")})
    tool_names: dict[str, str] = {}
    for at, message in enumerate(messages):
        where = f"messages.{at}"
        role = message.get("role")
        content = message.get("content")
        if role == "user":
            found += _user(content, f"{where}.content", tool_names)
        elif role == "assistant":
            found.append(_assistant(content, f"{where}.content", tool_names))
        elif role == "system":
            found.append({"role": "system", "content": _texts(content, f"{where}.content")})
        else:
            raise InvalidRequest(
                f"A message's role must be one of: {', '.join(_ROLES)}.", param=f"{where}.role"
            )
    return found


def _user(content: Any, where: str, tool_names: Mapping[str, str]) -> list[ChatMessage]:
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    found: list[ChatMessage] = []
    for at, (kind, block) in enumerate(_blocks(content, where)):
        path = f"{where}.{at}"
        if kind == "tool_result":
            found.append(_tool_result(block, path, tool_names))
            continue
        part = {"type": "text", "text": _text(kind, block, path)}
        if found and found[-1]["role"] == "user":
            found[-1]["content"].append(part)
        else:
            found.append({"role": "user", "content": [part]})
    return found


def _tool_result(
    block: Mapping[str, Any], where: str, tool_names: Mapping[str, str]
) -> ChatMessage:
    number = _string(block, "tool_use_id", where)
    content = block.get("content")
    text = "" if content in (None, []) else "\n".join(_part_texts(content, f"{where}.content"))
    if block.get("is_error") is True:
        text = _FAILED + text
    result = {"role": "tool", "tool_call_id": number, "content": text}
    # Some templates want the tool's name, which only the call has.
    return result | ({"name": tool_names[number]} if number in tool_names else {})


def _assistant(content: Any, where: str, tool_names: dict[str, str]) -> ChatMessage:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    if content == []:  # an answer that said nothing, sent back
        return {"role": "assistant", "content": ""}
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for at, (kind, block) in enumerate(_blocks(content, where)):
        path = f"{where}.{at}"
        if kind == "tool_use":
            calls.append(_tool_call(block, path))
            tool_names[calls[-1]["id"]] = calls[-1]["function"]["name"]
        elif kind == "thinking":
            thoughts.append(_string(block, "thinking", path))
        elif kind != "redacted_thinking":  # which nobody can read
            texts.append(_text(kind, block, path))
    message: ChatMessage = {
        "role": "assistant",
        "content": [{"type": "text", "text": text} for text in texts],
    }
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _tool_call(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    arguments = block.get("input")
    if not isinstance(arguments, Mapping):
        raise InvalidRequest("A tool_use block needs an object 'input'.", param=f"{where}.input")
    function = {"name": _string(block, "name", where), "arguments": arguments}
    return {"id": _string(block, "id", where), "type": "function", "function": function}


def _texts(content: Any, where: str) -> str | list[dict[str, str]]:
    """A string, or text blocks as OpenAI's parts."""
    if isinstance(content, str):
        return content
    return [{"type": "text", "text": text} for text in _part_texts(content, where)]


def _part_texts(content: Any, where: str) -> list[str]:
    if isinstance(content, str):
        return [content]
    blocks = enumerate(_blocks(content, where))
    return [_text(kind, block, f"{where}.{at}") for at, (kind, block) in blocks]


def _blocks(content: Any, where: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Content blocks with their types."""
    if not isinstance(content, list) or not content:
        raise InvalidRequest(
            f"'{where}' must be a string or an array of content blocks, at least one.", param=where
        )
    return [(_kind(block, f"{where}.{at}"), block) for at, block in enumerate(content)]


def _kind(block: Any, where: str) -> str:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        raise InvalidRequest("A content block must be an object with a 'type'.", param=where)
    return kind


def _text(kind: str, block: Mapping[str, Any], where: str) -> str:
    if kind in _NOT_TEXT:
        raise InvalidRequest(
            f"Content blocks of type '{kind}' are not supported: the models here take text only.",
            param=where,
        )
    if kind != "text":
        raise InvalidRequest(f"A content block of type '{kind}' has no place here.", param=where)
    return _string(block, "text", where)


def _string(block: Mapping[str, Any], key: str, where: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(
            f"A {block['type']} block needs a string '{key}'.", param=f"{where}.{key}"
        )
    return value
