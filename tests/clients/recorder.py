"""Stands between a client and a server, and writes down what goes over the wire.

``python tests/clients/recorder.py UPSTREAM RECORD`` prints its own address, then runs until it is
ended. UPSTREAM is an address without a path. RECORD gets a JSON line a request: method, path,
headers and body, the answer's status, headers and beginning, how long it took, and ``ended``:
``whole``, or ``left`` where the client went first. Keys are not written down.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse, ClientSession, ClientTimeout, web

# Said of one connection alone, or made anew by aiohttp.
HOP = {"connection", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade"}
SECRET = {"authorization", "x-api-key", "cookie"}
# Of an answer: enough to see an error.
BEGINNING = 2000


def _kept(message: web.Request | ClientResponse) -> dict[str, str]:
    """The headers that are passed on."""
    return {name: value for name, value in message.headers.items() if name.lower() not in HOP}


def _shown(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by their names in lower case; of secrets the beginning alone."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value[:7] if name in SECRET else value for name, value in lower.items()}


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


class Recorder:
    """Passes requests on.

    Args:
        upstream: The server's address without a path.
        record: The file to append to.
    """

    def __init__(self, upstream: str, record: Path) -> None:
        self._upstream = upstream
        self._record = record

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on, and its answer back as it comes."""
        body = await request.read()
        line: dict[str, Any] = {
            "method": request.method,
            "path": request.path_qs,
            "headers": _shown(request.headers),
            "body": _read(body),
            "ended": "left",
        }
        began = time.monotonic()
        try:
            return await self._pass_on(request, body, line)
        finally:
            line["seconds"] = round(time.monotonic() - began, 2)
            with self._record.open("a") as file:
                file.write(json.dumps(line) + "\n")

    async def _pass_on(
        self, request: web.Request, body: bytes, line: dict[str, Any]
    ) -> web.StreamResponse:
        async with (
            ClientSession(timeout=ClientTimeout(total=None), auto_decompress=False) as session,
            session.request(
                request.method, self._upstream + request.path_qs, headers=_kept(request), data=body
            ) as answer,
        ):
            line["status"], line["answer"] = answer.status, ""
            line["answer_headers"] = _shown(answer.headers)
            back = web.StreamResponse(status=answer.status, headers=_kept(answer))
            await back.prepare(request)
            async for piece in answer.content.iter_any():
                line["answer"] += piece.decode(errors="replace")[: BEGINNING - len(line["answer"])]
                await back.write(piece)
            await back.write_eof()
            line["ended"] = "whole"
            return back


async def main() -> None:
    upstream, record = sys.argv[1], Path(sys.argv[2])
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", Recorder(upstream, record).handle)
    # Cancelled when the client leaves, and so leaves the server in its turn.
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
