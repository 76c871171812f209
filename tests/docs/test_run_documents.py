"""The documents' examples and the clients, run against the real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.docs.blocks import ROOT, Block, of_kind
from tests.e2e.harness import CAPITAL, PARIS, Server, clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
Run = Callable[..., str]
SHOWN = "http://127.0.0.1:8000"
# Those that only chat; `test_clients` runs all of them against a script.
PYTHON_CLIENTS = [
    ROOT / "clients" / "python" / name for name in ("async_stream.py", "chat.py", "stream.py")
]
CURL_CLIENTS = [ROOT / "clients" / "curl" / name for name in ("chat.sh", "stream.sh")]


def where(block: Block) -> str:
    return block.where


@pytest.fixture(scope="module")
def bin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `corral`, whether or not this checkout is installed in the environment."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "corral"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m server.cli "$@"\n')
    command.chmod(0o755)
    # What pip writes down of entry points, for commands of packages beside the server.
    metadata = folder / "corral-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: corral\nVersion: 0\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    points = project["entry-points"]["corral.commands"]
    lines = [f"{name} = {place}" for name, place in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[corral.commands]", *lines]))
    return folder


@pytest.fixture(scope="module")
def run(server: Server, bin_dir: Path) -> Run:
    """Runs a command as a user of the server would; returns its stdout."""

    def run_there(command: list[str], text: str | None = None) -> str:
        return _run(command, text, server, bin_dir)

    return run_there


def _run(command: list[str], text: str | None, server: Server, bin_dir: Path) -> str:
    done = subprocess.run(
        command,
        input=text,
        cwd=ROOT,
        env=clean_environment()
        | {
            "PATH": f"{bin_dir}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join((str(bin_dir), os.environ.get("PYTHONPATH", ""))),
            "CORRAL_PORT": "0",  # for `corral doctor`, which looks whether the port is free
            "CORRAL_URL": server.url,
            "OPENAI_BASE_URL": f"{server.url}/v1",
            "OPENAI_API_KEY": "none",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answer_in(output: str) -> str:
    """The text of an answer: of events, of a whole response, or as it is."""
    if output.startswith("data: "):
        events = re.findall(r"^data: (\{.*\})$", output, re.MULTILINE)
        deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
        return "".join(delta.get("content", "") for delta in deltas)
    if output.startswith('{"id":"chatcmpl'):
        content = json.loads(output)["choices"][0]["message"]["content"]
        assert isinstance(content, str)
        return content
    return output


@pytest.mark.parametrize("block", of_kind("sh"), ids=where)
def test_shell(block: Block, server: Server, run: Run) -> None:
    output = run(["bash", "-euo", "pipefail"], block.code.replace(SHOWN, server.url))
    assert output
    if "chat/completions " in block.code:
        assert answer_in(output) == PARIS


@pytest.mark.parametrize("block", of_kind("python"), ids=where)
def test_python(block: Block, server: Server, run: Run) -> None:
    output = run([sys.executable, "-c", block.code.replace(SHOWN, server.url)])
    assert output == PARIS


@pytest.mark.parametrize("path", PYTHON_CLIENTS, ids=lambda path: path.name)
def test_python_clients(path: Path, run: Run) -> None:
    assert PARIS in run([sys.executable, str(path), CAPITAL])


@pytest.mark.parametrize("path", PYTHON_CLIENTS, ids=lambda path: path.name)
def test_python_clients_have_a_question_of_their_own(path: Path, run: Run) -> None:
    assert PARIS in run([sys.executable, str(path)])


@pytest.mark.parametrize("path", CURL_CLIENTS, ids=lambda path: path.name)
def test_curl_clients(path: Path, run: Run) -> None:
    assert answer_in(run([str(path)])) == PARIS
    assert answer_in(run([str(path), 'Say "hello" and \\ please.']))


def test_every_endpoint_is_in_the_readme(server: Server) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    table = re.findall(r"^\| `([A-Z]+) (/\S*)` \|", readme, re.MULTILINE)
    shown = {(method, path.replace("{model}", "{model:path}")) for method, path in table}
    paths = httpx.get(server.url + "/openapi.json").json()["paths"]
    served = {(method.upper(), path) for path in paths for method in paths[path]}
    assert {(m, p.replace("{model:path}", "{model}")) for m, p in shown} == served | {
        ("GET", "/"),
        ("GET", "/openapi.json"),
    }
