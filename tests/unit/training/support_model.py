"""A tiny LLaMA with random weights, a registry over it, and runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from server.registry import NullProgress
from tests.unit.prompts.support_tokenizers import (
    CHATML_SPECIALS,
    CHATML_TEMPLATE,
    byte_level,
    llama,
    write_model,
)
from tests.unit.training.support import alpaca, located, recipe_of, written
from training.base_model import bring, find_source
from training.recipe import Recipe
from training.run_folder import RunFolder

REGISTRY = "models:\n  - id: tiny\n    source: {directory: tiny}\n"
LORA = {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": ["q_proj", "v_proj"]}
SCHEDULE = {
    "steps": 8,
    "batch": 4,
    "micro_batch": 2,
    "learning_rate": 0.02,
    "precision": "float32",
    "save_every": 100,
}


def write_tiny(folder: Path, kind: str = "chatml") -> Path:
    """A model folder: 2 layers of width 32 over bytes, or over LLaMA's kind of pieces."""
    tokenizer = byte_level(CHATML_SPECIALS) if kind == "chatml" else llama(legacy=False)
    bos, eos = ("<|im_start|>", "<|im_end|>") if kind == "chatml" else ("<s>", "</s>")
    config: dict[str, Any] = {"bos_token": bos, "eos_token": eos}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    config |= {"unk_token": "<|endoftext|>"} if kind == "chatml" else {"add_bos_token": True}
    template = {"chat_template": CHATML_TEMPLATE} if kind == "chatml" else {}
    write_model(folder, tokenizer, tokenizer_config=config, **template)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer["model"]["vocab"]),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    return folder


def tiny_recipe(output: Path, **fields: Any) -> Recipe:
    """A recipe of eight steps on the tiny model."""
    schedule = SCHEDULE | fields.pop("schedule", {})
    known: dict[str, Any] = {"lora": LORA, "held_out": 4, "max_length": 256, "output": output}
    known |= {"system": "", "report": {"tensorboard": False}}
    return recipe_of(schedule=schedule, **known | fields)


def run_tiny(recipe: Recipe, ranch: Path, *, rows: int = 24, **options: Any) -> RunFolder:
    """Run a recipe on ``rows`` additions, alone or as one of several processes.

    Args:
        ranch: Holds the registry and the tiny model.
    """
    from training.runner import run

    data = ranch / "data" / f"rows-{rows}.jsonl"
    if not data.is_file():
        written(data, alpaca(rows))
    source, entry_id = find_source(recipe, ranch / "model_registry.yaml")
    base = bring(source, entry_id, ranch / "cache", NullProgress())
    return run(recipe, base, located(recipe, data), **options) or RunFolder(recipe.folder)
