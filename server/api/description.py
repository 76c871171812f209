"""The OpenAPI description of this server."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

# FastAPI describes its own answer to a body that does not validate; ours is a 400.
_FOREIGN = ("HTTPValidationError", "ValidationError")


def describe_api(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1, made once.

    Keys are described as optional: whether there are any is the server's setting.
    """
    description: dict[str, Any] = app.openapi()
    if "security" in description:
        return description
    for path in description["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    components = description["components"]
    for name in _FOREIGN:
        components["schemas"].pop(name, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    description["security"] = [{"key": []}, {}]
    return description
