"""Responses that build on each other, and what a caller may see of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.engines.base import Delta
from tests.support.ranch import Ranch, error, in_process
from tests.support.stored import URL, Scribe, ask, prompt, settled, valid

DAMAGED = (
    "The server's database cannot be used now: its file is damaged. Requests that keep nothing go "
    "on: send 'store': false."
)


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    ranch = make_ranch(database_url=database_url)
    ranch.format = Scribe()
    return ranch


async def made(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    return valid(await client.post(URL, json=ask(**fields)))


async def test_a_response_that_follows_another(ranch: Ranch, client: httpx.AsyncClient) -> None:
    first = await made(client, input="A", instructions="Never again.")
    second = await made(client, input="B", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    await made(client, input="C", previous_response_id=second["id"], instructions="Now.")
    # Instructions belong to one response alone.
    assert await prompt(ranch) == (
        "<|im_start|>system\nNow.<|im_end|>\n"
        "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\nB<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_reading_and_deleting(client: httpx.AsyncClient) -> None:
    first = await made(client)
    second = await made(client, previous_response_id=first["id"])
    url = f"{URL}/{first['id']}"
    assert valid(await client.get(url)) == first
    answer = await client.delete(url)
    assert answer.json() == {"id": first["id"], "object": "response", "deleted": True}
    for gone in (await client.get(url), await client.delete(url)):
        assert gone.status_code == 404
        assert gone.json() == error(f"Response with id '{first['id']}' not found.")
    # Without its beginning the second is no ground to build on.
    answer = await client.post(URL, json=ask(previous_response_id=second["id"]))
    assert (answer.status_code, answer.json()) == (400, no_previous(first["id"]))


def no_previous(number: str) -> dict[str, Any]:
    return error(
        f"Previous response with id '{number}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
    )


async def test_what_was_not_stored_cannot_be_found(client: httpx.AsyncClient) -> None:
    number = (await made(client, store=False))["id"]
    assert (await client.get(f"{URL}/{number}")).status_code == 404
    answer = await client.post(URL, json=ask(previous_response_id=number))
    assert (answer.status_code, answer.json()) == (400, no_previous(number))


async def test_input_items(client: httpx.AsyncClient) -> None:
    items = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B", "id": "mine"}]
    first = await made(client, input=items)
    second = await made(client, input="C", previous_response_id=first["id"])
    found = (await client.get(f"{URL}/{first['id']}/input_items?order=asc")).json()
    assert settled(found) == {
        "object": "list",
        "data": [
            {
                "id": "msg_1",
                "type": "message",
                "role": "user",
                "status": "completed",
                "content": [{"type": "input_text", "text": "A"}],
            },
            {
                "id": "mine",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "B", "annotations": []}],
            },
        ],
        "first_id": "msg_1",
        "last_id": "mine",
        "has_more": False,
    }
    page = (await client.get(f"{URL}/{first['id']}/input_items?limit=1")).json()
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (["mine"], True)
    page = (await client.get(f"{URL}/{first['id']}/input_items?after=mine")).json()
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (
        [found["first_id"]],
        False,
    )
    own = (await client.get(f"{URL}/{second['id']}/input_items")).json()
    assert [item["content"][0]["text"] for item in own["data"]] == ["C"]


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=x", "after")],
)
async def test_wrong_pages(query: str, param: str, client: httpx.AsyncClient) -> None:
    number = (await made(client))["id"]
    answer = await client.get(f"{URL}/{number}/input_items?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_items_by_reference(ranch: Ranch, client: httpx.AsyncClient) -> None:
    first = await made(client, input="A")
    answer = first["output"][0]["id"]
    for reference in ({"type": "item_reference", "id": answer}, {"id": answer}):
        items = [{"role": "user", "content": "B"}, reference, {"role": "user", "content": "C"}]
        await made(client, input=items)
        assert await prompt(ranch) == (
            "<|im_start|>user\nB<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
            "<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n"
        )
    # What the conversation has already cannot come again.
    twice = await client.post(
        URL, json=ask(input=[{"id": answer}], previous_response_id=first["id"])
    )
    assert twice.status_code == 400
    assert f"Duplicate item found with id {answer}" in twice.json()["error"]["message"]


async def test_the_output_of_a_call_follows_in_the_next_response(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    tool = {"type": "function", "name": "f", "parameters": {}}
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    first = await made(client, input=[{"role": "user", "content": "A"}, call], tools=[tool])
    output = {"type": "function_call_output", "call_id": "c1", "output": "42"}
    await made(client, input=[output], previous_response_id=first["id"], tools=[tool])
    assert "<tool_response>\n42\n</tool_response>" in await prompt(ranch)


async def test_each_key_has_its_own(make_ranch: Callable[..., Ranch], database_url: str) -> None:
    ranch = make_ranch(keys=["one", "two"], database_url=database_url)

    def key(name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {name}"}

    async with in_process(ranch) as client:
        client.headers.update(key("one"))
        first = await made(client)
        conversation = (await client.post("/v1/conversations", json={})).json()["id"]
        client.headers.update(key("two"))
        number = first["id"]
        assert (await client.get(f"{URL}/{number}")).status_code == 404
        assert (await client.get(f"{URL}/{number}?stream=true")).status_code == 404
        assert (await client.get(f"{URL}/{number}/input_items")).status_code == 404
        assert (await client.delete(f"{URL}/{number}")).status_code == 404
        assert (await client.post(f"{URL}/{number}/cancel")).status_code == 404
        refused = await client.post(URL, json=ask(previous_response_id=number))
        assert refused.json() == no_previous(number)
        item = first["output"][0]["id"]
        assert (await client.post(URL, json=ask(input=[{"id": item}]))).status_code == 400
        assert (await client.get(f"/v1/conversations/{conversation}")).status_code == 404
        refused = await client.post(URL, json=ask(conversation=conversation))
        assert refused.status_code == 404
        client.headers.update(key("one"))
        assert valid(await client.get(f"{URL}/{number}")) == first


async def test_what_is_stored_outlives_the_server(
    make_ranch: Callable[..., Ranch], database_url: str
) -> None:
    async with in_process(make_ranch(database_url=database_url)) as client:
        first = await made(client, input="A")
    ranch = make_ranch(database_url=database_url)
    async with in_process(ranch) as client:
        assert valid(await client.get(f"{URL}/{first['id']}")) == first
        await made(client, input="B", previous_response_id=first["id"])
        assert "Hello" in await prompt(ranch)


async def test_without_a_database_the_rest_works(make_ranch: Callable[..., Ranch]) -> None:
    async with in_process(make_ranch()) as client:
        answer = await client.post(URL, json=ask())
        assert (answer.status_code, answer.json()) == (
            503,
            error(
                "This server has no database and keeps nothing. Send 'store': false.",
                kind="service_unavailable_error",
                code="storage_failed",
            ),
        )
        assert (await made(client, store=False))["store"] is False


async def test_a_broken_database_breaks_nothing_else(
    make_ranch: Callable[..., Ranch], database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "corral.db").write_bytes(b"This is no database. " * 1000)
    ranch = make_ranch(database_url=database_url)
    ranch.play(Delta(0, "Hi", [1], "stop"))
    broken = error(DAMAGED, kind="service_unavailable_error", code="storage_failed")
    async with in_process(ranch) as client:
        for answer in (
            await client.post(URL, json=ask()),
            await client.post(URL, json=ask(stream=True)),
            await client.post(URL, json=ask(background=True)),
            await client.get(f"{URL}/resp_1"),
            await client.delete(f"{URL}/resp_1"),
            await client.post(f"{URL}/resp_1/cancel"),
            await client.post("/v1/conversations", json={}),
            await client.get("/v1/conversations/conv_1"),
        ):
            assert (answer.status_code, answer.json()) == (503, broken)
        # Nothing was computed for an answer that could not be kept.
        assert ranch.requests == []
        await made(client, store=False)
        chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
        assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200
        assert (await client.get("/health")).status_code == 200
