"""Run by test_memory.py in a process of its own: how much stays resident of weights that were read.

Prints one JSON line with bytes, and the names of tensors that were not what is in the file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from vllm.model_executor.model_loader import default_loader

from server.engines import weight_pages

_TENSORS = 32
_NUMBERS = 1 << 20  # 4 MiB each


def main() -> None:
    """Read a file of 128 MiB in three ways."""
    weights = {
        f"w{number:02}": torch.full((_NUMBERS + number,), number) for number in range(_TENSORS)
    }
    weights = {name: tensor.to(torch.float32) for name, tensor in weights.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.safetensors")
        save_file(weights, path)
        size = sum(tensor.nbytes for tensor in weights.values())
        wrong: list[str] = []
        told: dict[str, Any] = {"size": size, "plain": read(path, weights, wrong)}
        with weight_pages.let_go_when_read():
            told["let go"] = read(path, weights, wrong)
            told["eager"] = read(path, weights, wrong, safetensors_load_strategy="eager")
    sys.stdout.write(json.dumps(told | {"wrong": wrong}) + "\n")


def read(path: str, weights: dict[str, torch.Tensor], wrong: list[str], **how: str) -> int:
    """Bytes that reading has made resident, just before its end."""
    before = resident()
    held = []
    most = 0
    for name, tensor in default_loader.safetensors_weights_iterator([path], False, **how):
        if not torch.equal(tensor, weights[name]):
            wrong.append(name)
        held.append((name, tensor))
        most = max(most, resident() - before)
    wrong += [name for name, tensor in held if not torch.equal(tensor, weights[name])]
    return most


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
