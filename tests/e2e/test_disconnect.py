"""A client that leaves stops its work in the engine, seen from outside: the engine falls idle."""

from __future__ import annotations

from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.harness import RAW, Server, until

pytestmark = pytest.mark.timeout(120)
# Would keep the engine busy for minutes.
ENDLESS: dict[str, Any] = {
    "model": RAW,
    "prompt": "Once upon a time",
    "max_tokens": 8000,
    "min_tokens": 8000,
    "temperature": 1.0,
}


def busy(engine: psutil.Process) -> bool:
    """Whether the engine computes: it takes a core or more then, and nothing when idle."""
    return engine.cpu_percent(interval=0.5) > 20


@pytest.fixture
def engine(server: Server) -> psutil.Process:
    found = server.engine()
    assert found is not None
    until(lambda: not busy(found), "an idle engine", 30)
    return found


@pytest.mark.parametrize("choices", [1, 3])
def test_leaving_a_stream(http: httpx.Client, engine: psutil.Process, choices: int) -> None:
    body = ENDLESS | {"stream": True, "n": choices}
    with http.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        assert busy(engine)
    until(lambda: not busy(engine), "the engine to stop", 10)


def test_leaving_before_the_whole_answer(server: Server, engine: psutil.Process) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + "/v1/completions", json=ENDLESS, timeout=httpx.Timeout(5, read=2))
    until(lambda: not busy(engine), "the engine to stop", 10)


def test_leaving_one_of_several_prompts(server: Server, engine: psutil.Process) -> None:
    body = ENDLESS | {"prompt": ["Once upon a time", "The sky is", "It was"], "stream": True}
    with (
        httpx.Client(base_url=server.url, timeout=60) as http,
        http.stream("POST", "/v1/completions", json=body) as response,
    ):
        assert next(response.iter_lines()).startswith("data: ")
    until(lambda: not busy(engine), "the engine to stop", 10)


def test_others_go_on_when_one_leaves(http: httpx.Client, engine: psutil.Process) -> None:
    staying = ENDLESS | {"max_tokens": 60, "min_tokens": 60, "temperature": 0}
    alone = http.post("/v1/completions", json=staying).json()["choices"][0]["text"]
    with (
        http.stream("POST", "/v1/completions", json=ENDLESS | {"stream": True}) as leaving,
        http.stream("POST", "/v1/completions", json=staying | {"stream": True}) as stays,
    ):
        next(leaving.iter_lines())
        lines = stays.iter_lines()
        next(lines)
        leaving.close()
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert '"finish_reason":"length"' in rest[-2]
    assert len(alone) > 60
    until(lambda: not busy(engine), "the engine to stop", 10)
