"""``tools`` and ``tool_choice`` of a chat request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, cast

from server.api.schemas.json_schema import check_size, checked_schema
from server.engines.output import NO_PARAMETERS, Tool, ToolUse
from server.errors import InvalidRequest

MOST_TOOLS: Final = 128
# In all tools together.
_MOST_VALUES: Final = 20_000
TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_MODES: Final = ("none", "auto", "required")


def tool_use(tools: Any, choice: Any, parallel: bool | None) -> ToolUse | None:
    """The tools of a request; None if there are none.

    Raises:
        InvalidRequest: Something about them is wrong; ``param`` is its path.
    """
    if tools is None:
        if choice not in (None, "none", "auto"):
            raise InvalidRequest(
                "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice"
            )
        return None
    if not tools:
        raise InvalidRequest(
            "'tools' must hold at least one tool. Leave the field out to offer none.",
            param="tools",
        )
    if len(tools) > MOST_TOOLS:
        raise InvalidRequest(f"Send at most {MOST_TOOLS} tools.", param="tools")
    check_size([tool.get("function") for tool in tools], "tools", most=_MOST_VALUES)
    parsed = tuple(_tool(tool, f"tools.{at}") for at, tool in enumerate(tools))
    names = [tool.name for tool in parsed]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise InvalidRequest(f"Two tools have the name '{twice}'.", param="tools")
    return _chosen(ToolUse(tools=parsed, parallel=parallel is not False), choice)


def _tool(said: Any, where: str) -> Tool:
    kind = said.get("type") if isinstance(said, Mapping) else None
    if kind != "function":
        raise InvalidRequest(
            f"A tool of type '{kind}' is not supported: send functions, as "
            '{"type": "function", "function": {"name": ..., "parameters": ...}}.',
            param=f"{where}.type",
        )
    function = said.get("function")
    if not isinstance(function, Mapping):
        raise InvalidRequest(
            f"'{where}.function' must be an object with a 'name'.", param=f"{where}.function"
        )
    description, strict = function.get("description"), function.get("strict")
    if description is not None and not isinstance(description, str):
        raise InvalidRequest(
            "A function's 'description' must be a string.", param=f"{where}.function.description"
        )
    if strict is not None and not isinstance(strict, bool):
        raise InvalidRequest(
            "A function's 'strict' must be true or false.", param=f"{where}.function.strict"
        )
    return Tool(
        name=_name(function.get("name"), f"{where}.function.name"),
        description=description,
        parameters=_parameters(function.get("parameters"), f"{where}.function.parameters"),
        strict=strict,
    )


def _name(said: Any, where: str) -> str:
    if not isinstance(said, str) or not TOOL_NAME.fullmatch(said):
        raise InvalidRequest(
            "A function's name must be 1 to 128 letters, digits, underscores, dots or dashes.",
            param=where,
        )
    return said


def _parameters(said: Any, where: str) -> Mapping[str, Any]:
    if said is None or said == {}:
        return NO_PARAMETERS
    schema = checked_schema(said, where)
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise InvalidRequest(
            "A function's 'parameters' must be a JSON schema of type 'object'.", param=where
        )
    return {"type": "object", **schema}


def _chosen(use: ToolUse, choice: Any) -> ToolUse:
    if choice is None:
        return use
    if isinstance(choice, str) and choice in _MODES:
        return replace(use, choice=cast("Literal['none', 'auto', 'required']", choice))
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind == "function":
        name = _referred(choice, use.tools, "tool_choice").name
        return replace(use, choice="required", name=name)
    if kind == "allowed_tools":
        return _allowed(use, choice.get("allowed_tools"))
    raise InvalidRequest(
        '\'tool_choice\' must be "none", "auto", "required" or '
        '{"type": "function", "function": {"name": ...}}.',
        param="tool_choice",
    )


def _referred(said: Any, tools: Sequence[Tool], where: str) -> Tool:
    """The tool that is meant by ``{"type": "function", "function": {"name": ...}}``."""
    function = said.get("function") if isinstance(said, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    found = next((tool for tool in tools if tool.name == name), None)
    if found is None:
        raise InvalidRequest(
            f"There is no function '{name}' among 'tools'.", param=f"{where}.function.name"
        )
    return found


def _allowed(use: ToolUse, said: Any) -> ToolUse:
    where = "tool_choice.allowed_tools"
    mode = said.get("mode") if isinstance(said, Mapping) else None
    listed = said.get("tools") if isinstance(said, Mapping) else None
    if mode not in ("auto", "required") or not isinstance(listed, list) or not listed:
        raise InvalidRequest(
            f"'{where}' needs a 'mode' (auto or required) and 'tools', some of the request's.",
            param=where,
        )
    tools = tuple(
        _referred(item, use.tools, f"{where}.tools.{at}") for at, item in enumerate(listed)
    )
    return replace(use, tools=tools, choice=mode)
