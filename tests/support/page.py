"""What tests of the chat page's server share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx

from tests.support.ranch import Ranch, error

COOKIE = "corral_visitor"
# The fields of a chat that nothing was said of.
CHAT = {
    "title": "",
    "pinned": False,
    "model": None,
    "settings": {},
    "leaf": None,
    "messages": 0,
}
MESSAGE = {
    "reasoning": "",
    "model": None,
    "params": None,
    "usage": None,
    "finish_reason": None,
    "error": None,
    "state": "whole",
}
NOT_STORED = error(
    "This server has no database and keeps nothing. Send 'store': false.",
    kind="service_unavailable_error",
    code="storage_failed",
)


def another(ranch: Ranch, **options: Any) -> httpx.AsyncClient:
    """One more browser in front of a ranch whose client is open already."""
    transport = httpx.ASGITransport(ranch.app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://corral", **options)


async def arrive(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The client with a visitor's cookie."""
    answer = await client.get("/ui/session")
    assert answer.json()["stored"] is True
    assert re.fullmatch(r"[0-9a-f]{32}\.[0-9a-f]{64}", cookie(client)[1])
    return client


def cookie(client: httpx.AsyncClient) -> tuple[str, str]:
    """Name and value of the visitor's cookie that a client has."""
    (found,) = client.cookies.items()
    assert re.fullmatch(rf"{COOKIE}_[0-9a-f]{{8}}", found[0])
    return found


async def begin(client: httpx.AsyncClient, **fields: Any) -> str:
    """A new chat's id."""
    answer = await client.post("/ui/chats", json=fields)
    assert answer.status_code == 200, answer.text
    number: str = answer.json()["id"]
    return number


async def say(
    client: httpx.AsyncClient, chat: str, parent: str | None, content: str, role: str = "user"
) -> str:
    """A new message's id."""
    body = {"parent": parent, "role": role, "content": content}
    answer = await client.post(f"/ui/chats/{chat}/messages", json=body)
    assert answer.status_code == 200, answer.text
    number: str = answer.json()["id"]
    return number


async def texts(client: httpx.AsyncClient, chat: str, **query: Any) -> list[str]:
    """The contents of a page of a branch."""
    answer = await client.get(f"/ui/chats/{chat}/messages", params=query)
    assert answer.status_code == 200, answer.text
    return [message["content"] for message in answer.json()["data"]]


def write_page(folder: Path) -> Path:
    """A built page, as small as can be."""
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>A page</title>")
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets" / "index-x1.js").write_bytes(b"plain script")
    (folder / "assets" / "index-x1.js.br").write_bytes(b"as brotli")
    (folder / "assets" / "index-x1.js.gz").write_bytes(b"as gzip")
    (folder / "assets" / "font-x2.woff2").write_bytes(b"font")
    (folder / ".stamp").write_text("secret")
    return folder
