"""``tools``, ``tool_choice`` and ``text.format`` of the Responses API.

They say what the fields of chat completions say, in a flatter shape. So they are turned into those,
checked there, and an error is told with the path that the caller knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from server.api.schemas.structured import constraint_of
from server.api.schemas.tools import tool_use
from server.engines.base import Constraint
from server.engines.output import ToolUse
from server.errors import InvalidRequest, UnsupportedField

_TOOL_FIELDS: Final = ("name", "description", "parameters", "strict")
_FORMAT_FIELDS: Final = ("name", "description", "schema", "strict")
_FLAT_TOOLS: Final = ((".function", ""), ("tool_choice.allowed_tools", "tool_choice"))
_FLAT_FORMAT: Final = (("response_format.json_schema", "text.format"), ("response_", "text."))


def flat_tool_use(tools: Any, choice: Any, parallel: bool | None) -> ToolUse | None:
    """The tools of a request; None if there are none.

    Raises:
        InvalidRequest: Something about them is wrong; ``param`` is its path.
    """
    nested = [_nested_tool(tool, f"tools.{at}") for at, tool in enumerate(tools or ())]
    with _flat_paths(_FLAT_TOOLS):
        return tool_use(nested or None, _nested_choice(choice), parallel)


def flat_tools(use: ToolUse | None) -> list[dict[str, Any]]:
    """Tools as a response shows them."""
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": dict(tool.parameters),
            "strict": tool.strict,
        }
        for tool in (use.tools if use else ())
    ]


def text_constraint(said: Mapping[str, Any] | None) -> Constraint | None:
    """What ``text.format`` asks for.

    Raises:
        InvalidRequest: It is wrong.
    """
    if said is None:
        return None
    if said.get("type") not in ("text", "json_object", "json_schema"):
        raise InvalidRequest(
            "'text.format.type' must be one of: text, json_object, json_schema.",
            param="text.format.type",
        )
    nested = dict(said)
    if said["type"] == "json_schema":
        inner = {name: said[name] for name in _FORMAT_FIELDS if name in said}
        nested = {"type": "json_schema", "json_schema": inner}
        if inner.get("schema") is None:
            raise InvalidRequest(
                "Missing required parameter: 'text.format.schema'.",
                param="text.format.schema",
                code="missing_required_parameter",
            )
    with _flat_paths(_FLAT_FORMAT):
        found = constraint_of(nested, None)
    return found and replace(found, param=_renamed(found.param, _FLAT_FORMAT))


def _nested_tool(tool: Any, where: str) -> dict[str, Any]:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if kind != "function":
        raise UnsupportedField(
            f"A tool of type '{kind}' is not supported: send functions, as "
            '{"type": "function", "name": ..., "parameters": ...}.',
            param=f"{where}.type",
            code="unsupported_parameter",
        )
    inner = {name: tool[name] for name in _TOOL_FIELDS if name in tool}
    return {"type": "function", "function": inner}


def _nested_choice(choice: Any) -> Any:
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind == "function":
        return _nested_name(choice)
    if kind == "allowed_tools":
        tools = choice.get("tools")
        nested = [_nested_name(tool) for tool in tools] if isinstance(tools, list) else tools
        allowed = {"mode": choice.get("mode"), "tools": nested}
        return {"type": "allowed_tools", "allowed_tools": allowed}
    if choice is not None and not isinstance(choice, str):
        raise UnsupportedField(
            f"A 'tool_choice' of type '{kind}' is not supported: name a function, as "
            '{"type": "function", "name": ...}.',
            param="tool_choice.type",
            code="unsupported_parameter",
        )
    return choice


def _nested_name(said: Any) -> dict[str, Any]:
    name = said.get("name") if isinstance(said, Mapping) else None
    return {"type": "function", "function": {"name": name}}


@contextmanager
def _flat_paths(renames: tuple[tuple[str, str], ...]) -> Iterator[None]:
    try:
        yield
    except InvalidRequest as error:
        param = _renamed(error.param, renames) if error.param else None
        raise InvalidRequest(_renamed(str(error), renames), param=param, code=error.code) from None


def _renamed(text: str, renames: tuple[tuple[str, str], ...]) -> str:
    for old, new in renames:
        text = text.replace(old, new)
    return text
