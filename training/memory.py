"""What memory a recipe needs, from the model's shape; docs/training.md derives the sums."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.registry.cache import read_json
from server.registry.values import format_bytes
from training.recipe import Recipe

_FLOAT, _BFLOAT = 4, 2
_ADAM = 2 * _FLOAT
# Bytes a token and layer that stay for the backward pass, in units of the two widths.
_KEPT_HIDDEN, _KEPT_INNER = 16, 8
# What FSDP holds whole beside its shards: the layer that is computed and the next one.
_WHOLE_LAYERS = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """A LLaMA in numbers, as its ``config.json`` has them."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False

    @classmethod
    def of(cls, directory: Path) -> Shape:
        """Read a model's folder."""
        config = read_json(directory / "config.json")
        heads = int(config["num_attention_heads"])
        return cls(
            hidden=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's linear layers."""
        keys = self.hidden // self.heads * self.kv_heads
        return {
            "q_proj": (self.hidden, self.hidden),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (self.hidden, self.hidden),
            "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer."""
        return sum(a * b for a, b in self.linears.values()) + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + embeddings + self.hidden

    def adapter_parameters(self, rank: int, targets: Any) -> int:
        """Parameters of a LoRA adapter."""
        chosen = (shape for name, shape in self.linears.items() if name in targets)
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in chosen)


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes on each of the processes."""

    weights: int
    gradients: int
    optimiser: int
    gathered: int
    """Whole layers that FSDP puts together while it computes."""
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimiser + self.gathered + self.activations


def memory_need(shape: Shape, recipe: Recipe, processes: int = 1) -> Need:
    """What training takes on each process, weights and all that belongs to them sharded.

    Args:
        shape: The model.
        recipe: How it is trained.
        processes: How many share it, with FSDP's full sharding.
    """
    trained = shape.parameters
    width = _BFLOAT if recipe.schedule.precision == "bfloat16" else _FLOAT
    weights = _FLOAT * trained
    if recipe.lora is not None:
        trained = shape.adapter_parameters(recipe.lora.rank, recipe.lora.targets)
        weights = width * shape.parameters + _FLOAT * trained
    gathered = 0 if processes == 1 else _WHOLE_LAYERS * width * shape.layer_parameters
    tokens = recipe.schedule.micro_batch * recipe.max_length
    a_layer = (_KEPT_HIDDEN * shape.hidden + _KEPT_INNER * shape.inner) * width // _BFLOAT
    kept = shape.layers * a_layer
    if recipe.schedule.checkpoint_activations:
        kept = shape.layers * shape.hidden * width + a_layer
    return Need(
        weights=weights // processes,
        gradients=_FLOAT * trained // processes,
        optimiser=_ADAM * trained // processes,
        gathered=gathered,
        activations=tokens * kept,
    )


def describe_need(shape: Shape, recipe: Recipe) -> str:
    """One line for people."""
    need = memory_need(shape, recipe)
    return (
        f"about {format_bytes(need.total)} of memory in one process: weights "
        f"{format_bytes(need.weights)}, gradients {format_bytes(need.gradients)}, optimiser "
        f"{format_bytes(need.optimiser)}, activations {format_bytes(need.activations)}"
    )
