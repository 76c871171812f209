"""Shapes of the Responses and Conversations APIs: see `shapes`."""

from __future__ import annotations

from typing import Annotated, Literal

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

ItemId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]


class ItemText(Shape):
    """Text."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class ItemRefusal(Shape):
    """A refusal, sent back."""

    type: Literal["refusal"]
    refusal: str


class ItemThought(Shape):
    """A part of a thought or of its summary."""

    text: str


Said = str | Annotated[list[ItemText], Field(min_length=1)]


class SentMessage(Shape):
    """A message of a user, or instructions."""

    type: Literal["message"] | None = None
    id: ItemId | None = None
    role: Literal["user", "system", "developer"]
    content: Said


class SentAnswer(Shape):
    """A message of the model's, sent back."""

    type: Literal["message"] | None = None
    id: ItemId | None = None
    role: Literal["assistant"]
    content: str | list[ItemText | ItemRefusal]


class SentCall(Shape):
    """A tool call, sent back; its arguments are JSON text."""

    type: Literal["function_call"]
    id: ItemId | None = None
    call_id: str
    name: str
    arguments: str


class SentCallOutput(Shape):
    """What a tool call came to."""

    type: Literal["function_call_output"]
    id: ItemId | None = None
    call_id: str
    output: Said


class SentThought(Shape):
    """Reasoning, sent back."""

    type: Literal["reasoning"]
    id: ItemId | None = None
    summary: list[ItemThought] | None = None
    content: list[ItemThought] | None = None


class SentReference(Shape):
    """An item that is stored."""

    model_config = ConfigDict(
        # An item with a role and no type is a message.
        json_schema_extra={"anyOf": [{"required": ["type"]}, {"not": {"required": ["role"]}}]}
    )

    type: Literal["item_reference"] | None = None
    id: ItemId


SentItem = SentMessage | SentAnswer | SentCall | SentCallOutput | SentThought
Input = str | list[SentItem | SentReference] | None


class ConversationName(Shape):
    """A conversation by its id."""

    id: str


class FlatTool(Shape):
    """A function of the caller's."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: ObjectSchema | None = None
    strict: bool | None = None


FlatTools = Annotated[list[FlatTool], Field(max_length=128)]


class FlatName(Shape):
    """One of the request's functions."""

    name: str


class FlatFunctionChoice(FlatName):
    """A call of this function."""

    type: Literal["function"]


class FlatAllowedChoice(Shape):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FlatName], Field(min_length=1)]


FlatToolChoice = Literal["none", "auto", "required"] | FlatFunctionChoice | FlatAllowedChoice | None


class FlatJsonSchemaFormat(Shape):
    """JSON that keeps to a schema."""

    type: Literal["json_schema"]
    name: FormatName
    schema_: JsonSchema = Field(alias="schema")


FlatFormat = TextFormat | JsonObjectFormat | FlatJsonSchemaFormat
