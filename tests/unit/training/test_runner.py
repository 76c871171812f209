"""Runs on a tiny model: what they learn, leave and refuse; and what an interruption changes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from server.prompts.catalog import FORMATS
from server.registry import load_registry
from server.registry.adapter_files import describe_adapter, find_misfits
from server.registry.adapters import AdapterStore
from tests.unit.training.support_model import LORA, run_tiny, tiny_recipe
from training import callbacks, runner
from training.errors import Interrupted, TrainingError
from training.run_folder import RunFolder

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]


def losses(folder: RunFolder) -> list[list[str]]:
    return list(csv.reader((folder.path / "loss.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def finished(ranch: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    recipe = tiny_recipe(
        tmp_path_factory.mktemp("run") / "whole",
        description="It adds.",
        licence="Apache-2.0",
        sampling={"temperature": 0.5},
        schedule={"evaluate_every": 4},
        report={"tensorboard": True},
    )
    return run_tiny(recipe, ranch)


def test_it_learns(finished: RunFolder) -> None:
    header, *rows = losses(finished)
    assert header == ["step", "loss", "held_out_loss"]
    assert [int(step) for step, *_ in rows] == list(range(9))
    held_out = [float(row[2]) for row in rows if row[2]]
    assert [int(row[0]) for row in rows if row[2]] == [0, 4, 8]
    assert held_out[0] > 5  # a random model: about ln(264)
    assert held_out[2] < held_out[1] < held_out[0]


def test_the_adapter_is_one_that_is_served(finished: RunFolder, ranch: Path) -> None:
    info = describe_adapter(finished.result, "it")
    assert (info.rank, info.alpha, info.targets) == (4, 8.0, ("q_proj", "v_proj"))
    assert find_misfits(info, ranch / "tiny") == []
    names = sorted(path.name for path in finished.result.iterdir())
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors", "loss.png"]
    text = (finished.result / "adapter_config.json").read_text()
    assert str(ranch) not in text
    assert any(bool(t.any()) for n, t in _tensors(finished).items() if "lora_B" in n)


def test_its_entry_stands_in_a_registry(finished: RunFolder, ranch: Path, tmp_path: Path) -> None:
    entries = yaml.safe_load(finished.entry.read_text())["models"]
    assert entries == [
        {
            "id": "tiny-alpaca",
            "description": "It adds.",
            "base": "tiny",
            "adapter": {"directory": "adapter"},
            "template": "alpaca",
            "system": "",
            "sampling": {"temperature": 0.5},
        }
    ]
    whole = yaml.safe_load((ranch / "model_registry.yaml").read_text())
    whole["models"][0]["source"]["directory"] = str(ranch / "tiny")
    path = finished.path / "registry.yaml"
    path.write_text(yaml.safe_dump({"models": whole["models"] + entries}))
    entry = load_registry(path, known_templates=FORMATS).resolve("tiny-alpaca")
    assert entry.adapter is not None
    assert AdapterStore(tmp_path).copy(entry.adapter).info.rank == 4


def test_its_card_says_what_it_is(finished: RunFolder) -> None:
    card = (finished.result / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "apache-2.0",
        "library_name": "peft",
        "tags": ["corral"],
    }
    first, *_, last = [row for row in losses(finished)[1:] if row[2]]
    assert f"{float(first[2]):.4f} before, {float(last[2]):.4f} at step 8" in body
    for line in (
        "# tiny-alpaca",
        "| trained | LoRA of rank 4, alpha 8, dropout 0.1 on q_proj, v_proj |",
        "| seed | 0 |",
        "| rows | files * of a folder data | not said | 24 | 0 | 0 | 4 | 20 |",
        "  learning_rate: 0.02",
    ):
        assert line in body.splitlines()
    assert (
        f"transformers {json.loads(finished.state_file.read_text())['versions']['transformers']}"
        in body
    )


def test_what_else_it_leaves(finished: RunFolder) -> None:
    assert (finished.path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (finished.path / "loss.svg").read_text()
    assert len(finished.held_out.read_text().splitlines()) == 4
    assert list((finished.path / "tensorboard").glob("events.out.tfevents.*"))
    lengths = json.loads((finished.path / "lengths.json").read_text())
    assert lengths["sets"]["rows"] == {
        "rows": 24,
        "skipped": 0,
        "duplicates": 0,
        "held_out": 4,
        "trained": 20,
    }
    assert lengths["trained"]["rows"] == 20
    assert lengths["trained"]["truncated"] == 0


def _tensors(folder: RunFolder) -> dict[str, Any]:
    return dict(load_file(folder.result / "adapter_model.safetensors"))


@pytest.mark.parametrize("stops", [(3,), (2, 5)])
def test_interrupted_and_resumed_it_ends_as_if_never_stopped(
    stops: tuple[int, ...],
    finished: RunFolder,
    ranch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = tiny_recipe(tmp_path / "run", schedule={"evaluate_every": 4})
    moved = callbacks.Screen.on_step_end
    left = [*stops]

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        moved(self, args, state, control, **kwargs)
        if left and state.global_step == left[0]:
            left.pop(0)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(callbacks.Screen, "on_step_end", stop)
    for step in stops:
        with pytest.raises(
            Interrupted, match=f"Stopped after step {step} of 8. Go on with --resume"
        ):
            run_tiny(recipe, ranch, resume=True)
    folder = run_tiny(recipe, ranch, resume=True)
    assert losses(folder) == losses(finished)
    for name, tensor in _tensors(finished).items():
        assert torch.equal(_tensors(folder)[name], tensor), name
    parts = [(part["from"], part["to"]) for part in folder.state()["parts"]]
    assert parts == list(zip((0, *stops), (*stops, 8), strict=True))


def test_an_earlier_run_is_not_overwritten(ranch: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path / "run")
    RunFolder(tmp_path / "run").begin(recipe, resume=False, fresh=False)
    with pytest.raises(TrainingError, match=r"holds an earlier run\. Go on with it: --resume"):
        run_tiny(recipe, ranch)
    changed = tiny_recipe(tmp_path / "run", schedule={"learning_rate": 0.01})
    with pytest.raises(TrainingError, match="holds a run of another recipe"):
        run_tiny(changed, ranch, resume=True)
    strangers = tmp_path / "mine"
    strangers.mkdir()
    (strangers / "thesis.txt").write_text("dear")
    RunFolder(strangers).begin(recipe, resume=False, fresh=True)
    assert (strangers / "thesis.txt").read_text() == "dear"


def test_several_gpus_are_not_used_by_chance(
    ranch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(TrainingError, match=r"has 4 GPUs.*--num_processes 4 -m training"):
        run_tiny(tiny_recipe(tmp_path / "run"), ranch)
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_on_with_other_rows(ranch: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path / "run", schedule={"steps": 1})
    run_tiny(recipe, ranch)
    with pytest.raises(TrainingError, match="The data have changed since the run in"):
        run_tiny(recipe, ranch, rows=25, resume=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"report": {"wandb": True}}, "report.wandb needs the package wandb: pip install wandb"),
        (
            {"lora": {"targets": ["c_attn"]}},
            "lora.targets: the model has no layers c_attn. It has down_proj, gate_proj, k_proj",
        ),
        ({"schedule": {"batch": 3}}, "schedule.batch is 3, which 1 process"),
        (
            {"model": "tiny-raw"},
            "The recipe trains 'tiny-raw', which .* does not have. It has tiny",
        ),
        ({"max_length": 8}, "No row has an answer within max_length"),
    ],
)
def test_what_cannot_be_run(
    fields: dict[str, Any],
    message: str,
    ranch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=message):
        run_tiny(tiny_recipe(tmp_path / "run", **fields), ranch)


def test_rows_can_be_streamed(ranch: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        tmp_path / "run", streaming=True, held_out=0.2, schedule={"steps": 8, "epochs": None}
    )
    folder = run_tiny(recipe, ranch)
    held_out = [float(row[2]) for row in losses(folder)[1:] if row[2]]
    assert held_out[-1] < held_out[0]
    assert "The rows were read while training." in (folder.result / "README.md").read_text()


def test_a_base_that_nobody_serves_brings_its_own_entry(ranch: Path, tmp_path: Path) -> None:
    other = shutil.copytree(ranch / "tiny", tmp_path / "other")
    model = {"directory": str(other)}
    recipe = tiny_recipe(tmp_path / "run", model=model, schedule={"steps": 1}, held_out=None)
    folder = run_tiny(recipe, ranch)
    base, adapter = yaml.safe_load(folder.entry.read_text())["models"]
    assert base == {"id": "tiny-alpaca-base", "source": model, "load": "on_demand"}
    assert adapter["base"] == "tiny-alpaca-base"
    assert [row[2] for row in losses(folder)[1:]] == [""]


def test_packed_rows_do_not_see_each_other(ranch: Path, tmp_path: Path) -> None:
    adapter = {**LORA, "dropout": 0.0}
    plan = {"steps": 1, "batch": 24, "micro_batch": 24}
    known: dict[str, Any] = {"lora": adapter, "held_out": None, "max_length": 1024}
    apart = run_tiny(tiny_recipe(tmp_path / "apart", schedule=plan, **known), ranch)
    plan = {"steps": 1, "batch": 2, "micro_batch": 1}
    packed = run_tiny(tiny_recipe(tmp_path / "packed", packing=True, schedule=plan, **known), ranch)
    # 24 rows became two; the loss of all their tokens is what it was.
    assert float(losses(packed)[1][1]) == pytest.approx(float(losses(apart)[1][1]), abs=2e-5)
