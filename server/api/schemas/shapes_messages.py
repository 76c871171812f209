"""Shapes of the Messages API: see `shapes`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from server.api.schemas.shapes import JsonSchema, Shape, ToolName


class TextBlock(Shape):
    """Text."""

    type: Literal["text"]
    text: str


class ToolResultBlock(Shape):
    """What a tool call came to."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[TextBlock] | None = None


class ToolUseBlock(Shape):
    """A tool call, sent back."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingBlock(Shape):
    """Reasoning, sent back."""

    type: Literal["thinking"]
    thinking: str


class RedactedBlock(Shape):
    """Reasoning that nobody can read."""

    type: Literal["redacted_thinking"]


TextBlocks = Annotated[list[TextBlock], Field(min_length=1)]


class UserMessage(Shape):
    """What a user says, and what tools say."""

    role: Literal["user"]
    content: str | Annotated[list[TextBlock | ToolResultBlock], Field(min_length=1)]


class ModelMessage(Shape):
    """What the model said, thought and called."""

    role: Literal["assistant"]
    content: str | list[TextBlock | ToolUseBlock | ThinkingBlock | RedactedBlock]


class SystemMessage(Shape):
    """Instructions in the midst of a conversation."""

    role: Literal["system"]
    content: str | TextBlocks


Messages = Annotated[list[UserMessage | ModelMessage | SystemMessage], Field(min_length=1)]
System = str | list[TextBlock] | None


class InputSchema(Shape):
    """A JSON schema of an object."""

    type: Literal["object"]


class CustomTool(Shape):
    """A tool of the caller's."""

    type: Literal["custom"] | None = None
    name: ToolName
    description: str | None = None
    input_schema: InputSchema
    strict: bool | None = None


CustomTools = Annotated[list[CustomTool], Field(max_length=128)]


class ModeChoice(Shape):
    """Whether tools are called."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class ToolChoice(Shape):
    """A call of this tool."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


class Thinking(Shape):
    """Whether the model reasons."""

    type: Literal["adaptive", "disabled", "enabled"]


class SchemaFormat(Shape):
    """JSON that keeps to a schema."""

    type: Literal["json_schema"]
    schema_: JsonSchema = Field(alias="schema")


class OutputConfig(Shape):
    """How much the model reasons, and the form of its answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: SchemaFormat | None = None
