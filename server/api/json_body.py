"""Request bodies as strict JSON."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response


class _JsonRequest(Request):
    async def json(self) -> Any:
        return orjson.loads(await self.body())


class JsonRoute(APIRoute):
    """A route whose body is read by orjson instead of Python's parser.

    Python's takes what is no JSON and harms later: half a surrogate pair, which cannot be encoded
    again; NaN and Infinity, which pass comparisons; lists nested until the interpreter's stack
    ends. orjson refuses them all, and says where.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_strict_json(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return with_strict_json
