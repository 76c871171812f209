"""A whole server for tests: a real registry, tokenizer and app over scripted engines."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp, Message

from server.app import create_app
from server.engines.base import Delta, Engine, GenerationRequest
from server.engines.ledger import RAM, Ledger, Need
from server.engines.output import OutputFormat
from server.engines.pool import Pool
from server.engines.scripted import Embedding, ScriptedEngine, Step
from server.engines.spec import EngineSpec
from server.engines.states import Report
from server.generation.herd import Herd
from server.prompts.catalog import FORMATS
from server.registry.progress import NullProgress
from server.registry.schema import TEMPLATES_CONTEXT, Registry
from server.registry.sources import ModelStore
from tests.support.as_described import Described
from tests.unit.prompts.support_tokenizers import CHATML_SPECIALS, byte_level, write_model
from tests.unit.registry.conftest import CONFIG, safetensors_bytes

_DESCRIBED: Described | None = None
CONTEXT = 2048
# 3 special tokens, 256 bytes, 5 merges.
VOCABULARY = 264

# What the registry of most tests holds; `directory` is added. The engines differ by an argument.
MODELS: tuple[Mapping[str, Any], ...] = (
    {
        "id": "tiny",
        "aliases": ["org/tiny-chat"],
        "description": "A test.",
        "template": "chatml",
    },
    {
        "id": "talker",
        "template": "dialogue",
        "stop": ["THE END"],
        "sampling": {"temperature": 0.25, "top_k": -1, "max_tokens": 77, "seed": 5},
    },
    {"id": "strict", "template": "chatml", "context": {"length": 64}},
    {
        "id": "forgetful",
        "template": "chatml",
        "context": {"length": 128, "overflow": "drop_oldest"},
    },
)


def write_tiny_model(directory: Path) -> Path:
    """A model folder: real tokenizer, config and weights, all as small as can be."""
    write_model(
        directory,
        byte_level(CHATML_SPECIALS),
        tokenizer_config={"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
        config=CONFIG
        | {"eos_token_id": 2, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT},
    )
    (directory / "model.safetensors").write_bytes(safetensors_bytes())
    return directory


def hello(request: GenerationRequest) -> list[Step]:
    """Each answer in two deltas: 3 tokens."""
    return [
        delta
        for index in range(request.sampling.n)
        for delta in (
            Delta(index, "Hel", [10], cached_tokens=4),
            Delta(index, "lo", [11, 12], finish_reason="stop", cached_tokens=4),
        )
    ]


class Ranch:
    """Herd, engines and app.

    Args:
        directory: The model folder.
        cache: An empty folder.
        models: Registry entries; without ``source`` or ``base`` they get ``directory``.
        budget: Bytes that the engines may hold together.
        options: For `create_app`.

    Attributes:
        need_of_all: What each engine takes.
        later: Seconds by which the pool's clock is ahead.
        embedding: What engines made from now on do with texts; None: see `ScriptedEngine`.
        script: What every engine plays; may be changed at any time.
        gate: Engines are loaded while it is set, as it is at first.
        format: How the models write tool calls and reasoning; None: they do not.
        load_error: Raised by the next load.
        format: How the next engines read tool calls and reasoning.
        engines: Every engine made so far.
        specs: What they were made of.
    """

    def __init__(
        self,
        directory: Path,
        cache: Path,
        models: Iterable[Mapping[str, Any]] = MODELS,
        budget: int = 1 << 40,
        **options: Any,
    ) -> None:
        self.script: Callable[[GenerationRequest], Iterable[Step]] = hello
        self.gate = asyncio.Event()
        self.gate.set()
        self.format: OutputFormat | None = None
        self.load_error: Exception | None = None
        self.format: OutputFormat | None = None
        self.engines: list[ScriptedEngine] = []
        self.specs: list[EngineSpec] = []
        source = {"source": {"directory": str(directory)}}
        self.registry = Registry.model_validate(
            {"models": [dict(m) if "base" in m else source | dict(m) for m in models]},
            context={TEMPLATES_CONTEXT: FORMATS},
        )
        self.need_of_all = Need(weights=1, kv_cache=1)
        self.budget = budget
        self.later = 0.0
        self.embedding: Embedding | None = None
        self.pool = Pool(Ledger({}), clock=lambda: time.monotonic() + self.later)
        self.herd = Herd(
            self.registry, ModelStore(cache), self, lambda _: NullProgress(), self.pool
        )
        # Whether the chat page was built in this checkout is no matter; tests of it bring one.
        self.app: ASGIApp = create_app(self.herd, **({"page_folder": cache} | options))

    def play(self, *steps: Step) -> None:
        """Answer every request with these steps."""
        self.script = lambda _: list(steps)

    def play_after(self, event: asyncio.Event, before: Iterable[Step], after: Step) -> None:
        """Answer every request with steps, and with one more once ``event`` is set."""

        def script(_: GenerationRequest) -> Iterable[Step]:
            yield from before
            while not event.is_set():
                yield 0.005
            yield after

        self.script = script

    @property
    def requests(self) -> list[GenerationRequest]:
        """What the engines were asked."""
        return [request for engine in self.engines for request in engine.requests]

    @property
    def request(self) -> GenerationRequest:
        """The last thing they were asked."""
        return self.requests[-1]

    @property
    def aborted(self) -> list[str]:
        """Ids of requests that were ended early."""
        return [number for engine in self.engines for number in engine.aborted]

    def budgets(self, said: int | Mapping[str, int] | None) -> Mapping[str, int]:
        """What the test says, unless the registry does."""
        return {RAM: said if isinstance(said, int) else self.budget}

    async def need(self, spec: EngineSpec) -> Need:
        """What every engine takes."""
        return self.need_of_all

    async def make(self, spec: EngineSpec, devices: tuple[str, ...], report: Report) -> Engine:
        """An engine that plays the script of the moment."""
        report("loading the model")
        engine = ScriptedEngine(
            lambda request: self.script(request),  # noqa: PLW0108 - the script of that moment
            load_error=self.load_error,
            max_adapters=spec.max_adapters,
        )
        engine.format = self.format
        engine.embedding = self.embedding or engine.embedding
        self.engines.append(engine)
        self.specs.append(spec)
        await self.gate.wait()
        await engine.start()
        return engine


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncGenerator[None, None]:
    """Start an ASGI application and stop it."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(app(scope, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
        await task


@asynccontextmanager
async def in_process(
    ranch: Ranch, base_url: str = "http://corral"
) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client without sockets, which compares every answer with the API's description."""
    transport = httpx.ASGITransport(ranch.app, raise_app_exceptions=False)
    hooks = {"response": [_described(ranch.app).check]}
    async with (
        lifespan(ranch.app),
        httpx.AsyncClient(transport=transport, base_url=base_url, event_hooks=hooks) as client,
    ):
        yield client


def _described(app: ASGIApp) -> Described:
    """The description of any server: made once, because it takes a while."""
    global _DESCRIBED
    if _DESCRIBED is None:
        _DESCRIBED = Described(app)
    return _DESCRIBED


@asynccontextmanager
async def listening(ranch: Ranch) -> AsyncGenerator[str, None]:
    """The app behind a real socket, on this event loop; yields ``http://127.0.0.1:PORT``."""
    # asyncio turns Nagle's algorithm off only where the protocol is named: 40 ms a request.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            ranch.app, log_level="critical", access_log=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


def normalised(content: bytes) -> str:
    """A response without what changes from call to call: id, time and version."""
    text = re.sub(r'"id":"(chatcmpl-|cmpl-|msg_)[0-9a-f]{32}"', r'"id":"\1ID"', content.decode())
    text = re.sub(r'"created":\d{10}', '"created":1', text)
    return re.sub(r'"system_fingerprint":"corral-[^"]+"', '"system_fingerprint":"FP"', text)


def events(content: bytes) -> list[Any]:
    """The decoded events of a stream; ``[DONE]`` as that string."""
    datas = [line.removeprefix("data: ") for line in content.decode().split("\n\n") if line]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what tests wait for has no event
            await asyncio.sleep(0.005)


def user(text: str = "Hi") -> dict[str, Any]:
    """A user message."""
    return {"role": "user", "content": text}


def chat(model: str = "tiny", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [user()]} | fields


def error(
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> dict[str, Any]:
    """OpenAI's error envelope."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
