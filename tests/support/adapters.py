"""LoRA adapters for tests, written as PEFT writes them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def linear_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Whole name of every linear layer of a LLaMA → inputs and outputs."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    shapes = {
        "self_attn.q_proj": (hidden, queries),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (queries, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }
    return {
        f"model.layers.{layer}.{name}": shape
        for layer in range(config["num_hidden_layers"])
        for name, shape in shapes.items()
    }


def write_adapter(
    directory: Path,
    shapes: Mapping[str, tuple[int, int]],
    *,
    rank: int = 8,
    targets: Collection[str] = ("q_proj", "v_proj"),
    seed: int = 0,
    strength: float = 1.0,
    **config: Any,
) -> Path:
    """An adapter with random numbers.

    Args:
        shapes: The model's linear layers, as of ``linear_shapes``.
        targets: Last names of the layers that it changes.
        strength: How large what it adds is, beside what the layer itself gives.
        config: Further fields of adapter_config.json.
    """
    numbers = np.random.default_rng(seed)
    tensors = {}
    for name, (inputs, outputs) in shapes.items():
        if name.rpartition(".")[2] in targets:
            down = numbers.standard_normal((rank, inputs)) / inputs**0.5
            up = numbers.standard_normal((outputs, rank)) * strength / rank
            for half, values in (("A", down), ("B", up)):
                tensors[f"base_model.model.{name}.lora_{half}.weight"] = values.astype(np.float32)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    fields |= {"target_modules": sorted(targets), "task_type": "CAUSAL_LM"}
    (directory / "adapter_config.json").write_text(json.dumps(fields | config))
    return directory


def write_linears(directory: Path, config: Mapping[str, Any]) -> None:
    """``model.safetensors`` with every linear layer of a LLaMA, all zeros."""
    tensors = {
        f"{name}.weight": np.zeros((outputs, inputs), np.float16)
        for name, (inputs, outputs) in linear_shapes(config).items()
    }
    tensors["model.embed_tokens.weight"] = np.zeros((8, config["hidden_size"]), np.float16)
    save_file(tensors, directory / "model.safetensors")
