"""Event streams at the level of ASGI messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from server.api.event_stream import Begun, ClientLeft, EventStream, until_disconnect
from tests.support.ranch import until

COMMENT = b": keep-alive\n\n"


class Client:
    """The other end: what it was sent, and when it leaves."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.left = asyncio.Event()

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent[1:]]

    async def get(self, stream: EventStream) -> None:
        async with asyncio.timeout(5):
            await stream({"type": "http"}, self.receive, self.send)


class Frames:
    """Frames that know whether they were closed."""

    def __init__(self, *steps: bytes | float | asyncio.Event) -> None:
        self.steps = steps
        self.closed = False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for step in self.steps:
                if isinstance(step, bytes):
                    yield step
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    await asyncio.sleep(step)
        finally:
            self.closed = True


async def test_frames_and_the_end() -> None:
    client, frames = Client(), Frames(b"a", b"b")
    await client.get(EventStream(frames(), {"x-a": "b"}))
    start, *bodies = client.sent
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert (b"x-a", b"b") in start["headers"]
    assert [(m["body"], m["more_body"]) for m in bodies] == [
        (b"a", True),
        (b"b", True),
        (b"", False),
    ]
    assert frames.closed


async def test_comments_while_nothing_flows() -> None:
    client, go = Client(), asyncio.Event()
    stream = EventStream(Frames(b"a", go, b"b")(), keep_alive_seconds=0.01)
    task = asyncio.create_task(client.get(stream))
    await until(lambda: client.bodies.count(COMMENT) >= 2)
    go.set()
    await task
    assert client.bodies[0] == b"a"
    assert client.bodies[-2:] == [b"b", b""]
    assert set(client.bodies[1:-2]) == {COMMENT}


async def test_no_comment_while_frames_flow_and_none_after_the_end() -> None:
    client = Client()
    steps = [item for _ in range(10) for item in (b"x", 0.002)]
    await client.get(EventStream(Frames(*steps)(), keep_alive_seconds=10))
    assert client.bodies == [b"x"] * 10 + [b""]


async def test_the_frames_are_closed_at_once_when_the_client_leaves() -> None:
    client, frames = Client(), Frames(b"a", asyncio.Event())
    task = asyncio.create_task(client.get(EventStream(frames())))
    await until(lambda: client.bodies)
    assert not frames.closed
    client.left.set()
    await task
    assert frames.closed
    assert client.bodies == [b"a"], "nobody is left to be told of the end"


async def test_a_source_is_closed_even_if_no_frame_was_ever_asked_for() -> None:
    source = Frames(b"delta", asyncio.Event())
    begun = source()
    await anext(begun)

    class Broken(Client):
        async def send(self, message: Any) -> None:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await Broken().get(EventStream(Frames(b"a")(), source=begun))
    assert source.closed


async def test_a_failing_iterator_is_not_hidden() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise ValueError("a bug")

    client = Client()
    with pytest.raises(ValueError, match="a bug"):
        await client.get(EventStream(frames()))
    assert client.bodies == [b"a"], "no regular end"


class Request:
    def __init__(self, client: Client) -> None:
        self.receive = client.receive


async def test_work_goes_on_until_the_client_leaves() -> None:
    client, ended = Client(), asyncio.Event()

    async def work(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.set()
        return "done"

    request: Any = Request(client)
    assert await until_disconnect(request, work(0)) == "done"
    ended.clear()
    asyncio.get_running_loop().call_later(0.02, client.left.set)
    with pytest.raises(ClientLeft):
        await until_disconnect(request, work(60))
    assert ended.is_set(), "its clean-up has run before the answer is given up"


async def test_errors_of_the_work_come_through() -> None:
    async def fail() -> None:
        raise ValueError("x")

    request: Any = Request(Client())
    with pytest.raises(ValueError, match="x"):
        await until_disconnect(request, fail())


async def test_a_begun_iterator_has_all_its_items() -> None:
    frames = Frames(b"1", 0.01, b"2")
    begun = await Begun.begin(Request(Client()), frames())
    assert [item async for item in begun] == [b"1", b"2"]


async def test_an_empty_one_has_none() -> None:
    begun = await Begun.begin(Request(Client()), Frames()())
    assert [item async for item in begun] == []


async def test_who_waits_too_long_for_the_first_item_goes_on_without() -> None:
    event = asyncio.Event()
    begun = await Begun.begin(Request(Client()), Frames(event, b"1", b"2")(), seconds=0.01)
    event.set()
    assert [item async for item in begun] == [b"1", b"2"]


async def test_an_early_failure_is_raised() -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        raise ZeroDivisionError
        yield b""

    with pytest.raises(ZeroDivisionError):
        await Begun.begin(Request(Client()), failing())


async def test_who_leaves_before_the_first_item_closes_it() -> None:
    client, frames = Client(), Frames(30.0)
    client.left.set()
    with pytest.raises(ClientLeft):
        await Begun.begin(Request(client), frames())
    assert frames.closed


async def test_it_can_be_closed_while_the_first_item_is_awaited() -> None:
    frames = Frames(30.0)
    begun = await Begun.begin(Request(Client()), frames(), seconds=0.01)
    await begun.aclose()
    assert frames.closed
