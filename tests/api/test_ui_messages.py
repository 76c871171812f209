"""A chat's messages: branches, pages of them, answers that grow."""

from __future__ import annotations

import functools
from typing import Any

import httpx
import pytest

from tests.support.page import MESSAGE, begin, say, texts
from tests.support.ranch import error


@pytest.fixture
async def chat(visitor: httpx.AsyncClient) -> str:
    return await begin(visitor)


async def leaf_of(visitor: httpx.AsyncClient, chat: str) -> str | None:
    leaf: str | None = (await visitor.get(f"/ui/chats/{chat}")).json()["leaf"]
    return leaf


async def test_a_message(visitor: httpx.AsyncClient, chat: str) -> None:
    body = {"parent": None, "role": "user", "content": "  Hello\x00 😀\n\nworld  "}
    message = (await visitor.post(f"/ui/chats/{chat}/messages", json=body)).json()
    number, created = message.pop("id"), message.pop("created")
    assert message == MESSAGE | body | {"siblings": [number]}
    assert number.startswith("msg_")
    assert created > 1_700_000_000
    page = (await visitor.get(f"/ui/chats/{chat}/messages")).json()
    assert page == {"data": [message | {"id": number, "created": created}], "before": None}
    shown = (await visitor.get(f"/ui/chats/{chat}")).json()
    assert (shown["leaf"], shown["messages"], shown["updated"]) == (number, 1, created)
    assert shown["title"] == "Hello 😀"


async def test_an_answer_that_grows(visitor: httpx.AsyncClient, chat: str) -> None:
    root = await say(visitor, chat, None, "Hi")
    body = {
        "parent": root,
        "role": "assistant",
        "content": "",
        "model": "tiny",
        "params": {"temperature": 0.5, "top_k": None},
        "state": "partial",
    }
    message = (await visitor.post(f"/ui/chats/{chat}/messages", json=body)).json()
    assert message["params"] == {"temperature": 0.5}
    path = f"/ui/chats/{chat}/messages/{message['id']}"
    growing = (await visitor.patch(path, json={"content": "Hel", "reasoning": "Hm"})).json()
    assert growing == message | {"content": "Hel", "reasoning": "Hm"}
    end = {
        "content": "Hello",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "finish_reason": "stop",
        "state": "whole",
    }
    whole = (await visitor.patch(path, json=end)).json()
    assert whole == growing | end
    failed = {"error": {"message": "x", "code": "engine_died"}, "finish_reason": None}
    assert (await visitor.patch(path, json=failed)).json() == whole | failed
    assert (await visitor.get(f"/ui/chats/{chat}/messages")).json()["data"][1] == whole | failed


async def test_branches(visitor: httpx.AsyncClient, chat: str) -> None:
    q1 = await say(visitor, chat, None, "q1")
    a1 = await say(visitor, chat, q1, "a1", "assistant")
    a2 = await say(visitor, chat, q1, "a2", "assistant")
    q3 = await say(visitor, chat, a1, "q3")
    root2 = await say(visitor, chat, None, "other q1")
    assert await leaf_of(visitor, chat) == root2
    assert await texts(visitor, chat) == ["other q1"]
    # A leaf that others follow stands for the newest one below it.
    for leaf, end, branch in (
        (q3, q3, ["q1", "a1", "q3"]),
        (a1, q3, ["q1", "a1", "q3"]),
        (a2, a2, ["q1", "a2"]),
        (q1, q3, ["q1", "a1", "q3"]),
    ):
        assert await texts(visitor, chat, leaf=leaf) == branch
        changed = (await visitor.patch(f"/ui/chats/{chat}", json={"leaf": leaf})).json()
        assert changed["leaf"] == end
        assert await texts(visitor, chat) == branch
    page = (await visitor.get(f"/ui/chats/{chat}/messages?leaf={q3}")).json()["data"]
    assert [one["siblings"] for one in page] == [[q1, root2], [a1, a2], [q3]]
    assert [one["parent"] for one in page] == [None, q1, a1]
    assert (await visitor.get(f"/ui/chats/{chat}")).json()["messages"] == 5


async def test_deleting_takes_what_follows_and_shows_what_is_left(
    visitor: httpx.AsyncClient, chat: str
) -> None:
    q1 = await say(visitor, chat, None, "q1")
    a1 = await say(visitor, chat, q1, "a1", "assistant")
    a2 = await say(visitor, chat, q1, "a2", "assistant")
    q2 = await say(visitor, chat, a2, "q2")
    await say(visitor, chat, q2, "a3", "assistant")
    root2 = await say(visitor, chat, None, "other")
    await visitor.patch(f"/ui/chats/{chat}", json={"leaf": q2})

    async def delete(number: str) -> tuple[str | None, int]:
        answer = (await visitor.delete(f"/ui/chats/{chat}/messages/{number}")).json()
        assert (answer["id"], answer["deleted"]) == (number, True)
        shown = (await visitor.get(f"/ui/chats/{chat}")).json()
        assert shown["leaf"] == answer["leaf"]
        return answer["leaf"], shown["messages"]

    # To the message before; where that has another answer, to that one.
    assert await delete(q2) == (a2, 4)
    assert await texts(visitor, chat) == ["q1", "a2"]
    assert await delete(a2) == (a1, 3)
    assert await texts(visitor, chat) == ["q1", "a1"]
    # What is not shown changes nothing of what is.
    await visitor.patch(f"/ui/chats/{chat}", json={"leaf": root2})
    assert await delete(a1) == (root2, 2)
    assert await delete(root2) == (q1, 1)
    assert await delete(q1) == (None, 0)
    assert (await visitor.get(f"/ui/chats/{chat}/messages")).json() == {"data": [], "before": None}
    answer = await visitor.delete(f"/ui/chats/{chat}/messages/{q1}")
    assert (answer.status_code, answer.json()) == (404, error(f"Message with id '{q1}' not found."))


async def test_pages_of_a_branch(visitor: httpx.AsyncClient, chat: str) -> None:
    parent = None
    numbers = []
    for n in range(7):
        parent = await say(visitor, chat, parent, str(n))
        numbers.append(parent)
    first = (await visitor.get(f"/ui/chats/{chat}/messages?limit=3")).json()
    assert [one["content"] for one in first["data"]] == ["4", "5", "6"]
    assert first["before"] == numbers[4]
    second = (await visitor.get(f"/ui/chats/{chat}/messages?limit=3&before={numbers[4]}")).json()
    assert [one["content"] for one in second["data"]] == ["1", "2", "3"]
    assert second["before"] == numbers[1]
    last = (await visitor.get(f"/ui/chats/{chat}/messages?limit=3&before={numbers[1]}")).json()
    assert ([one["content"] for one in last["data"]], last["before"]) == (["0"], None)
    assert await texts(visitor, chat, before=numbers[0]) == []
    assert await texts(visitor, chat, limit=7) == list("0123456")


async def test_pages_of_long_messages_are_short(visitor: httpx.AsyncClient, chat: str) -> None:
    parent = None
    for letter in "abcde":
        parent = await say(visitor, chat, parent, letter * 1_500_000)
    page = (await visitor.get(f"/ui/chats/{chat}/messages")).json()
    assert [one["content"][0] for one in page["data"]] == ["d", "e"]
    page = (await visitor.get(f"/ui/chats/{chat}/messages?before={page['before']}")).json()
    assert [one["content"][0] for one in page["data"]] == ["b", "c"]
    page = (await visitor.get(f"/ui/chats/{chat}/messages?before={page['before']}")).json()
    assert ([one["content"][0] for one in page["data"]], page["before"]) == (["a"], None)


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("\n\n  What   is\tthis?  \nMore", "What is this?"),
        ("x" * 61, "x" * 60),
        ("x" * 59 + " yz", "x" * 59),
        ("天" * 70, "天" * 60),
        (" \n ", ""),
        ("", ""),
    ],
)
async def test_the_first_question_names_the_chat(
    content: str, title: str, visitor: httpx.AsyncClient, chat: str
) -> None:
    system = await say(visitor, chat, None, "Be brief.", "system")
    first = await say(visitor, chat, system, content)
    assert (await visitor.get(f"/ui/chats/{chat}")).json()["title"] == title
    await say(visitor, chat, first, "Second")
    assert (await visitor.get(f"/ui/chats/{chat}")).json()["title"] == (title or "Second")


async def test_a_name_that_was_given_stays(visitor: httpx.AsyncClient) -> None:
    chat = await begin(visitor, title="Mine")
    await say(visitor, chat, None, "Hi")
    assert (await visitor.get(f"/ui/chats/{chat}")).json()["title"] == "Mine"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"parent": "msg_0"}, "parent"),
    ({"parent": "'"}, "parent"),
    ({"role": "tool"}, "role"),
    ({"content": "x" * 2_000_001}, "content"),
    ({"content": None}, "content"),
    ({"content": ["x"]}, "content"),
    ({"reasoning": "x" * 2_000_001}, "reasoning"),
    ({"model": ""}, "model"),
    ({"params": {"nothing": 1}}, "params.nothing"),
    ({"usage": {"x": "y" * 16_384}}, "usage"),
    ({"usage": [1]}, "usage"),
    ({"usage": {"x": functools.reduce(lambda inside, _: [inside], range(300), 1)}}, "usage"),
    ({"error": {"x": "y" * 16_384}}, "error"),
    ({"finish_reason": "x" * 201}, "finish_reason"),
    ({"state": "done"}, "state"),
    ({"id": "msg_1"}, "id"),
]


@pytest.mark.parametrize(("wrong", "param"), WRONG)
async def test_wrong_messages(
    wrong: dict[str, Any], param: str, visitor: httpx.AsyncClient, chat: str
) -> None:
    body = {"parent": None, "role": "user", "content": "Hi"} | wrong
    answer = await visitor.post(f"/ui/chats/{chat}/messages", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert (await visitor.get(f"/ui/chats/{chat}")).json()["messages"] == 0


@pytest.mark.parametrize("left_out", ["parent", "role", "content"])
async def test_what_a_message_needs(left_out: str, visitor: httpx.AsyncClient, chat: str) -> None:
    body = {"parent": None, "role": "user", "content": "Hi"}
    del body[left_out]
    answer = await visitor.post(f"/ui/chats/{chat}/messages", json=body)
    assert answer.json()["error"]["code"] == "missing_required_parameter"
    assert answer.json()["error"]["param"] == left_out


async def test_what_stays_as_it_was_made(visitor: httpx.AsyncClient, chat: str) -> None:
    number = await say(visitor, chat, None, "Hi")
    for field in ("role", "parent", "model", "params", "id", "created"):
        path = f"/ui/chats/{chat}/messages/{number}"
        answer = await visitor.patch(path, json={field: None})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


@pytest.mark.parametrize(
    ("query", "param", "message"),
    [
        ({"leaf": "msg_0"}, "leaf", "There is no message 'msg_0' in this chat."),
        ({"before": "msg_0"}, "before", "There is no message 'msg_0' in this chat."),
        ({"limit": 201}, "limit", "Invalid value for 'limit'"),
        ({"leaf": "\x00"}, "leaf", "Invalid value for 'leaf'"),
    ],
)
async def test_wrong_queries(
    query: dict[str, Any], param: str, message: str, visitor: httpx.AsyncClient, chat: str
) -> None:
    answer = await visitor.get(f"/ui/chats/{chat}/messages", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert message in answer.json()["error"]["message"]
