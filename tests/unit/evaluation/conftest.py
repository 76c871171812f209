"""A server whose engine plays a script, and an evaluation pointed at it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path

import pytest

from evaluation.endpoint import Endpoint
from server.engines.base import Delta, GenerationRequest, PositionLogprobs, TokenLogprob
from server.engines.scripted import Step
from tests.support.ranch import Ranch, listening, until, write_tiny_model

MODELS = (
    {"id": "tiny", "template": "chatml"},
    {"id": "other", "template": "chatml", "aliases": ["alias"]},
    {"id": "plain", "template": "raw"},
    {"id": "alpaca", "template": "alpaca"},
    {"id": "short", "template": "chatml", "context": {"length": 64}},
)


class Quiet:
    """Progress that is kept instead of shown."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.steps = 0
        self.notes: list[str] = []

    def begin(self, what: str, total: int, done: int) -> None:
        self.stages.append((what, total, done))

    def advance(self) -> None:
        self.steps += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


def says(*texts: str) -> Callable[[GenerationRequest], Iterable[Step]]:
    """A script: the texts in turn, and the last one for ever."""
    left = list(texts)

    def script(_: GenerationRequest) -> Iterable[Step]:
        text = left.pop(0) if len(left) > 1 else left[0]
        return [Delta(0, text, [70] * max(1, len(text)), finish_reason="stop")]

    return script


def likes(value: Callable[[int], float]) -> Callable[[GenerationRequest], Iterable[Step]]:
    """A script that gives each prompt token a log-probability by its id."""

    def script(request: GenerationRequest) -> Iterable[Step]:
        positions: list[PositionLogprobs | None] = [None]
        for token in list(request.prompt_token_ids)[1:]:
            drawn = TokenLogprob(token, "?", value(token), 1)
            positions.append(PositionLogprobs(drawn, (drawn,)))
        yield Delta(0, "x", [70], "length", prompt_logprobs=tuple(positions))

    return script


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def ranch(model_directory: Path, tmp_path: Path) -> Ranch:
    return Ranch(model_directory, tmp_path / "cache", MODELS)


@pytest.fixture
async def url(ranch: Ranch) -> AsyncGenerator[str, None]:
    """Its address, with ``/v1``; every model is loaded."""
    async with listening(ranch) as url:
        await until(lambda: ranch.engines and all(engine.alive for engine in ranch.engines))
        yield f"{url}/v1"


@pytest.fixture
async def endpoint(url: str) -> AsyncGenerator[Endpoint, None]:
    endpoint = Endpoint(url, "none", retries=0)
    yield endpoint
    await endpoint.close()


@pytest.fixture
def connect(url: str) -> Callable[[str | None], Endpoint]:
    """What `evaluate` asks for endpoints."""

    def make(other: str | None) -> Endpoint:
        return Endpoint(other or url, "none", retries=0)

    return make


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()


def task_file(path: Path, text: str) -> Path:
    """A file with this content."""
    path.write_text(text, encoding="utf-8")
    return path
