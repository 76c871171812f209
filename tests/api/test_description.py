"""The description of the API: complete, and of one mind with the server about what is right.

`tests/fuzz` compares far more of both; here is what it found, and what it cannot see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from server.api.progress import LoadProgress
from server.engines.states import Status
from tests.support.as_described import Described
from tests.support.messages import ask as message
from tests.support.ranch import Ranch, chat, error, in_process, user
from tests.support.spelled import SpelledFormat
from tests.support.stored import ask as response

TOOL = {"type": "function", "function": {"name": "f"}}
FLAT_TOOL = {"type": "function", "name": "f"}
SAID = [{"type": "text", "text": "x"}]
# Answers that are no JSON.
PLAIN = {
    "POST /v1/load_lora_adapter": "text/plain",
    "POST /v1/unload_lora_adapter": "text/plain",
    "GET /admin/models/{model}/logs": "text/plain",
    "GET /admin/events": "text/event-stream",
}


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    ranch = make_ranch(database_url=database_url)
    ranch.format = SpelledFormat()
    return ranch


@pytest.fixture(scope="module")
def description(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a server without keys says of itself."""
    return Described(Ranch(model_directory, tmp_path_factory.mktemp("cache")).app).description


def operations(description: Any) -> Iterator[tuple[str, Any]]:
    """Every operation with its name: ``GET /v1/models``."""
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def is_described(description: Any, component: str, value: Any) -> bool:
    """Whether ``value`` is a ``component`` as the description has it."""
    resource = Resource.from_contents(description, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:corral", resource)
    schema = {"$ref": f"urn:corral#/components/schemas/{component}"}
    return bool(Draft202012Validator(schema, registry=registry).is_valid(value))


def tokens(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny"} | fields


def turn(**fields: Any) -> dict[str, Any]:
    """A chat whose first message has these fields; an assistant's if it calls something."""
    role = "assistant" if "tool_calls" in fields else "user"
    return chat(messages=[{"role": role, "content": "x"} | fields, user()])


AGREED = [
    ("chat/completions", "ChatBody", chat(), 200),
    ("chat/completions", "ChatBody", chat(messages=[]), 400),
    ("chat/completions", "ChatBody", chat(messages=[{"role": "king", "content": "x"}]), 400),
    ("chat/completions", "ChatBody", chat(messages=[{"role": "user"}]), 400),
    ("chat/completions", "ChatBody", chat(messages=[user(), {"role": "assistant"}, user()]), 200),
    ("chat/completions", "ChatBody", chat(messages=[{"role": "tool", "content": SAID}]), 200),
    ("chat/completions", "ChatBody", chat(messages=[{"role": "user", "content": []}]), 400),
    ("chat/completions", "ChatBody", turn(input="more"), 200),
    ("chat/completions", "ChatBody", turn(input=None), 200),
    ("chat/completions", "ChatBody", turn(input=[]), 400),
    ("chat/completions", "ChatBody", turn(input={}), 400),
    ("chat/completions", "ChatBody", turn(tool_calls=[]), 200),
    ("chat/completions", "ChatBody", turn(tool_calls=None), 200),
    ("chat/completions", "ChatBody", turn(tool_calls=""), 400),
    ("chat/completions", "ChatBody", turn(tool_calls={}), 400),
    ("chat/completions", "ChatBody", chat(stop=["a", "b"]), 200),
    ("chat/completions", "ChatBody", chat(stop=""), 400),
    ("chat/completions", "ChatBody", chat(stop=["x"] * 65), 400),
    ("chat/completions", "ChatBody", chat(stop=["x" * 257]), 400),
    ("chat/completions", "ChatBody", chat(allowed_token_ids=[]), 400),
    ("chat/completions", "ChatBody", chat(truncate_prompt_tokens=0), 400),
    ("chat/completions", "ChatBody", chat(truncate_prompt_tokens=-1), 200),
    ("chat/completions", "ChatBody", chat(logit_bias={"70": 1}), 200),
    ("chat/completions", "ChatBody", chat(logit_bias={"a": 1}), 400),
    ("chat/completions", "ChatBody", chat(logit_bias={"70": 101}), 400),
    ("chat/completions", "ChatBody", chat(repetition_penalty=0.01), 200),
    ("chat/completions", "ChatBody", chat(repetition_penalty=5e-324), 400),
    ("chat/completions", "ChatBody", chat(seed=2**63 - 1), 200),
    ("chat/completions", "ChatBody", chat(seed=2**63), 400),
    ("chat/completions", "ChatBody", chat(tools=[]), 400),
    ("chat/completions", "ChatBody", chat(tools=[TOOL | {"type": "custom"}]), 400),
    ("chat/completions", "ChatBody", chat(tools=[{"type": "function", "function": {}}]), 400),
    ("chat/completions", "ChatBody", chat(response_format={"type": "text"}), 200),
    ("chat/completions", "ChatBody", chat(response_format={"type": "xml"}), 400),
    ("chat/completions", "ChatBody", chat(response_format={"type": "json_schema"}), 400),
    ("chat/completions", "ChatBody", chat(structured_outputs={}), 400),
    ("chat/completions", "ChatBody", chat(structured_outputs={"choice": []}), 400),
    ("chat/completions", "ChatBody", chat(structured_outputs={"choice": ["a"]}), 200),
    ("completions", "CompletionBody", tokens(prompt="x"), 200),
    ("completions", "CompletionBody", tokens(prompt=[]), 400),
    ("completions", "CompletionBody", tokens(prompt=[[]]), 400),
    ("completions", "CompletionBody", tokens(prompt=[[70], [71]]), 200),
    ("completions", "CompletionBody", tokens(prompt=[2**31]), 400),
    ("completions", "CompletionBody", tokens(prompt="x", suffix=""), 200),
    ("completions", "CompletionBody", tokens(prompt="x", suffix="y"), 400),
    ("tokenize", "TokenizeBody", tokens(prompt="x"), 200),
    ("tokenize", "TokenizeBody", tokens(prompt="x", messages=None), 200),
    ("tokenize", "TokenizeBody", tokens(), 400),
    ("tokenize", "TokenizeBody", tokens(prompt=None), 400),
    ("tokenize", "TokenizeBody", tokens(prompt="x", messages=[user()]), 400),
    ("tokenize", "TokenizeBody", tokens(prompt="x", tools=[{"type": "spoon"}]), 400),
    ("tokenize", "TokenizeBody", tokens(prompt="x", tools=[TOOL]), 200),
    ("messages", "MessagesBody", message(), 200),
    ("messages", "MessagesBody", message(messages=[]), 400),
    ("messages", "MessagesBody", message(system=SAID), 200),
    ("messages", "MessagesBody", message(system=[]), 200),
    ("messages", "MessagesBody", message(system=0), 400),
    ("messages", "MessagesBody", message(system=False), 400),
    ("messages", "MessagesBody", message(system={}), 400),
    ("messages", "MessagesBody", message(stop_sequences=[""]), 400),
    ("messages", "MessagesBody", message(tool_choice={"type": "auto"}), 200),
    (
        "messages",
        "MessagesBody",
        message(tool_choice={"type": "auto", "disable_parallel_tool_use": 1}),
        400,
    ),
    ("messages", "MessagesBody", message(thinking={}), 400),
    ("messages", "MessagesBody", message(output_config={"format": {"type": "text"}}), 400),
    (
        "messages/count_tokens",
        "CountTokensBody",
        {"model": "tiny", "messages": [user()], "output_config": {"format": 5}},
        400,
    ),
    ("responses", "ResponseBody", response(), 200),
    ("responses", "ResponseBody", response(conversation={}), 400),
    ("responses", "ResponseBody", response(conversation={"id": None}), 400),
    ("responses", "ResponseBody", response(conversation=None), 200),
    ("responses", "ResponseBody", response(include=["x"]), 400),
    ("responses", "ResponseBody", response(metadata=None), 200),
    ("responses", "ResponseBody", response(max_tool_calls=2**31), 400),
    ("responses", "ResponseBody", response(tools=[]), 200),
    ("responses", "ResponseBody", response(tools=[FLAT_TOOL]), 200),
    ("responses", "ResponseBody", response(tools=[{"type": "web_search"}]), 400),
    ("responses", "ResponseBody", response(text={"format": {"type": "json_schema"}}), 400),
    ("responses", "ResponseBody", response(input=[{"role": "user", "content": []}]), 400),
    ("responses", "ResponseBody", response(input=[{"role": "user", "content": "x"}]), 200),
    ("responses", "ResponseBody", response(input=[{"type": "user", "content": "x"}]), 400),
    ("responses", "ResponseBody", response(input=[user() | {"id": "a\0"}]), 400),
    ("conversations", "NewConversation", {}, 200),
    ("conversations", "NewConversation", {"metadata": None}, 200),
    ("conversations", "NewConversation", {"items": [{}]}, 400),
    ("conversations", "NewConversation", {"items": [user()]}, 200),
    ("conversations", "NewConversation", {"items": [{"type": "item_reference", "id": "a"}]}, 400),
]


@pytest.mark.parametrize(("path", "component", "body", "status"), AGREED)
async def test_what_is_right(
    path: str,
    component: str,
    body: Any,
    status: int,
    client: httpx.AsyncClient,
    description: Any,
) -> None:
    answer = await client.post(f"/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert is_described(description, component, body) is (status == 200)


async def test_what_a_stream_waits_for(ranch: Ranch, description: Any) -> None:
    event = LoadProgress(ranch.herd.resolve("tiny"), events=True).event().decode()
    data = json.loads(event.removeprefix("event: corral.progress\ndata: "))
    for status in get_args(Status):
        assert is_described(description, "ProgressEvent", data | {"status": status})
        assert is_described(description, "Health", {"status": "ok", "models": {"tiny": status}})
    assert not is_described(description, "ProgressEvent", data | {"status": "gone"})
    chunks = description["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    _, data = chunks["text/event-stream"]["schema"]["properties"]["data"]["anyOf"]
    assert {"$ref": "#/components/schemas/ProgressEvent"} in data["contentSchema"]["anyOf"]


async def test_thoughts_alone_are_no_input(client: httpx.AsyncClient) -> None:
    thought = {"type": "reasoning", "summary": []}
    answer = await client.post("/v1/responses", json=response(input=[thought]))
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "'input' holds nothing that a model could answer: send a message.",
        "type": "invalid_request_error",
        "param": "input",
        "code": None,
    }


async def test_a_base_model_that_is_told_nothing(make_ranch: Callable[..., Ranch]) -> None:
    said = {"messages": [user("")]}
    async with in_process(make_ranch([{"id": "base", "template": "raw"}])) as client:
        for path in ("chat/completions", "chat/completions/render"):
            answer = await client.post(f"/v1/{path}", json={"model": "base"} | said)
            assert answer.status_code == 400
            assert answer.json() == error(
                "The conversation is empty: say something.", param="messages"
            )


async def test_what_a_text_does_not_need_is_named(client: httpx.AsyncClient) -> None:
    body = tokens(prompt="x", tools=[TOOL], continue_final_message=True, add_special_tokens=True)
    answer = await client.post("/tokenize", json=body)
    assert answer.headers["x-corral-ignored-fields"] == "continue_final_message, tools"


@pytest.mark.parametrize("after", [-1, 2**31, "9" * 5000])
async def test_where_a_replay_cannot_begin(after: Any, client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/responses", json=response())).json()["id"]
    answer = await client.get(
        f"/v1/responses/{made}", params={"stream": "true", "starting_after": after}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "starting_after"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/health", "GET, HEAD"),
        ("/v1/models/tiny", "GET"),
        ("/v1/responses", "POST"),
        ("/v1/responses/x", "DELETE, GET"),
        ("/responses/x", "DELETE, GET"),
        ("/v1/conversations/x", "DELETE, GET, POST"),
        ("/v1/conversations/x/items", "GET, POST"),
        ("/v1/conversations/x/items/y", "DELETE, GET"),
    ],
)
async def test_methods_that_are_allowed(path: str, allowed: str, client: httpx.AsyncClient) -> None:
    answer = await client.put(path)
    assert (answer.status_code, answer.headers.get_list("allow")) == (405, [allowed])


async def test_keys_are_described_where_there_are_any(
    make_ranch: Callable[..., Ranch], description: Any
) -> None:
    needed = [{"bearer": []}, {"x-api-key": []}, {"api-key": []}]
    assert description["security"] == [*needed, {}]
    async with in_process(make_ranch(keys=["k"])) as client:
        headers = {"authorization": "Bearer k"}
        locked = (await client.get("/openapi.json", headers=headers)).json()
        assert locked["security"] == needed
        assert locked["components"]["securitySchemes"].keys() == {"bearer", "x-api-key", "api-key"}
        open_to_all = [name for name, one in operations(locked) if one.get("security") == []]
        assert open_to_all == ["GET /health"]


def test_every_answer_is_described(description: Any) -> None:
    for name, operation in operations(description):
        statuses = operation["responses"].keys()
        good = "201" if name == "POST /admin/models" else "200"
        assert {good} | ({"401"} if name != "GET /health" else set()) <= statuses, name
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= statuses, name
            strict = "strict" in [one["name"] for one in operation.get("parameters", ())]
            assert strict is ("/admin" not in name), name
        for status, answer in operation["responses"].items():
            kind = PLAIN.get(name, "application/json") if status == "200" else "application/json"
            schema = answer["content"][kind]["schema"]
            assert "$ref" in schema or "anyOf" in schema or kind != "application/json"
            assert {"x-request-id", "openai-processing-ms"} <= answer["headers"].keys()
            if not status.startswith("2"):
                body = "MessageErrorBody" if "/v1/messages" in name else "ErrorBody"
                assert schema == {"$ref": f"#/components/schemas/{body}"}, (name, status)


def test_every_reference_leads_somewhere(description: Any) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            value = list(value.values())
        if isinstance(value, list):
            for inner in value:
                yield from references(inner)

    found = set(references(description))
    assert "#/components/schemas/ChatChunk" in found
    for reference in found:
        _, kind, group, name = reference.split("/")
        assert name in description[kind][group], reference


def test_operations_have_short_names_and_links(description: Any) -> None:
    found = {one["operationId"]: one for _, one in operations(description)}
    assert len(found) == 36
    assert found["create_items"]["responses"]["200"]["links"]["get_item"] == {
        "operationId": "get_item",
        "parameters": {
            "conversation_id": "$request.path.conversation_id",
            "item_id": "$response.body#/data/0/id",
        },
    }
    linked = {
        name
        for operation in found.values()
        for name in operation["responses"].get("200", {}).get("links", {})
    }
    assert linked <= found.keys()
