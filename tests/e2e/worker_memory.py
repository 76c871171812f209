"""Run by test_memory.py in a process of its own: what our CPU worker does not hold.

Prints one JSON line: how much stays resident of weights that were read, in bytes; names of tensors
that were not what is in the file; and of which matrices the packed copy was dropped.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)
from vllm.model_executor.model_loader import default_loader

from server.engines import cpu_worker, weight_pages

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
    told |= {"wrong": wrong, "dropped": dropped()}
    sys.stdout.write(json.dumps(told) + "\n")


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


def dropped() -> dict[str, list[str]]:
    """Names of matrices without a packed copy, in models with a head of their own and without."""
    found = {}
    for kind in ("own head", "embeddings as head", "no head"):
        model = torch.nn.Module()
        model.embeddings = matrix(VocabParallelEmbedding)
        if kind != "no head":
            model.lm_head = matrix(ParallelLMHead) if kind == "own head" else model.embeddings
        cpu_worker._unpack_embeddings(model)
        found[kind] = [
            name for name, child in model.named_children() if not hasattr(child, "cpu_linear")
        ]
    return found


def matrix(kind: type[torch.nn.Module]) -> torch.nn.Module:
    """One over a vocabulary, as far as this is about it; vLLM's own wants a group of workers."""
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    made.cpu_linear = torch.nn.functional.linear
    return made


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
