"""Tools in a conversation for models whose chat template has no word for them.

The model is told in its system message what there is and how to call it, and earlier calls and
results are written as it was told. The tags are those of the Hermes models, which vLLM can read:
https://github.com/NousResearch/Hermes-Function-Calling. The words are our own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from server.prompts.conversation import Message

_INSTRUCTIONS: Final = """\
You can call these functions, one on each line between the <tools> tags:
<tools>
{tools}
</tools>
To call a function, write its name and its arguments as JSON between <tool_call> tags, like this:
<tool_call>
{{"name": "function name", "arguments": {{"argument name": "value"}}}}
</tool_call>
Results come back between <tool_response> tags. Answer without a call where none helps."""


def write_tool_turns(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Earlier calls and their results as text."""
    return tuple(map(_as_text, messages))


def calls_in(messages: Iterable[Message]) -> bool:
    """Whether an earlier answer called a tool."""
    return any(message.extra and message.extra.get("tool_calls") for message in messages)


def teach_tools(
    messages: Sequence[Message], tools: Iterable[Mapping[str, Any]]
) -> tuple[Message, ...]:
    """Add the tools and how to call them to the system message, which is made if there is none.

    Args:
        tools: In OpenAI's form.
    """
    lines = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    text = _INSTRUCTIONS.format(tools=lines)
    if messages and messages[0].role == "system":
        first = messages[0]
        return (replace(first, text=f"{first.text}\n\n{text}", parts=()), *messages[1:])
    return (Message("system", text), *messages)


def _as_text(message: Message) -> Message:
    if message.role == "tool":
        text = f"<tool_response>\n{message.text}\n</tool_response>"
        return Message("user", text)
    calls = (message.extra or {}).get("tool_calls")
    if message.role != "assistant" or not calls:
        return message
    written = "\n".join(f"<tool_call>\n{_call(call)}\n</tool_call>" for call in calls)
    return replace(message, text="\n".join(filter(None, (message.text, written))), extra=None)


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function")
    if not isinstance(function, Mapping):
        function = {}
    called = {"name": function.get("name"), "arguments": function.get("arguments")}
    return json.dumps(called, ensure_ascii=False)
