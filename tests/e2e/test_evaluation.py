"""``corral eval`` against the real server: a small run, and a loss like that of transformers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evaluation.endpoint import Endpoint
from evaluation.likelihood import score_answer
from evaluation.loading import HELD_OUT, read_held_out
from tests.e2e.harness import CAPITAL, DIALOGUE, INSTRUCT, RAW, ROOT, Server, clean_environment
from tests.e2e.steps import real_model

TASK = f"""
category: knowledge
language: en
max_tokens: 24
items:
  - {{id: france, prompt: {CAPITAL!r}, score: {{says: ['\\bParis\\b']}}, judge: true}}
  - {{id: legs, prompt: 'How many legs does a spider have?', score: {{number: 8}}}}
"""
# A logit of 16 to 32 in bfloat16 is a multiple of 1/8; over many tokens it averages out.
NATS_A_TOKEN = 0.06


@pytest.mark.timeout(300)
def test_a_small_run(server: Server, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    command = [sys.executable, "-m", "evaluation", "--base-url", f"{server.url}/v1"]
    options = {
        "--models": f"{INSTRUCT},{RAW},{DIALOGUE}",
        "--suite": f"{tmp_path / 'task.yaml'},choices",
        "--language": "en",
        "--limit": "2",
        "--held-out": str(HELD_OUT),
        "--judge": INSTRUCT,
        "--out": str(tmp_path / "report"),
    }
    words = [*command, *(word for option in options.items() for word in option)]
    done = subprocess.run(
        words, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "report" / "report.json").read_text())
    france = figures["scores"][0]
    assert france["item"] == "france"
    assert france["scores"][INSTRUCT] == 1.0
    assert france["scores"][DIALOGUE] == 1.0
    losses = {model: loss["text"]["value"] for model, loss in figures["held_out"].items()}
    assert {model for model, loss in losses.items() if 1 < loss < 6} == {INSTRUCT, RAW, DIALOGUE}
    assert figures["choices"][INSTRUCT]["choices-everyday/en"]["form"] == "own"
    # The same two answers to one question, judged twice, for both of the others.
    assert [match["unusable"] for match in figures["matches"]] == [0, 0]
    assert INSTRUCT in (tmp_path / "report" / "report.html").read_text()
    again = subprocess.run(
        words, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert again.stdout == done.stdout
    assert f"{RAW}: questions: 2, 2 of them known" in again.stderr


def by_transformers(rows: list[list[dict[str, str]]]) -> list[dict[str, float]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.reference_loss", str(real_model())],
        input=json.dumps(rows),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    losses: list[dict[str, float]] = json.loads(done.stdout)
    return losses


async def test_the_loss_is_that_of_transformers(server: Server) -> None:
    rows = [
        [message.as_openai() for message in row.messages]
        for row in read_held_out(HELD_OUT)
        if len(row.messages) == 2
    ][:8]
    endpoint = Endpoint(f"{server.url}/v1", "none")
    ours: list[dict[str, Any]] = [await score_answer(endpoint, INSTRUCT, row) for row in rows]
    await endpoint.close()
    theirs = await asyncio.to_thread(by_transformers, rows)
    assert [row["tokens"] for row in ours] == [row["tokens"] for row in theirs]
    assert [row["end_tokens"] for row in ours] == [1] * len(rows)
    tokens = sum(row["tokens"] for row in theirs)
    nats = [sum(row["nats"] for row in side) / tokens for side in (ours, theirs)]
    assert nats[0] == pytest.approx(nats[1], abs=NATS_A_TOKEN)
    for one, other in zip(ours, theirs, strict=True):
        assert one["nats"] / one["tokens"] == pytest.approx(
            other["nats"] / other["tokens"], abs=0.3
        )
        assert one["end_nats"] == pytest.approx(other["end_nats"], abs=0.3)
