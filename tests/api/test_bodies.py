"""Bodies that are no request: not JSON, not declared as JSON, too large."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from server.app import create_app
from tests.support.ranch import Ranch, chat, error, in_process, user

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


NO_JSON = "The request body is not valid JSON: "
BODIES = [
    (b"", "The request body is empty: send a JSON object."),
    (b"null", "The request body is empty: send a JSON object."),
    (b"[]", "The request body must be an object."),
    (b'"x"', "The request body must be an object."),
    (b"{", NO_JSON),
    (b'{"model": NaN}', NO_JSON + "unexpected character, expected a JSON value at character 10."),
    (b'{"model": 1e999}', NO_JSON),
    (b'{"model": "\\ud800"}', NO_JSON + "no low surrogate in string at character 11."),
    (b'{"model": "\xff"}', NO_JSON),
    (b"[" * 100_000, NO_JSON + "depth limit exceeded"),
    (b'{"a":' * 100_000, NO_JSON),
]


@pytest.mark.parametrize(("body", "message"), BODIES)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", CHAT + "/render"])
async def test_bodies_that_are_no_request(
    body: bytes, message: str, path: str, client: httpx.AsyncClient
) -> None:
    answer = await client.post(path, content=body, headers=JSON)
    assert answer.status_code == 400
    found = answer.json()["error"]
    assert found["message"].startswith(message)
    assert (found["type"], found["param"]) == ("invalid_request_error", None)


DEEP = "[" * 1000 + "]" * 1000


@pytest.mark.parametrize(
    ("message", "more", "status"),
    [
        ("", f',"odd":{DEEP}', 200),
        (f',"odd":{DEEP}', "", 400),
        (f',"tool_calls":{DEEP}', "", 400),
        ("", f',"chat_template_kwargs":{{"a":{DEEP}}}', 400),
    ],
)
async def test_deep_nesting(
    message: str, more: str, status: int, client: httpx.AsyncClient
) -> None:
    body = f'{{"model":"tiny","messages":[{{"role":"user","content":"x"{message}}}]{more}}}'
    answer = await client.post(CHAT, content=body.encode(), headers=JSON)
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_deep_nesting_that_no_template_sees(make_ranch: Callable[..., Ranch]) -> None:
    context = {"length": 500, "overflow": "drop_oldest"}
    ranch = make_ranch([{"id": "short", "template": "dialogue", "context": context}])
    long = "x" * 200
    old = f'{{"role":"user","content":"{long}","odd":{DEEP}}},{{"role":"assistant","content":"x"}}'
    new = json.dumps(user())
    async with in_process(ranch) as client:
        body = f'{{"model":"short","messages":[{old},{new}]}}'
        answer = await client.post(CHAT, content=body.encode(), headers=JSON)
        assert answer.status_code == 400
        assert answer.json() == error("The request body is nested too deeply.")


async def test_control_characters_in_text(ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json=chat(messages=[user("a\x00b\x7f")], stop="\x00"))
    assert answer.status_code == 200
    assert ranch.request.sampling.stop == ("\x00",)


@pytest.mark.parametrize(
    ("media_type", "named"),
    [
        ("text/plain", "text/plain"),
        ("multipart/form-data; boundary=x", "multipart/form-data"),
        ("text/x+json", "text/x+json"),
    ],
)
async def test_other_content_types(media_type: str, named: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, content=b"{}", headers={"content-type": media_type})
    assert answer.status_code == 415
    assert answer.json() == error(
        f"Unsupported content type '{named}'. Send the body as JSON with the header "
        "'Content-Type: application/json'."
    )


async def test_no_content_type(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, content=b"{}")
    assert answer.status_code == 415
    assert "'none'" in answer.json()["error"]["message"]


async def test_too_large_a_body(ranch: Ranch) -> None:
    ranch.app = create_app(ranch.herd, max_body_bytes=1024)
    async with in_process(ranch) as client:

        async def post(content: Any, **headers: str) -> httpx.Response:
            return await client.post(CHAT, content=content, headers=JSON | headers)

        async def chunks(count: int) -> Any:
            for _ in range(count):
                yield b" " * 512

        expected = error(
            "The request body is larger than 1024 bytes, this server's limit. Send a shorter "
            "conversation or prompt."
        )
        for content in (b" " * 1025, chunks(3)):
            answer = await post(content)
            assert (answer.status_code, answer.json()) == (413, expected)
        assert (await post(b"{}", **{"content-length": "9" * 5000})).status_code == 413
        # The limit itself is fine, declared or not.
        for content in (b" " * 1024, chunks(2)):
            assert (await post(content)).status_code == 400
