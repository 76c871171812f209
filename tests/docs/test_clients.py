"""Every client is run, against a server whose engine plays a script: what it says is known.

`test_run_documents` runs those that only chat against the real engine as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from server.engines.base import Constraint, Delta, GenerationRequest, ToolCallDelta
from server.engines.output import OutputParser, ToolUse
from server.engines.scripted import Step
from tests.docs.blocks import ROOT
from tests.e2e.harness import clean_environment
from tests.support.node import NODE, why_not
from tests.support.ranch import Ranch, listening, until, write_tiny_model

CLIENTS = ROOT / "clients"
# Made by clients/langchain/requirements.txt's own first lines.
LANGCHAIN = CLIENTS / "langchain" / ".venv" / "bin" / "python"
CHAT, VECTORS = "smollm2-135m-instruct", "all-minilm-l6-v2"
MODELS: tuple[Mapping[str, Any], ...] = (
    {"id": CHAT, "template": "chatml"},
    {"id": VECTORS, "kind": "embedding"},
)
PARIS = "The capital of France is Paris."
CITY = {"name": "Paris", "country": "France", "continent": "Europe"}
WEATHER = 'get_weather({"city": "Paris"}) -> {"city": "Paris", "weather": "sunny", "celsius": 21}'


class _Parser:
    """Leaves deltas as they are: the script writes calls itself."""

    def __init__(self, tools: ToolUse | None, constraint: Constraint | None) -> None:
        calls = tools is not None and tools.choice == "required"
        self.constraint = Constraint("regex", "call", "tools") if calls else constraint
        self.reasoning_ended = None
        self.skip_special_tokens = True

    def parse(self, delta: Delta) -> None:
        """Nothing to do."""


class _Format:
    reasons = False

    def begin(
        self,
        tools: ToolUse | None,
        constraint: Constraint | None,
        *,
        prompt_token_ids: Sequence[int],
        max_tokens: int,
        template_kwargs: Mapping[str, Any],
    ) -> OutputParser:
        return _Parser(tools, constraint)


def script(request: GenerationRequest) -> Iterable[Step]:
    constraint = request.sampling.constraint
    if constraint is None:
        yield Delta(0, PARIS[:9], [1])
        yield Delta(0, PARIS[9:], [2, 3], finish_reason="stop")
    elif constraint.param == "tools":
        call = ToolCallDelta(0, "call_1", "get_weather", '{"city": "Paris"}')
        yield Delta(0, "", [1], finish_reason="tool_calls", tool_calls=(call,))
    else:
        assert constraint.kind == "json"
        assert list(constraint.value["properties"]) == list(CITY)
        yield Delta(0, json.dumps(CITY), [1], finish_reason="stop")


@pytest.fixture
def ranch(tmp_path: Path) -> Ranch:
    ranch = Ranch(write_tiny_model(tmp_path / "tiny"), tmp_path / "cache", MODELS)
    ranch.script = script
    return ranch


@pytest.fixture
async def url(ranch: Ranch) -> AsyncGenerator[str, None]:
    async with listening(ranch) as url:
        await until(lambda: len(ranch.engines) == 2 and all(e.alive for e in ranch.engines))
        for engine in ranch.engines:
            engine.format = _Format()
        yield url


async def run(url: str, *command: str | Path, text: str = "") -> str:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=ROOT,
        env=clean_environment()
        | {
            "PATH": os.environ["PATH"],
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": "none",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(100):
        output, errors = await process.communicate(text.encode())
    assert process.returncode == 0, output.decode() + errors.decode()
    return output.decode()


QUESTION = "What is the capital of France?"
PYTHON = {
    "async_stream.py": f"{QUESTION} {PARIS}\n",
    "chat.py": f"{PARIS}\n",
    "embeddings.py": " It rains in London.\n",
    "stream.py": f"{PARIS}\n(3 tokens)\n",
    "structured.py": "Paris, France (Europe)\n",
    "terminal_chat.py": f"> {PARIS}\n> {PARIS}\n> ",
    "tools.py": f"{WEATHER}\n{PARIS}\n",
}


def test_every_client_is_here() -> None:
    assert sorted(path.name for path in (CLIENTS / "python").glob("*.py")) == sorted(PYTHON)
    assert sorted(path.name for path in (CLIENTS / "curl").glob("*.sh")) == sorted(CURL)
    assert sorted(path.name for path in NODE.glob("*.mjs")) == sorted(NODES)


@pytest.mark.parametrize(("name", "expected"), PYTHON.items())
async def test_python(name: str, expected: str, url: str) -> None:
    arguments = [] if name in ("terminal_chat.py", "embeddings.py") else [QUESTION]
    text = "Hello!\nAgain.\n\n" if name == "terminal_chat.py" else ""
    output = await run(url, sys.executable, CLIENTS / "python" / name, *arguments, text=text)
    assert expected in output


async def test_the_terminal_chat_sends_the_whole_conversation(url: str, ranch: Ranch) -> None:
    path = CLIENTS / "python" / "terminal_chat.py"
    await run(url, sys.executable, path, text="Hello!\nAgain.\n")
    first, second = (len(request.prompt_token_ids) for request in ranch.requests)
    assert second > first + len(PARIS) / 2


async def test_the_tools_result_is_sent_back(url: str, ranch: Ranch) -> None:
    await run(url, sys.executable, CLIENTS / "python" / "tools.py")
    assert len(ranch.requests) == 2


CURL = {
    "chat.sh": f'"content":"{PARIS}"',
    "embeddings.sh": '"embedding":[25.0,',
    "stream.sh": '"content":"al of France is Paris."',
    "tools.sh": '"function":{"name":"get_weather","arguments":"{\\"city\\": \\"Paris\\"}"}',
}


@pytest.mark.parametrize(("name", "expected"), CURL.items())
async def test_curl(name: str, expected: str, url: str) -> None:
    assert expected in await run(url, CLIENTS / "curl" / name)


NODES = {
    "chat.mjs": f"{PARIS}\n",
    "ai-sdk.mjs": "get_weather: It is sunny in Paris.\n",
}


@pytest.mark.parametrize(("name", "expected"), NODES.items())
async def test_node(name: str, expected: str, url: str) -> None:
    if reason := await asyncio.to_thread(why_not):
        pytest.skip(reason)
    output = await run(url, "node", NODE / name, QUESTION)
    assert expected in output
    assert PARIS in output


@pytest.mark.skipif(not LANGCHAIN.exists(), reason="needs the packages of clients/langchain")
async def test_langchain(url: str) -> None:
    assert await run(url, LANGCHAIN, CLIENTS / "langchain" / "chat.py") == f"{PARIS}\n"
