"""Shapes of chat and text completions: see `shapes`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from server.api.schemas.shapes import (
    FormatName,
    JsonObjectFormat,
    JsonSchema,
    ObjectSchema,
    Shape,
    TextFormat,
    ToolName,
)


class TextPart(Shape):
    """Text."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class RefusalPart(Shape):
    """A refusal, sent back."""

    type: Literal["refusal"]
    refusal: str


Parts = list[TextPart | RefusalPart]
Said = str | Annotated[Parts, Field(min_length=1)]


class UserTurn(Shape):
    """What a user says; ``input`` is an Alpaca prompt's Input block."""

    role: Literal["user"]
    content: Said
    name: str | None = None
    input: str | None = None


class AssistantTurn(Shape):
    """What the model said, or called; what it called is the template's affair."""

    role: Literal["assistant"]
    content: str | Parts | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class OtherTurn(Shape):
    """Instructions, or the result of a tool call."""

    role: Literal["system", "developer", "tool", "function"]
    content: Said
    name: str | None = None


Conversation = Annotated[list[UserTurn | AssistantTurn | OtherTurn], Field(min_length=1)]


class OfferedFunction(Shape):
    """A function of the caller's."""

    name: ToolName
    description: str | None = None
    parameters: ObjectSchema | None = None
    strict: bool | None = None


class FunctionTool(Shape):
    """A tool; there are no others than functions."""

    type: Literal["function"]
    function: OfferedFunction


Tools = Annotated[list[FunctionTool], Field(min_length=1, max_length=128)]


class FunctionName(Shape):
    """One of the request's functions."""

    name: str


class NamedFunction(Shape):
    """The function that must be called, or may be."""

    function: FunctionName


class FunctionChoice(NamedFunction):
    """A call of this function."""

    type: Literal["function"]


class AllowedTools(Shape):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction], Field(min_length=1)]


class AllowedChoice(Shape):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | FunctionChoice | AllowedChoice | None


class NamedSchema(Shape):
    """A JSON schema with a name; without one, any object."""

    name: FormatName
    schema_: JsonSchema | None = Field(default=None, alias="schema")


class JsonSchemaFormat(Shape):
    """JSON that keeps to a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class StructuralTagFormat(Shape):
    """JSON between tags, as xgrammar defines it."""

    type: Literal["structural_tag"]


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat | StructuralTagFormat
_Text = Annotated[str, Field(min_length=1, max_length=32_768)]
_Choices = Annotated[
    list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)
]


class StructuredOutputs(Shape):
    """vLLM's way to prescribe an answer's form; exactly one of these."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    json_: _Text | JsonSchema | None = Field(default=None, alias="json")
    regex: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    choice: _Choices | None = None
    grammar: _Text | None = None
    json_object: Literal[True] | None = None
    structural_tag: _Text | dict[str, Any] | None = None
