"""Recipes for several GPUs, without one: the launch file loads, and a sharded run is the same."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.unit.training.support import alpaca, written
from tests.unit.training.support_model import run_tiny, tiny_recipe
from training.recipe_loader import load_recipe

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]

ROOT = Path(__file__).parents[3]
LAUNCH = ROOT / "recipes" / "accelerate" / "fsdp2.yaml"
FIELDS: dict[str, Any] = {
    "lora": None,
    "new_tokens": ["[PAD]"],
    "schedule": {"steps": 2, "learning_rate": 0.003},  # the first step only warms up
}


def launched(*options: str) -> dict[str, str]:
    """What `accelerate launch` puts into the environment of a process."""
    from accelerate.commands.launch import (
        _validate_launch_command,
        launch_command_parser,
        prepare_multi_gpu_env,
    )

    arguments = ["--config_file", str(LAUNCH), *options, "-m", "training", "recipe.yaml"]
    parsed, _, _ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    environment: dict[str, str] = prepare_multi_gpu_env(parsed)
    return {k: v for k, v in environment.items() if k.startswith(("FSDP_", "ACCELERATE_"))}


def test_the_launch_file_asks_for_fsdp2() -> None:
    environment = launched()
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    assert environment["FSDP_VERSION"] == "2"
    assert environment["FSDP_RESHARD_AFTER_FORWARD"] == "true"
    assert environment["FSDP_TRANSFORMER_CLS_TO_WRAP"] == "LlamaDecoderLayer"
    assert environment["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
    assert yaml.safe_load(LAUNCH.read_text())["num_processes"] == 8


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_batches_can_be_divided(path: Path) -> None:
    words = path.read_text().splitlines()[0].split()
    processes = 1
    if "launch" in words:
        assert str(LAUNCH.relative_to(ROOT)) in words
        processes = (
            int(words[words.index("--num_processes") + 1]) if "--num_processes" in words else 8
        )
    plan = load_recipe(path).schedule
    assert plan.batch % (plan.micro_batch * processes) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_train_as_one_does(ranch: Path, tmp_path: Path) -> None:
    written(ranch / "data" / "rows-24.jsonl", alpaca(24))
    environment = os.environ | launched("--num_processes", "2")
    environment |= {"ACCELERATE_MIXED_PRECISION": "no", "PYTHONPATH": str(ROOT)}
    environment |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(Path(__file__).with_name("fsdp_step.py"))]
    command += [str(tmp_path / "two"), str(ranch), json.dumps(FIELDS)]
    processes = [
        subprocess.Popen(
            command,
            env=environment | {"RANK": str(number), "LOCAL_RANK": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    one = run_tiny(tiny_recipe(tmp_path / "one", **FIELDS), ranch)
    for process in processes:
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said

    shards = [json.loads((tmp_path / "two" / f"sharded-{n}.json").read_text()) for n in range(2)]
    for shard in shards:
        assert {"model.layers.0", "model.layers.1", "lm_head"} <= {*shard["wrapped"]}
    halves = [shard["local"]["model.layers.0.mlp.down_proj.weight"] for shard in shards]
    assert halves == [[16, 64], [16, 64]]  # of [32, 64]

    alone = load_file(one.result / "model.safetensors")
    together = load_file(tmp_path / "two" / "model" / "model.safetensors")
    before = load_file(ranch / "tiny" / "model.safetensors")
    assert together.keys() == alone.keys() == before.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, atol=1e-5, rtol=1e-4)
        assert not torch.equal(tensor[: len(before[name])], before[name])
    curves = [
        [
            [float(cell or 0) for cell in row]
            for row in list(csv.reader(path.read_text().splitlines()))[1:]
        ]
        for path in (one.path / "loss.csv", tmp_path / "two" / "loss.csv")
    ]
    torch.testing.assert_close(torch.tensor(curves[0]), torch.tensor(curves[1]))
