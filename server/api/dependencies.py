"""What routes are given, and the steps both generation endpoints take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

from fastapi import Depends, Request

from server.errors import CorralError, InvalidRequest, UnsupportedField
from server.generation.service import GenerationService
from server.storage import Storage

_IGNORED_HEADER = "x-corral-ignored-fields"
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_DROPPED_HEADER = "x-corral-dropped-messages"


class UnsupportedMediaType(CorralError):
    """The body is not declared as JSON."""


def _service(request: Request) -> GenerationService:
    return cast("GenerationService", request.app.state.service)


def _storage(request: Request) -> Storage:
    return cast("Storage", request.app.state.storage)


def _owner(request: Request) -> str:
    return cast("str", request.state.owner)


Service = Annotated[GenerationService, Depends(_service)]
Stored = Annotated[Storage, Depends(_storage)]
# Whose the stored objects are that a request may see; `auth.require_key` sets it.
Owner = Annotated[str, Depends(_owner)]


async def require_json(request: Request) -> None:
    """Refuse bodies that are not declared as JSON.

    Raises:
        UnsupportedMediaType: The content type is another, or missing.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind, _, subtype = media_type.partition("/")
    if kind != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise UnsupportedMediaType(
            f"Unsupported content type '{media_type or 'none'}'. Send the body as JSON with the "
            "header 'Content-Type: application/json'."
        )


def ignored_headers(request: Request, ignored: Sequence[str]) -> dict[str, str]:
    """A header that names the fields of a request that were not obeyed.

    Raises:
        UnsupportedField: There are some, and the caller or the server wants none to be ignored.
    """
    if _is_strict(request) and ignored:
        raise UnsupportedField(
            f"Unknown parameter: '{ignored[0]}'. Leave it out, or leave strict mode.",
            param=ignored[0],
            code="unknown_parameter",
        )
    # Field names are the caller's: keep the header valid and short.
    names = [name for name in ignored if name.isascii() and name.isprintable()][:20]
    value = ", ".join(names)[:1000].strip()
    return {_IGNORED_HEADER: value} if value else {}


def _is_strict(request: Request) -> bool:
    """What ``?strict=`` says, else the server's setting."""
    said = request.query_params.get("strict")
    if said is None:
        return bool(request.app.state.strict)
    if said not in _TRUTH:
        raise InvalidRequest("'strict' must be true or false.", param="strict")
    return _TRUTH[said]


def dropped_headers(dropped: int) -> dict[str, str]:
    """A header that says how many messages did not fit; absent when all did."""
    return {_DROPPED_HEADER: str(dropped)} if dropped else {}
