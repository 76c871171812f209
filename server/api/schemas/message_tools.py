"""``tools`` and ``tool_choice`` as Anthropic writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from server.api.schemas.json_schema import checked_schema
from server.api.schemas.tools import MOST_TOOLS, TOOL_NAME
from server.engines.output import Tool, ToolUse
from server.errors import InvalidRequest


def tool_use(tools: Sequence[Any] | None, choice: Mapping[str, Any] | None) -> ToolUse | None:
    """The tools of a request; None if there are none.

    Raises:
        InvalidRequest: Something about them is wrong; ``param`` is its path.
    """
    kind = "auto" if choice is None else choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise InvalidRequest(
            "'tool_choice.type' must be one of: auto, any, tool, none.", param="tool_choice.type"
        )
    alone = (choice or {}).get("disable_parallel_tool_use")
    if alone is not None and not isinstance(alone, bool):
        raise InvalidRequest(
            "'tool_choice.disable_parallel_tool_use' must be true or false.",
            param="tool_choice.disable_parallel_tool_use",
        )
    if not tools:
        if kind in ("any", "tool"):
            raise InvalidRequest(
                f"'tool_choice' of type '{kind}' needs 'tools' to choose from.",
                param="tool_choice",
            )
        return None
    if len(tools) > MOST_TOOLS:
        raise InvalidRequest(f"Send at most {MOST_TOOLS} tools.", param="tools")
    parsed = tuple(_tool(tool, f"tools.{at}") for at, tool in enumerate(tools))
    names = [tool.name for tool in parsed]
    twice = next((at for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise InvalidRequest(
            f"Two tools have the name '{names[twice]}'.", param=f"tools.{twice}.name"
        )
    return _chosen(ToolUse(tools=parsed, parallel=not alone), kind, choice or {})


def _tool(said: Any, where: str) -> Tool:
    if not isinstance(said, Mapping):
        raise InvalidRequest(f"'{where}' must be an object.", param=where)
    kind = said.get("type")
    if kind not in (None, "custom"):
        raise InvalidRequest(
            f"A tool of type '{kind}' is not supported: this server brings no tools of its own. "
            "Describe yours with 'name', 'description' and 'input_schema'.",
            param=f"{where}.type",
        )
    name, description, strict = said.get("name"), said.get("description"), said.get("strict")
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        raise InvalidRequest(
            "A tool's name must be 1 to 128 letters, digits, underscores, dots or dashes.",
            param=f"{where}.name",
        )
    if description is not None and not isinstance(description, str):
        raise InvalidRequest(
            "A tool's 'description' must be a string.", param=f"{where}.description"
        )
    if strict is not None and not isinstance(strict, bool):
        raise InvalidRequest("A tool's 'strict' must be true or false.", param=f"{where}.strict")
    return Tool(
        name=name,
        description=description,
        parameters=_input_schema(said.get("input_schema"), f"{where}.input_schema"),
        strict=strict,
    )


def _input_schema(said: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(said, dict) or said.get("type") != "object":
        raise InvalidRequest(
            "A tool's 'input_schema' must be a JSON schema of type 'object'.", param=where
        )
    checked_schema(said, where)
    # Templates look for the key.
    return {"properties": {}, **said}


def _chosen(use: ToolUse, kind: str, choice: Mapping[str, Any]) -> ToolUse:
    if kind == "none":
        return replace(use, choice="none")
    if kind == "any":
        return replace(use, choice="required")
    if kind == "auto":
        return use
    name = choice.get("name")
    if not any(tool.name == name for tool in use.tools):
        raise InvalidRequest(f"There is no tool '{name}' among 'tools'.", param="tool_choice.name")
    return replace(use, choice="required", name=name)
