"""What an adapter should compute: its product added to the weights, W + alpha / rank * B A."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file


def merge(model: Any, folder: Path) -> None:
    """Put an adapter into the weights of one of transformers' models."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    parameters = dict(model.named_parameters())
    for name, down in tensors.items():
        if name.endswith(".lora_A.weight"):
            up = tensors[name.replace(".lora_A.", ".lora_B.")]
            weight = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            # A model without its head has its layers at the top.
            found = parameters.get(weight)
            found = parameters[weight.removeprefix("model.")] if found is None else found
            found.data += config["lora_alpha"] / config["r"] * up @ down
