"""The OpenAPI description of this server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from server.api.auth import PUBLIC_PATHS
from server.api.schemas.answers import HEADERS, refer
from server.api.schemas.answers_streams import ALL_EVENTS

# FastAPI describes its own answer to a body that does not validate; ours is a 400.
_FOREIGN: Final = ("HTTPValidationError", "ValidationError")
_ON_EVERY_ANSWER: Final = ("x-request-id", "openai-processing-ms")
# Where a key may be: see `auth.require_key`.
_KEYS: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
}
# See `dependencies.ignored_headers`.
_STRICT: Final = {
    "name": "strict",
    "in": "query",
    "description": "Refuse fields that nobody knows; by default the server's setting says.",
    "schema": {"type": "string", "enum": ["true", "false", "1", "0"]},
}
# What can be done with what an operation made, whose id is in the answer.
_ID: Final = "$response.body#/id"
_RESPONSE: Final = {"parameters": {"response_id": _ID}}
_CONVERSATION: Final = {"parameters": {"conversation_id": _ID}}
_ITEM: Final = {
    "parameters": {
        "conversation_id": "$request.path.conversation_id",
        "item_id": "$response.body#/data/0/id",
    }
}
_LINKS: Final = {
    "create_response": {
        "get_response": _RESPONSE,
        "delete_response": _RESPONSE,
        "cancel_response": _RESPONSE,
        "list_input_items": _RESPONSE,
        "create_response": {"requestBody": {"previous_response_id": _ID}},
    },
    "create_conversation": {
        "get_conversation": _CONVERSATION,
        "update_conversation": _CONVERSATION,
        "delete_conversation": _CONVERSATION,
        "create_items": _CONVERSATION,
        "list_items": _CONVERSATION,
        "create_response": {"requestBody": {"conversation": _ID}},
    },
    "create_items": {"get_item": _ITEM, "delete_item": _ITEM},
}


def describe_api(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1, made once.

    A key is described as optional where the server has none.
    """
    if app.openapi_schema is None:
        app.openapi_schema = _described(app)
    return app.openapi_schema


def _described(app: FastAPI) -> dict[str, Any]:
    description: dict[str, Any] = _with_integers(app.openapi())
    for path, operation in _operations(description):
        operation["responses"].pop("422", None)
        for answer in operation["responses"].values():
            answer.setdefault("headers", {}).update(refer(*_ON_EVERY_ANSWER))
        if links := _LINKS.get(operation["operationId"]):
            operation["responses"]["200"]["links"] = {
                name: {"operationId": name, **values} for name, values in links.items()
            }
        # What operators send is strict by itself, but for what vLLM's clients do.
        if "requestBody" in operation and not path.startswith("/admin"):
            operation.setdefault("parameters", []).append(_STRICT)
    for path in PUBLIC_PATHS & description["paths"].keys():
        description["paths"][path]["get"]["security"] = []
    components = description["components"]
    for name in _FOREIGN:
        components["schemas"].pop(name, None)
    # FastAPI only knows of what is the whole of an answer.
    _, events = models_json_schema(
        [(event, "serialization") for event in ALL_EVENTS],
        ref_template="#/components/schemas/{model}",
    )
    components["schemas"] |= events["$defs"]
    components["headers"] = HEADERS
    components["securitySchemes"] = _KEYS
    description["security"] = [{name: []} for name in _KEYS]
    if not app.state.keys:
        description["security"].append({})
    return description


def _with_integers(value: Any) -> Any:
    """Whole numbers without a fraction: FastAPI writes every limit as 20.0."""
    if isinstance(value, dict):
        return {name: _with_integers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_integers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _operations(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for operation in methods.values():
            yield path, operation
