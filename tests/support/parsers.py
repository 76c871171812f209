"""An `OutputFormat` for tests: reasoning and calls between tags, read with `str.partition`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from server.engines.base import Constraint, Delta, ToolCallDelta
from server.engines.output import OutputParser, ToolUse


class TagFormat:
    """``<r>…</r>`` is reasoning and ``<c>NAME JSON</c>`` a call; each comes in one delta.

    Attributes:
        asked: The arguments of every `begin`.
    """

    def __init__(self, *, reasons: bool = False) -> None:
        self.reasons = reasons
        self.asked: list[dict[str, Any]] = []

    def begin(
        self,
        tools: ToolUse | None,
        constraint: Constraint | None,
        *,
        prompt_token_ids: Sequence[int],
        max_tokens: int,
        template_kwargs: Mapping[str, Any],
    ) -> OutputParser:
        self.asked.append(
            {
                "tools": tools,
                "constraint": constraint,
                "prompt_token_ids": list(prompt_token_ids),
                "max_tokens": max_tokens,
                "template_kwargs": dict(template_kwargs),
            }
        )
        return _TagParser(tools, constraint, reasons=self.reasons)


class _TagParser:
    def __init__(
        self, tools: ToolUse | None, constraint: Constraint | None, *, reasons: bool
    ) -> None:
        self.constraint = constraint
        if tools is not None and tools.choice == "required":
            names = [tools.name] if tools.name else [tool.name for tool in tools.tools]
            self.constraint = Constraint("choice", names, "tools")
        self.reasoning_ended = False if reasons else None
        self.skip_special_tokens = tools is None
        self._calls: dict[int, int] = {}
        self._named = tools is not None and tools.name is not None

    def parse(self, delta: Delta) -> None:
        before, _, rest = delta.text.partition("<r>")
        delta.reasoning, _, after = rest.partition("</r>")
        delta.reasoning_tokens = len(delta.reasoning.split())
        text, *calls = (before + after).split("<c>")
        for call in calls:
            inner, _, behind = call.partition("</c>")
            delta.tool_calls += self._call(delta.index, inner)
            text += behind
        delta.text = text
        if delta.finish_reason == "stop" and self._calls.get(delta.index) and not self._named:
            delta.finish_reason = "tool_calls"

    def _call(self, choice: int, text: str) -> tuple[ToolCallDelta, ...]:
        """The two pieces of a call: its name, then its arguments."""
        at = self._calls.get(choice, 0)
        self._calls[choice] = at + 1
        name, _, arguments = text.partition(" ")
        json.loads(arguments)
        begun = ToolCallDelta(at, f"call_{choice}{at}", name)
        return begun, ToolCallDelta(at, arguments=arguments)
