"""Items: what goes into a response and into a conversation, read and turned into messages."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from server.errors import InvalidRequest, UnsupportedField

Item = dict[str, Any]

REFERENCE: Final = "item_reference"
_ROLES: Final = ("user", "system", "developer", "assistant")
_LONGEST_ID: Final = 128
_PREFIXES: Final[Mapping[str, str]] = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


def new_id(prefix: str) -> str:
    """An id that nothing else has."""
    return f"{prefix}_{uuid.uuid4().hex}"


def read_items(said: Any, where: str = "input") -> list[Item]:
    """Items as they are stored: complete, each with an id. References stay references.

    Args:
        said: A text, which is a user's, or a list of items.
        where: The path of ``said`` in the request.

    Raises:
        InvalidRequest: One of them is wrong; ``param`` is its path.
    """
    if isinstance(said, str):
        said = [{"role": "user", "content": said}]
    if not isinstance(said, list):
        raise InvalidRequest(f"'{where}' must be a string or an array of items.", param=where)
    return [_read(item, f"{where}.{at}") for at, item in enumerate(said)]


def to_messages(items: Sequence[Item], instructions: str | None = None) -> list[dict[str, Any]]:
    """Items as messages of a chat completion.

    Raises:
        InvalidRequest: The output of a call that is not there.
    """
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    calls: set[str] = set()
    thought = ""
    for item in items:
        kind = item["type"]
        if kind == "reasoning":
            thought = _thought(item)
            continue
        reasoning = {"reasoning_content": thought} if thought else {}
        thought = ""
        if kind == "message":
            message = {"role": item["role"], "content": item["content"]}
            messages.append(message | (reasoning if item["role"] == "assistant" else {}))
        elif kind == "function_call":
            calls.add(item["call_id"])
            _add_call(messages, item, reasoning)
        elif item["call_id"] not in calls:
            raise InvalidRequest(
                f"No tool call found for function call output with call_id {item['call_id']}.",
                param="input",
            )
        else:
            called = {"role": "tool", "tool_call_id": item["call_id"]}
            messages.append(called | {"content": item["output"]})
    return messages


def check_ids(items: Iterable[Item]) -> None:
    """Refuse an id that two items have.

    Raises:
        InvalidRequest: There is one.
    """
    seen: set[str] = set()
    for item in items:
        if item["id"] in seen:
            raise InvalidRequest(
                f"Duplicate item found with id {item['id']}. The conversation has it already: "
                "leave it out of 'input'.",
                param="input",
            )
        seen.add(item["id"])


def _add_call(messages: list[dict[str, Any]], item: Item, reasoning: Mapping[str, Any]) -> None:
    """Calls of one answer are one message, together with what it said before them."""
    if reasoning or not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None, **reasoning})
    function = {"name": item["name"], "arguments": item["arguments"]}
    call = {"id": item["call_id"], "type": "function", "function": function}
    messages[-1].setdefault("tool_calls", []).append(call)


def _thought(item: Item) -> str:
    parts = item.get("content") or item["summary"]
    return "\n".join(part["text"] for part in parts)


def _read(item: Any, where: str) -> Item:
    if not isinstance(item, Mapping):
        raise InvalidRequest("An item must be an object with a 'type'.", param=where)
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else REFERENCE if "id" in item else None
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise UnsupportedField(
            f"An item of type '{kind}' is not supported. There are: {', '.join(_READERS)}.",
            param=f"{where}.type",
            code="unsupported_parameter",
        )
    number = item.get("id")
    if number is not None or kind == REFERENCE:
        number = _text(item, "id", where)
        if not 0 < len(number) <= _LONGEST_ID or "\0" in number:
            raise InvalidRequest(
                f"An id has 1 to {_LONGEST_ID} characters, none of them NUL.", param=f"{where}.id"
            )
    assert isinstance(kind, str)
    head = {"id": number or new_id(_PREFIXES[kind]), "type": kind}
    return head | reader(item, where)


def _read_message(item: Mapping[str, Any], where: str) -> Item:
    role = item.get("role")
    if role not in _ROLES:
        raise InvalidRequest(
            f"Unknown role {role!r}; a role is one of: {', '.join(_ROLES)}.", param=f"{where}.role"
        )
    ours = "output_text" if role == "assistant" else "input_text"
    content = _parts(item.get("content"), ours, f"{where}.content")
    phase = {"phase": item["phase"]} if isinstance(item.get("phase"), str) else {}
    return {"role": role, "status": "completed", "content": content, **phase}


def _read_call(item: Mapping[str, Any], where: str) -> Item:
    fields = {name: _text(item, name, where) for name in ("call_id", "name", "arguments")}
    return fields | {"status": "completed"}


def _read_call_output(item: Mapping[str, Any], where: str) -> Item:
    output = item.get("output")
    if not isinstance(output, str):
        output = _parts(output, "input_text", f"{where}.output")
    return {"call_id": _text(item, "call_id", where), "output": output, "status": "completed"}


def _read_reasoning(item: Mapping[str, Any], where: str) -> Item:
    summary = _thoughts(item.get("summary"), "summary_text", f"{where}.summary")
    content = _thoughts(item.get("content"), "reasoning_text", f"{where}.content")
    return {"summary": summary, "content": content, "status": "completed"}


def _read_reference(_: Mapping[str, Any], __: str) -> Item:
    return {}


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Item]]] = {
    "message": _read_message,
    "function_call": _read_call,
    "function_call_output": _read_call_output,
    "reasoning": _read_reasoning,
    REFERENCE: _read_reference,
}


def _parts(said: Any, ours: str, where: str) -> list[Item]:
    """Content parts, all of them text."""
    if isinstance(said, str):
        said = [{"type": ours, "text": said}]
    if not isinstance(said, list):
        raise InvalidRequest(f"'{where}' must be a string or an array of parts.", param=where)
    if not said and ours == "input_text":  # an answer may have said nothing
        raise InvalidRequest(f"'{where}' must hold at least one part.", param=where)
    return [_part(part, ours, f"{where}.{at}") for at, part in enumerate(said)]


def _part(part: Any, ours: str, where: str) -> Item:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str):
        raise InvalidRequest("A content part must be an object with a 'type'.", param=where)
    if kind == "refusal" and ours == "output_text":
        return {"type": "refusal", "refusal": _text(part, "refusal", where)}
    if kind not in ("input_text", "output_text", "text"):
        raise UnsupportedField(
            f"Content part of type '{kind}' is not supported: the models here take text only.",
            param=f"{where}.type",
            code="unsupported_parameter",
        )
    text = {"type": ours, "text": _text(part, "text", where)}
    return text | {"annotations": []} if ours == "output_text" else text


def _thoughts(said: Any, kind: str, where: str) -> list[Item]:
    if said is None:
        return []
    if not isinstance(said, list):
        raise InvalidRequest(f"'{where}' must be an array.", param=where)
    for at, part in enumerate(said):
        if not isinstance(part, Mapping):
            raise InvalidRequest("A part must be an object.", param=f"{where}.{at}")
    return [
        {"type": kind, "text": _text(part, "text", f"{where}.{at}")} for at, part in enumerate(said)
    ]


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"'{where}.{name}' must be a string.", param=f"{where}.{name}")
    return value
