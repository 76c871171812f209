"""``corral eval`` as it is typed."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from evaluation.cli import app
from tests.support.ranch import Ranch, until

ROOT = Path(__file__).resolve().parents[3]


async def evaluate(*args: Any) -> Result:
    """In a thread, because the server is on this one's loop."""
    words = [str(arg) for arg in args]
    return await asyncio.to_thread(CliRunner().invoke, app, words)


async def test_a_run(url: str, ranch: Ranch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ("--base-url", url, "--models", "tiny, other", "--suite", "knowledge", "--out", out)
    result = await evaluate(*args, "--language", "en", "--limit", 2)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["model", "right", "answers", "ended", "loss"]
    assert lines[1].split()[:3] == ["tiny", "0", "%"]
    assert "tiny: questions: 2" in result.stderr
    assert result.stderr.splitlines()[-1] == str(out / "report.html")
    again = await evaluate(*args, "--language", "en", "--limit", 3)
    assert "tiny: questions: 3, 2 of them known" in again.stderr
    assert len(ranch.requests) == 6


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--models", ""], 2, "--models names no model"),
        (["--models", "a,a"], 2, "names a model twice"),
        (["--models", "a", "--baseline", "b"], 2, "--baseline b is none of --models"),
        (["--models", "a", "--completions", "b"], 2, "--completions b: none of --models"),
        (["--models", "a", "--seeds", "1,2"], 2, "several --seeds"),
        (["--models", "a", "--seeds", "x"], 2, "whole numbers"),
        (["--models", "a", "--runner", "x"], 2, "--runner is own, lm-eval or inspect"),
        (["--models", "a", "--judge-base-url", "x"], 2, "needs --judge"),
        (["--models", "a", "--language", "de"], 65, "not in de"),
        (["--models", "a", "--suite", "x"], 65, "no suite and no file 'x'"),
        (["--models", "a", "--held-out", "/none.jsonl"], 65, "No such file"),
        (["--models", "a"], 69, "nobody answers at http://127.0.0.1:9/v1"),
        (["--models", "a", "--runner", "lm-eval"], 69, "pip install 'lm-eval[api]'"),
        (["--models", "a", "--runner", "inspect"], 69, "pip install inspect-ai"),
        ([], 2, "--models"),
        (["--models", "a", "--temperature", "9"], 2, "--temperature"),
    ],
)
def test_what_is_wrong_is_said(args: list[str], code: int, words: str, tmp_path: Path) -> None:
    nowhere = ["--base-url", "http://127.0.0.1:9/v1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*args, *nowhere])
    assert result.exit_code == code, result.output
    assert words in result.stderr


async def test_ctrl_c(url: str, ranch: Ranch, tmp_path: Path) -> None:
    ranch.script = lambda _: [60.0]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "evaluation", "--base-url", url, "--models", "tiny", "--suite", "knowledge"),
        *("--out", str(tmp_path / "out")),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await until(lambda: ranch.requests, 30)
    process.send_signal(signal.SIGINT)
    output, errors = await process.communicate()
    assert process.returncode == 130, errors.decode()
    assert output == b""
    assert errors.decode().splitlines() == [
        "tiny: questions: 24",
        "corral: stopped; the same command goes on from here",
    ]
    # The server need not go on with what nobody waits for.
    await until(lambda: len(ranch.aborted) == len(ranch.requests))


def test_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = CliRunner().invoke(app, ["--models", "a"])
    assert result.exit_code == 69
    assert "pip install 'corral[eval]'" in result.stderr
