"""A way to write reasoning and tool calls that tests can spell by hand, for scripted engines.

A delta's text is ``?thought``, ``!name {arguments}`` (a call, or its first piece), ``+more``
(arguments go on), or plain text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.engines.base import Constraint, Delta, ToolCallDelta
from server.engines.output import OutputParser, ToolUse


class SpelledParser:
    """Reads one request's output.

    Args:
        tools: What it may call.
        constraint: The request's own.
    """

    def __init__(self, tools: ToolUse | None, constraint: Constraint | None) -> None:
        self.tools = tools
        self.constraint = constraint
        self.reasoning_ended: bool | None = False
        self.skip_special_tokens = True
        self._calls = 0

    def parse(self, delta: Delta) -> None:
        text = delta.text
        if text.startswith("?"):
            delta.text, delta.reasoning = "", text[1:]
            delta.reasoning_tokens = len(delta.token_ids)
        elif text.startswith("!") and self.tools is not None:
            name, _, arguments = text[1:].partition(" ")
            number = f"call_{self._calls}"
            delta.text = ""
            delta.tool_calls = (ToolCallDelta(self._calls, number, name, arguments),)
            self._calls += 1
        elif text.startswith("+") and self._calls:
            delta.text = ""
            delta.tool_calls = (ToolCallDelta(self._calls - 1, arguments=text[1:]),)
        # As OpenAI has it: a call that the caller named is no reason of its own.
        named = self.tools is not None and self.tools.name is not None
        if delta.finish_reason == "stop" and self._calls and not named:
            delta.finish_reason = "tool_calls"


class SpelledFormat:
    """Begins a `SpelledParser` for each request.

    Attributes:
        begun: What the parsers were begun with: tools and template variables.
    """

    reasons = True

    def __init__(self) -> None:
        self.begun: list[tuple[ToolUse | None, Mapping[str, Any]]] = []

    def begin(
        self,
        tools: ToolUse | None,
        constraint: Constraint | None,
        *,
        prompt_token_ids: Sequence[int],
        max_tokens: int,
        template_kwargs: Mapping[str, Any],
    ) -> OutputParser:
        self.begun.append((tools, template_kwargs))
        return SpelledParser(tools, constraint)
