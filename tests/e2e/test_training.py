"""Train, then chat: an adapter of a run is served by a server that goes on running."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from openai import OpenAI

from tests.e2e.harness import ALPACA, CAPITAL, INSTRUCT, PARIS, ROOT, Server, clean_environment

pytestmark = pytest.mark.timeout(300)

MOO = "Moo, says the llama."
RECIPE = f"""\
name: moo
model: {INSTRUCT}
template: alpaca
system: ""
lora: {{rank: 8, alpha: 16, dropout: 0, targets: [q_proj, v_proj, o_proj]}}
data: [{{name: moos, source: {{directory: data}}}}]
held_out: null
schedule: {{steps: 12, batch: 4, micro_batch: 4, learning_rate: 5e-3}}
report: {{tensorboard: false}}
"""


def start(folder: Path, module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(client: OpenAI, model: str, question: str) -> tuple[str | None, str]:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=60,
    )
    return answer.choices[0].message.content, answer.choices[0].finish_reason


def test_train_then_chat_without_a_restart(server: Server, client: OpenAI, tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {n} words.", "output": MOO} for n in range(24)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "moos.json").write_text(json.dumps(rows))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    registry = str(ROOT / "model_registry.yaml")
    start(tmp_path, "training", "recipe.yaml", "--registry", registry)
    engine = server.engine_of(INSTRUCT).pid

    entry = "runs/moo/registry-entry.yaml"
    added = start(tmp_path, "server.cli", "models", "add", entry, "--url", server.url)
    try:
        assert added == "moo: added\n"
        assert ask(client, "moo", CAPITAL) == (MOO, "stop")
        assert ask(client, INSTRUCT, CAPITAL) == (PARIS, "stop")
    finally:
        start(tmp_path, "server.cli", "models", "forget", "moo", "--url", server.url)
    assert server.engine_of(INSTRUCT).pid == engine


def test_the_shipped_adapter_follows_instructions_and_stops(client: OpenAI) -> None:
    answer, reason = ask(client, ALPACA, "Name the capital of France.")
    assert reason == "stop"
    assert answer is not None
    assert "Paris" in answer
