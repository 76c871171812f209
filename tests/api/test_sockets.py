"""What only shows on real sockets: clients that leave, large bodies, the official SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable

import httpx
import openai
import pytest

from server.engines.base import Delta
from server.errors import EngineDied
from tests.support.ranch import Ranch, chat, error, events, listening, until

URL = "/v1/chat/completions"


@pytest.fixture
async def url(ranch: Ranch) -> AsyncGenerator[str, None]:
    async with listening(ranch) as address:
        yield address


@pytest.mark.parametrize(
    ("stream", "steps"),
    [
        pytest.param(True, [Delta(0, "Hel", [1]), 30.0], id="while it streams"),
        pytest.param(True, [30.0], id="before the first delta"),
        pytest.param(False, [Delta(0, "Hel", [1]), 30.0], id="without streaming"),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "completions", "several"])
async def test_a_client_that_leaves_aborts_its_request(
    stream: bool, steps: list[Delta | float], path: str, ranch: Ranch, url: str
) -> None:
    ranch.play(*steps)
    if path == "several":
        path, body, count = "completions", {"model": "tiny", "prompt": ["a", "b"]}, 2
        ranch.script = lambda _: [
            step if isinstance(step, float) else Delta(0, "Hel", [1]) for step in steps
        ]
    else:
        body, count = chat() | {"prompt": "x"}, 1
    async with httpx.AsyncClient(base_url=url) as client:
        call = asyncio.create_task(leaving(client, f"/v1/{path}", body | {"stream": stream}))
        await until(lambda: len(ranch.requests) == count)
        await asyncio.sleep(0.05)
        assert ranch.aborted == []
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await until(lambda: len(ranch.aborted) == count)
    assert sorted(ranch.aborted) == sorted(request.request_id for request in ranch.requests)
    assert ranch.herd.resolve("tiny").engines.state.requests == 0


async def leaving(client: httpx.AsyncClient, path: str, body: object) -> None:
    async with client.stream("POST", path, json=body) as answer:
        async for _ in answer.aiter_bytes():
            pass


async def test_a_client_that_leaves_while_the_model_loads(
    make_ranch: Callable[..., Ranch],
) -> None:
    ranch = make_ranch()
    ranch.gate.clear()
    async with listening(ranch) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(URL, json=chat(stream=True), timeout=0.1)
        await asyncio.sleep(0.1)
        ranch.gate.set()
        await until(lambda: ranch.herd.resolve("tiny").engines.state.status == "ready")
        assert ranch.requests == []
        assert ranch.herd.resolve("tiny").engines.state.requests == 0
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post(URL, json=chat())).status_code == 200
        assert len([spec for spec in ranch.specs if spec.name == "tiny"]) == 1


async def test_a_client_that_leaves_with_half_a_body(ranch: Ranch, url: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":")[-1]))
    whole = json.dumps(chat())
    head = f"POST {URL} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(whole) + 5}\r\n\r\n{whole}".encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.05)
    assert ranch.requests == []


async def test_the_stream_on_the_wire(ranch: Ranch, url: str) -> None:
    seen = asyncio.Event()
    ranch.play_after(seen, [Delta(0, "a", [1])], Delta(0, "b", [1], "stop"))
    received = b""
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient(base_url=url) as client,
        client.stream("POST", URL, json=chat(stream=True)) as answer,
    ):
        assert answer.headers["transfer-encoding"] == "chunked"
        async for part in answer.aiter_raw():
            received += part
            if b'"content":"a"' in received:
                seen.set()  # the engine goes on once the first delta has arrived
    assert received.index(b'"content":"a"') < received.index(b'"content":"b"')
    assert received.endswith(b"data: [DONE]\n\n")


async def test_a_connection_serves_many_requests(ranch: Ranch, url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        for stream in (True, False, True):
            answer = await client.post(URL, json=chat(stream=stream))
            assert answer.status_code == 200
        assert (await client.get("/health")).status_code == 200
    assert ranch.aborted == []


async def test_a_body_that_is_far_too_large_is_still_answered(
    make_ranch: Callable[..., Ranch],
) -> None:
    ranch = make_ranch(max_body_bytes=100_000)

    async def chunks() -> AsyncGenerator[bytes, None]:
        for _ in range(100):
            yield b"x" * 100_000

    async with listening(ranch) as url, httpx.AsyncClient(base_url=url) as client:
        for content in (b"x" * 10_000_000, chunks()):
            answer = await client.post(URL, content=content)
            assert answer.status_code == 413
            assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_the_official_sdk(ranch: Ranch, url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="-", max_retries=0) as client:
        messages = [{"role": "user", "content": "Hi"}]
        whole = await client.chat.completions.create(model="tiny", messages=messages)  # type: ignore[arg-type]
        assert whole.choices[0].message.content == "Hello"
        assert whole.usage is not None
        assert whole.usage.total_tokens == 24
        text = ""
        stream = await client.chat.completions.create(
            model="tiny",
            messages=messages,  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            usage = chunk.usage
        assert text == "Hello"
        assert usage is not None
        assert usage.completion_tokens == 3
        models = [model.id async for model in client.models.list()]
        assert models == ["tiny", "talker", "strict", "forgetful"]
        assert (await client.models.retrieve("org/tiny-chat")).id == "tiny"
        legacy = await client.completions.create(model="tiny", prompt=["a", "b"])
        assert [choice.text for choice in legacy.choices] == ["Hello", "Hello"]


async def test_the_official_sdk_without_asyncio(ranch: Ranch, url: str) -> None:
    def talk() -> str:
        with openai.OpenAI(base_url=url + "/v1", api_key="-", max_retries=0) as client:
            stream = client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert await asyncio.to_thread(talk) == "Hello"


async def test_the_sdks_errors(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch(keys=["right"])
    async with (
        listening(ranch) as url,
        openai.AsyncOpenAI(base_url=url + "/v1", api_key="right", max_retries=0) as client,
    ):
        messages = [{"role": "user", "content": "Hi"}]
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="none", messages=messages)  # type: ignore[arg-type]
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as long:
            await client.chat.completions.create(
                model="tiny",
                messages=messages,  # type: ignore[arg-type]
                max_tokens=5000,
            )
        assert (long.value.code, long.value.param) == ("context_length_exceeded", "messages")
        with pytest.raises(openai.AuthenticationError) as wrong:
            await client.with_options(api_key="wrong").models.list()
        assert wrong.value.code == "invalid_api_key"
        ranch.play(Delta(0, "Hel", [1]), EngineDied("gone"))
        stream = await client.chat.completions.create(
            model="tiny",
            messages=messages,  # type: ignore[arg-type]
            stream=True,
        )
        assert [(await anext(stream)).choices[0].delta.content for _ in "12"] == ["", "Hel"]
        with pytest.raises(openai.APIError, match="gone"):
            await anext(stream)


async def test_a_stream_that_outlasts_the_server_ends_with_an_error(ranch: Ranch) -> None:
    ranch.play(Delta(0, "Hel", [1]), 30.0)
    async with listening(ranch) as url:
        call = asyncio.create_task(whole(url, chat(stream=True)))
        await until(lambda: ranch.requests)
        await asyncio.sleep(0.1)
    answer = await call
    assert answer.status_code == 200
    assert events(answer.content)[-1] == STOPPING
    assert len(ranch.aborted) == 1


async def test_an_answer_that_outlasts_the_server_is_a_503(ranch: Ranch) -> None:
    ranch.play(30.0)
    async with listening(ranch) as url:
        call = asyncio.create_task(whole(url, chat()))
        await until(lambda: ranch.requests)
    answer = await call
    assert (answer.status_code, answer.json()) == (503, STOPPING)
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["access-control-allow-origin"] == "*"


STOPPING = error(
    "The server is stopping and could not finish this answer. Send it again.",
    kind="server_error",
    code="server_stopping",
)


async def whole(url: str, body: object) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url) as client:
        return await client.post(URL, json=body, headers={"origin": "http://elsewhere"})
