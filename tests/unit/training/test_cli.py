"""`corral train` as it is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.unit.training.support import alpaca, written
from training import cli
from training.errors import ExtraMissing
from training.recipe_loader import load_recipe

ROOT = Path(__file__).parents[3]
RECIPE = """\
name: tiny-alpaca
model: tiny
template: alpaca
lora: {rank: 4, targets: [q_proj, v_proj]}
data:
  - name: rows
    source: {directory: data, files: rows.jsonl}
held_out: 5
schedule: {steps: 2, batch: 4, micro_batch: 2, learning_rate: 0.01, precision: float32}
report: {tensorboard: false}
"""


@pytest.fixture
def home(ranch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a recipe and its rows, over the tiny model."""
    registry = yaml.safe_load((ranch / "model_registry.yaml").read_text())
    registry["models"][0]["source"]["directory"] = str(ranch / "tiny")
    (tmp_path / "model_registry.yaml").write_text(yaml.safe_dump(registry))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    written(tmp_path / "data" / "rows.jsonl", [*alpaca(25), alpaca(1)[0]])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORRAL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """As `accelerate launch -m training` would start it."""
    command = [sys.executable, "-m", "training", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_look_trains_nothing(home: Path) -> None:
    result = CliRunner().invoke(cli.app, ["recipe.yaml", "--check"], catch_exceptions=False)
    lines = result.stdout.splitlines()
    assert lines[0] == "rows: 26 rows, 0 skipped, 1 duplicates, 5 held out, 20 trained an epoch"
    assert lines[1].startswith("tokens a row: mean 160.3, half 161,")
    assert lines[3] == "2 steps of 4 rows"
    assert lines[4].startswith("about ")
    assert not (home / "runs").exists()


@pytest.mark.slow
def test_from_a_recipe_to_a_merged_model(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = start("recipe.yaml", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "out/adapter: done",
        "serve it: corral models add out/registry-entry.yaml",
    ]
    again = start("recipe.yaml", "--output", "out")
    assert (again.returncode, again.stdout) == (1, "")
    assert "out holds an earlier run. Go on with it: --resume" in again.stderr

    result = CliRunner().invoke(cli.app, ["merge", "out", "-o", "merged"], catch_exceptions=False)
    assert result.stdout == "merged: merged from tiny-alpaca\n"
    config = (home / "merged" / "tokenizer_config.json").read_text()
    assert "Below is an instruction that describes a task" in config


def test_mistakes_have_their_own_exit_codes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (home / "wrong.yaml").write_text(RECIPE.replace("rank", "rnak"))
    done = start("wrong.yaml", "--check")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.splitlines() == [
        "corral: wrong.yaml has a problem:",
        "corral:   line 4: lora: unknown field 'rnak' (did you mean 'rank'?)",
    ]
    written(home / "data" / "rows.jsonl", [{"instruction": "x"}])
    done = start("recipe.yaml", "--check")
    assert (done.returncode, done.stdout) == (65, "")
    assert "rows: rows.jsonl, line 1: output: is missing" in done.stderr
    done = start("recipe.yaml", "--resume", "--fresh")
    assert done.returncode == 2


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    for arguments in (["recipe.yaml"], ["merge", "run", "-o", "merged"]):
        result = CliRunner().invoke(cli.app, arguments)
        assert isinstance(result.exception, ExtraMissing)
        assert result.exception.exit_code == 69
        assert str(result.exception) == (
            "Training needs the package 'trl', which is not installed. Install the extra: "
            "pip install 'corral[train]', or in a clone: make install-train"
        )


def test_shipped_recipes_go_by_their_names(home: Path) -> None:
    path = cli.shipped(Path("smollm2-alpaca-lora"))
    assert load_recipe(path).name == "smollm2-135m-alpaca"
    assert cli.shipped(Path("recipe.yaml")) == Path("recipe.yaml")
    assert cli.shipped(Path("nothing")) == Path("nothing")
    (home / "mix-13b").write_text("mine comes first")
    assert cli.shipped(Path("mix-13b")) == Path("mix-13b")
