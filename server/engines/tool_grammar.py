"""The grammar of tool calls that vLLM's parsers ask for, made to come to an end."""

from __future__ import annotations

import json
from typing import Any, Final

from server.engines.base import Constraint
from server.engines.bounded_schema import bound, eased
from server.engines.constraints import MOST_WHITE_SPACE

# Most calls of one answer where the grammar would allow any number.
_MOST_CALLS: Final = 4


def adjusted(
    constraint: Constraint | None, outputs: Any, bounded_by: int | None, param: str
) -> Constraint | None:
    """The constraint that vLLM's parsers made of the request's.

    Args:
        constraint: The request's own, or None.
        outputs: vLLM's ``StructuredOutputsParams`` after its parsers, or None.
        bounded_by: Tokens within which calls must end; None leaves schemas as they are.
        param: The request's field to blame where it cannot be compiled.
    """
    if outputs is None:
        return None
    if outputs.structural_tag is not None:
        tag = json.loads(outputs.structural_tag)
        tag["format"] = _settled(tag["format"], bounded_by)
        return Constraint("structural_tag", json.dumps(tag), param)
    if constraint is None and outputs.json is not None:
        return Constraint("json", outputs.json, param)
    return constraint


def _settled(node: Any, bounded_by: int | None) -> Any:
    """A structural tag whose JSON wastes no room on white space and, if so asked, comes to an end.

    Args:
        node: xgrammar's format, as JSON.
        bounded_by: Tokens within which calls must end; None leaves schemas as they are.
    """
    if isinstance(node, list):
        return [_settled(item, bounded_by) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "json_schema":
        schema, space = eased(node["json_schema"]), MOST_WHITE_SPACE
        if bounded_by is not None:
            schema, space = bound(schema, bounded_by // _MOST_CALLS), 1
        return {**node, "json_schema": schema, "max_whitespace_cnt": space}
    if bounded_by is not None and "tags" in node:
        node = {**node, "tags": _as_taught(node["tags"])}
    endless = node.get("type") == "tags_with_separator" and not node.get("stop_after_first")
    node = {name: _settled(value, bounded_by) for name, value in node.items()}
    if endless and bounded_by is not None and node.get("separator") == "":
        either = {"type": "or", "elements": node["tags"]}
        least = int(bool(node.get("at_least_one")))
        return {"type": "repeat", "min": least, "max": _MOST_CALLS, "content": either}
    return node


def _as_taught(tags: list[Any]) -> list[Any]:
    """The tags that the prompt tells of: calls on lines of their own."""
    return [tag for tag in tags if "\n" in tag["begin"]] or tags
