"""Chats as files: what an export holds, and what an import makes of it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.page import MESSAGE, another, arrive, begin, say, texts
from tests.support.ranch import Ranch, error, in_process


def anonymous(file: dict[str, Any]) -> dict[str, Any]:
    """A file whose ids are numbered by their places."""
    text = copy.deepcopy(file)
    for at, chat in enumerate(text["chats"]):
        places = {one["id"]: f"{at}.{n}" for n, one in enumerate(chat["messages"])}
        chat["id"] = str(at)
        chat["leaf"] = places.get(chat["leaf"])
        for message in chat["messages"]:
            message["id"] = places[message["id"]]
            message["parent"] = places.get(message["parent"])
    return text


async def test_a_file_of_one_chat(visitor: httpx.AsyncClient) -> None:
    chat = await begin(visitor, title="Über / Öfen", model="tiny", settings={"seed": 1})
    root = await say(visitor, chat, None, "q")
    one = await say(visitor, chat, root, "a", "assistant")
    two = await say(visitor, chat, root, "b", "assistant")
    await visitor.patch(f"/ui/chats/{chat}", json={"pinned": True, "leaf": one})
    answer = await visitor.get(f"/ui/chats/{chat}/export")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"_ber _ _fen.json\"; filename*=UTF-8''%C3%9Cber%20_%20%C3%96fen.json"
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    file = answer.json()
    shown = (await visitor.get(f"/ui/chats/{chat}")).json()
    messages = file["chats"][0].pop("messages")
    del shown["messages"]
    assert file == {"format": "corral-chats", "version": 1, "chats": [shown]}
    for message in messages:
        assert message.pop("created") > 1_700_000_000
    said = [(root, None, "user", "q"), (one, root, "assistant", "a"), (two, root, "assistant", "b")]
    assert messages == [
        MESSAGE | {"id": number, "parent": parent, "role": role, "content": content}
        for number, parent, role, content in said
    ]


async def test_an_export_can_be_imported(keeping: Ranch, visitor: httpx.AsyncClient) -> None:
    for title in ("empty", "full", "also empty", "long"):
        chat = await begin(visitor, title=title)
        if title == "full":
            root = await say(visitor, chat, None, "first\x00 words")
            await say(visitor, chat, root, "a", "assistant")
            await say(visitor, chat, root, "b", "assistant")
            await visitor.patch(f"/ui/chats/{chat}", json={"pinned": True})
        if title == "long":
            parent = None
            for letter in "abcdef":
                parent = await say(visitor, chat, parent, letter * 1_500_000)
    answer = await visitor.get("/ui/export")
    assert re.fullmatch(
        r'attachment; filename="(corral-chats-\d{4}-\d\d-\d\d\.json)"; filename\*=UTF-8\'\'\1',
        answer.headers["content-disposition"],
    )
    file = answer.json()
    assert [chat["title"] for chat in file["chats"]] == ["full", "long", "also empty", "empty"]
    assert [len(chat["messages"]) for chat in file["chats"]] == [3, 6, 0, 0]
    async with another(keeping) as other:
        await arrive(other)
        assert (await other.post("/ui/import", json=file)).json() == {"imported": 4}
        again = (await other.get("/ui/export")).json()
        assert anonymous(again) == anonymous(file)
        old = {chat["id"] for chat in file["chats"]}
        assert not old & {chat["id"] for chat in again["chats"]}
        # And it goes on from there.
        full = (await other.get("/ui/chats?q=first")).json()["data"][0]
        assert full["messages"] == 3
        await say(other, full["id"], full["leaf"], "more")
        assert await texts(other, full["id"]) == ["first\x00 words", "b", "more"]
        # A second time they are there twice.
        await other.post("/ui/import", json=file)
        assert len((await other.get("/ui/chats")).json()["data"]) == 8
    assert len((await visitor.get("/ui/chats")).json()["data"]) == 4


async def test_an_empty_export(visitor: httpx.AsyncClient) -> None:
    file = (await visitor.get("/ui/export")).json()
    assert file == {"format": "corral-chats", "version": 1, "chats": []}
    assert (await visitor.post("/ui/import", json=file)).json() == {"imported": 0}


async def test_markdown(visitor: httpx.AsyncClient) -> None:
    chat = await begin(visitor)
    system = await say(visitor, chat, None, "Be brief.", "system")
    first = await say(visitor, chat, system, "What is *this*?")
    await say(visitor, chat, first, "Not shown.", "assistant")
    body = {
        "parent": first,
        "role": "assistant",
        "content": "A test.\n\n```py\nx = 1\n```\n",
        "reasoning": "Hm.\n",
        "model": "tiny",
    }
    await visitor.post(f"/ui/chats/{chat}/messages", json=body)
    answer = await visitor.get(f"/ui/chats/{chat}/export?format=markdown")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"What is _this__.md\"; filename*=UTF-8''What%20is%20_this__.md"
    )
    assert answer.text == (
        "# What is *this*?\n\n## System\n\nBe brief.\n\n## User\n\nWhat is *this*?\n\n"
        "## Assistant (tiny)\n\n<details><summary>Reasoning</summary>\n\nHm.\n\n</details>\n\n"
        "A test.\n\n```py\nx = 1\n```\n"
    )


async def test_markdown_of_nothing(visitor: httpx.AsyncClient) -> None:
    chat = await begin(visitor)
    answer = await visitor.get(f"/ui/chats/{chat}/export?format=markdown")
    assert answer.text == "# Chat\n"
    answer = await visitor.get(f"/ui/chats/{chat}/export?format=pdf")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "format")


@pytest.mark.parametrize("title", ['a"b', "../../etc/passwd", "a\\b", "x; filename=y", "\u202ex"])
async def test_a_title_is_no_path_and_no_header(title: str, visitor: httpx.AsyncClient) -> None:
    chat = await begin(visitor, title=title)
    answer = await visitor.get(f"/ui/chats/{chat}/export")
    match = re.fullmatch(
        r"""attachment; filename="([^"/\\]*)"; filename\*=UTF-8''[0-9A-Za-z%._~-]*""",
        answer.headers["content-disposition"],
    )
    assert match
    assert match[1].endswith(".json")


def chat_of(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A file of one chat."""
    whole = [{"role": "user", "content": "x", "created": 1, "parent": None} | m for m in messages]
    chat = {"title": "t", "created": 1, "updated": 2.5, "messages": whole} | fields
    return {"format": "corral-chats", "version": 1, "chats": [chat]}


async def test_the_least_that_a_file_says(visitor: httpx.AsyncClient) -> None:
    file = chat_of({"id": "1"}, {"id": "2", "parent": "1", "siblings": ["2"]}, owner="x")
    assert (await visitor.post("/ui/import", json=file)).json() == {"imported": 1}
    (chat,) = (await visitor.get("/ui/chats")).json()["data"]
    assert (chat["created"], chat["updated"], chat["messages"]) == (1.0, 2.5, 2)
    assert await texts(visitor, chat["id"]) == ["x", "x"]


@pytest.mark.parametrize(
    ("leaf", "branch"),
    [(None, ["d"]), ("a", ["a", "b"]), ("b", ["a", "b"]), ("c", ["c"]), ("d", ["d"])],
)
async def test_the_leaf_of_a_file(
    leaf: str | None, branch: list[str], visitor: httpx.AsyncClient
) -> None:
    said = [{"id": "a"}, {"id": "b", "parent": "a"}, {"id": "c"}, {"id": "d"}]
    messages = [{"content": one["id"]} | one for one in said]
    await visitor.post("/ui/import", json=chat_of(*messages, leaf=leaf))
    (chat,) = (await visitor.get("/ui/chats")).json()["data"]
    assert await texts(visitor, chat["id"]) == branch


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"format": "other"}, "format", "corral-chats"),
    ({"version": 2}, "version", "should be 1"),
    ({"chats": {}}, "chats", "must be an array"),
    (chat_of({"id": "1", "parent": "2"}, {"id": "2"}), "chats.0", "no message before '1'"),
    (chat_of({"id": "1", "parent": "1"}), "chats.0", "no message before '1' is its parent"),
    (chat_of({"id": "1"}, {"id": "1"}), "chats.0", "there are two messages '1'"),
    (chat_of({"id": "1"}, leaf="2"), "chats.0", "there is no message '2' that is its leaf"),
    (chat_of({"id": "1", "created": -1}), "chats.0.messages.0.created", "greater than"),
    (chat_of({"id": "1", "created": 1e12}), "chats.0.messages.0.created", "less than"),
    (chat_of({"id": "1", "role": "x"}), "chats.0.messages.0.role", "user"),
    (chat_of({"id": "1", "content": "x" * 2_000_001}), "chats.0.messages.0.content", "2000000"),
    (chat_of({"id": "1"}, title="x" * 201), "chats.0.title", "200"),
    (chat_of({"id": "1"}, settings={"top_p": 0}), "chats.0.settings.top_p", "greater than 0"),
]


@pytest.mark.parametrize(("wrong", "param", "reason"), WRONG)
async def test_wrong_files_import_nothing(
    wrong: dict[str, Any], param: str, reason: str, visitor: httpx.AsyncClient
) -> None:
    good = chat_of({"id": "1"})
    file = good | wrong
    if "chats" in wrong and isinstance(wrong["chats"], list):
        file["chats"] = [*good["chats"], *wrong["chats"]]
        param = param.replace("chats.0", "chats.1")
    answer = await visitor.post("/ui/import", json=file)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert reason in answer.json()["error"]["message"]
    assert (await visitor.get("/ui/chats")).json()["data"] == []


async def test_a_file_that_is_too_large(
    make_ranch: Callable[..., Ranch], database_url: str
) -> None:
    ranch = make_ranch(database_url=database_url, max_body_bytes=100_000)
    async with in_process(ranch) as client:
        await arrive(client)
        answer = await client.post(
            "/ui/import", json=chat_of({"id": "1", "content": "x" * 100_000})
        )
        assert (answer.status_code, answer.json()) == (
            413,
            error(
                "The request body is larger than 100000 bytes, this server's limit. Send a shorter "
                "conversation or prompt."
            ),
        )
