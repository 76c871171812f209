"""Conversations and their items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from openai.types.conversations import Conversation, ConversationItemList

from server.engines.base import Delta
from server.errors import EngineDied
from tests.support.ranch import Ranch, error
from tests.support.stored import URL as RESPONSES
from tests.support.stored import ask, prompt, settled, valid

URL = "/v1/conversations"
USER = {"role": "user", "content": "A"}
SHOWN = {
    "id": "msg_1",
    "type": "message",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_text", "text": "A"}],
}


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    return make_ranch(database_url=database_url)


async def begun(client: httpx.AsyncClient, **fields: Any) -> str:
    body = (await client.post(URL, json=fields)).json()
    number: str = body["id"]
    return number


async def texts(client: httpx.AsyncClient, number: str) -> list[str]:
    """What was said, oldest first."""
    found = (await client.get(f"{URL}/{number}/items?order=asc")).json()
    ConversationItemList.model_validate(found)
    return [item["content"][0]["text"] for item in found["data"]]


async def test_a_conversation(client: httpx.AsyncClient) -> None:
    made = await client.post(URL, json={"items": [USER], "metadata": {"a": "b"}, "wild": 1})
    assert made.headers["x-corral-ignored-fields"] == "wild"
    body = made.json()
    Conversation.model_validate(body)
    assert settled(body) == {
        "id": "conv_1",
        "object": "conversation",
        "created_at": 1,
        "metadata": {"a": "b"},
    }
    url = f"{URL}/{body['id']}"
    assert (await client.get(url)).json() == body
    changed = await client.post(url, json={"metadata": {"c": "d"}})
    assert changed.json() == body | {"metadata": {"c": "d"}}
    assert (await client.get(url)).json() == changed.json()
    assert (await client.delete(url)).json() == {
        "id": body["id"],
        "object": "conversation.deleted",
        "deleted": True,
    }
    for gone in (await client.get(url), await client.get(f"{url}/items"), await client.delete(url)):
        assert gone.status_code == 404
        assert gone.json() == error(f"Conversation with id '{body['id']}' not found.")


async def test_items(client: httpx.AsyncClient) -> None:
    url = f"{URL}/{await begun(client)}/items"
    empty = (await client.get(url)).json()
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_x"}
    output = {"type": "function_call_output", "call_id": "c", "output": "42", "id": "fco_x"}
    thought = {"type": "reasoning", "id": "rs_x", "summary": [], "content": []}
    added = (await client.post(url, json={"items": [USER, thought, call, output]})).json()
    ConversationItemList.model_validate(added)
    done = {"status": "completed"}
    assert settled(added) == {
        "object": "list",
        "data": [SHOWN, thought | done, call | done, output | done],
        "first_id": "msg_1",
        "last_id": "fco_x",
        "has_more": False,
    }
    page = (await client.get(f"{url}?limit=2&after=fco_x")).json()
    assert page == {
        "object": "list",
        "data": [call | done, thought | done],
        "first_id": "fc_x",
        "last_id": "rs_x",
        "has_more": True,
    }
    assert (await client.get(f"{url}/fc_x")).json() == call | done
    assert (await client.delete(f"{url}/fc_x")).json()["object"] == "conversation"
    for gone in (await client.get(f"{url}/fc_x"), await client.delete(f"{url}/fc_x")):
        assert (gone.status_code, gone.json()) == (404, error("Item with id 'fc_x' not found."))


async def test_a_response_reads_and_writes_it(ranch: Ranch, client: httpx.AsyncClient) -> None:
    number = await begun(client, items=[USER, {"role": "assistant", "content": "B"}])
    body = valid(await client.post(RESPONSES, json=ask(input="C", conversation=number)))
    assert body["conversation"] == {"id": number}
    assert await prompt(ranch) == (
        "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n"
        "<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n"
    )
    assert await texts(client, number) == ["A", "B", "C", "Hello"]
    fields = {"input": "D", "conversation": {"id": number}, "store": False, "stream": True}
    assert (await client.post(RESPONSES, json=ask(**fields))).status_code == 200
    assert await texts(client, number) == ["A", "B", "C", "Hello", "D", "Hello"]
    stored = (await client.get(f"{RESPONSES}/{body['id']}/input_items")).json()["data"]
    assert [item["content"][0]["text"] for item in stored] == ["C"]


async def test_a_failed_response_leaves_it_as_it_was(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    number = await begun(client, items=[USER])
    for stream in (False, True):
        ranch.play(Delta(0, "Hel", [1]), EngineDied("Gone."))
        await client.post(RESPONSES, json=ask(conversation=number, stream=stream))
    assert await texts(client, number) == ["A"]


async def test_a_conversation_that_is_not_there(client: httpx.AsyncClient) -> None:
    answer = await client.post(RESPONSES, json=ask(conversation="conv_0"))
    assert answer.status_code == 404
    assert answer.json() == error("Conversation with id 'conv_0' not found.")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"items": "x"}, "items"),
        ("", {"items": [{"role": "user"}]}, "items.0.content"),
        ("", {"items": [{"type": "item_reference", "id": "x"}]}, "items.0.type"),
        ("", {"metadata": {"a" * 65: ""}}, "metadata"),
        ("", {"metadata": {"a": "b" * 513}}, "metadata.a"),
        ("/CONV", {}, "metadata"),
        ("/CONV/items", {}, "items"),
        ("/CONV/items", {"items": [USER | {"id": "twice"}, USER | {"id": "twice"}]}, "items"),
    ],
)
async def test_what_is_refused(
    path: str, body: object, param: str, client: httpx.AsyncClient
) -> None:
    number = await begun(client)
    answer = await client.post(URL + path.replace("CONV", number), json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].split("[")[0].startswith(param)
