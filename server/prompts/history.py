"""How earlier turns are put to a model that was trained on single turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

from server.prompts.conversation import Message, Role, merge_turns

History = Literal["turns", "fold", "none"]

_LABELS: Final[Mapping[Role, str]] = {
    "system": "System",
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
}


def apply_history(messages: Sequence[Message], mode: History) -> tuple[Message, ...]:
    """Reshape a normalised conversation.

    Args:
        messages: The conversation, at least one message.
        mode: ``turns`` leaves it as it is. ``fold`` writes all turns as text inside one user
            turn, a line each with the role's name before it (``User: ...``). ``none`` keeps the
            last user turn only. Both keep the system text, and an assistant message at the end
            stays a turn of its own: it is an answer to continue or to train on. The Input block
            of the last user turn stays an Input block.

    Returns:
        The messages to render, repeated roles merged.
    """
    if mode == "turns":
        return tuple(messages)
    answer = messages[-1:] if messages[-1].role == "assistant" else ()
    body = messages[: len(messages) - len(answer)]
    if mode == "none":
        return merge_turns((*_last_turn(body), *answer))
    return merge_turns((*_folded(body), *answer))


def _last_turn(body: Sequence[Message]) -> tuple[Message, ...]:
    system = [message for message in body if message.role == "system"]
    others = [message for message in body if message.role != "system"]
    users = [message for message in others if message.role == "user"]
    return (*system, *(users or others)[-1:])


def _folded(body: Sequence[Message]) -> tuple[Message, ...]:
    start = 1 if body and body[0].role == "system" else 0
    head, turns = tuple(body[:start]), body[start:]
    if len(turns) <= 1:
        return (*head, *turns)
    last = turns[-1]
    lines = [_line(message) for message in turns[:-1]]
    lines.append(_line(replace(last, input=None)))
    return (*head, Message(role="user", text="\n".join(lines), input=last.input))


def _line(message: Message) -> str:
    text = f"{_LABELS[message.role]}: {message.text}"
    return f"{text}\n{message.input}" if message.input else text
