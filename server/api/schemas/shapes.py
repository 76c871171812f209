"""What is inside fields that stay plain JSON, for the OpenAPI description alone.

Messages, tools, items and the like are not checked by pydantic: those who read them do so, and name
the faulty part in words of their own. So a field is a plain dict, and these classes only tell what
may be in it; tests hold the two together.

Here is what several APIs share.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Shape(BaseModel):
    """Fields beyond those that are named are let be."""

    model_config = ConfigDict(extra="allow")


class DescribedAs:
    """Annotation: the field is described as ``kind``, and validated as what it is."""

    def __init__(self, kind: Any) -> None:
        self._kind = TypeAdapter(kind)

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(self._kind.core_schema)


TOOL_NAME_PATTERN = r"^[a-zA-Z0-9_.-]{1,128}$"
ToolName = Annotated[str, Field(pattern=TOOL_NAME_PATTERN)]
# For what is checked elsewhere, with a message that names the remedy.
NotZero = Field(json_schema_extra={"not": {"const": 0}})
AtLeastOne = Field(json_schema_extra={"minItems": 1})
OnlyEmpty = Field(json_schema_extra={"maxLength": 0})


class ObjectSchema(Shape):
    """A JSON schema of an object."""

    type: Literal["object"] = "object"


class TextFormat(Shape):
    """Text in any form."""

    type: Literal["text"]


class JsonObjectFormat(Shape):
    """Any JSON object."""

    type: Literal["json_object"]


JsonSchema = dict[str, Any] | Literal[True]
FormatName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
