"""The weights, where they learn, and what a batch is padded with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.errors import TrainingError
from training.recipe import Lora, Recipe

_DTYPES: Final = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def load_tokenizer(directory: Path, new_tokens: Sequence[str]) -> Any:
    """transformers' tokenizer of a model, with tokens added and something to pad with.

    It is never asked to tokenise: rows are rendered by the serving formatter.

    Raises:
        TrainingError: There is no token to pad with.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    tokenizer.add_tokens(list(new_tokens), special_tokens=True)
    padding = choose_padding(tokenizer, new_tokens)
    if padding is None:
        raise TrainingError(
            "This model's tokenizer has no token to pad with that is not its end of text. Add one "
            'to the recipe: new_tokens: ["[PAD]"] (without lora)'
        )
    tokenizer.pad_token = padding
    return tokenizer


def choose_padding(tokenizer: Any, new_tokens: Sequence[str] = ()) -> str | None:
    """A token to fill rows of a batch with: never one that ends an answer.

    Padding has no label, so any other token will do. But EOS as padding makes tools that mask all
    padding mask the end of the answers too, and a model so trained never stops.
    """
    padding = next((token for token in new_tokens if "pad" in token.lower()), None)
    candidates = (padding, tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token)
    return next((token for token in candidates if token and token != tokenizer.eos_token), None)


def load_model(directory: Path, recipe: Recipe) -> Any:
    """The model to train; frozen weights in the recipe's precision, trained ones in float32."""
    frozen = recipe.lora is not None
    dtype = _DTYPES[recipe.schedule.precision] if frozen else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        str(directory), dtype=dtype, attn_implementation="sdpa", local_files_only=True
    )
    model.config.use_cache = False
    return model


def add_embeddings(model: Any, size: int) -> None:
    """Make room for so many tokens; new rows of both embeddings are the mean of the old ones.

    Args:
        model: Any causal model.
        size: Tokens of the tokenizer. A model that has as many embeddings already stays as it is.
    """
    old = model.get_input_embeddings().weight.shape[0]
    if size <= old:
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = layer.weight.data
        weight[old:] = weight[:old].mean(dim=0, keepdim=True)


def lora_config(lora: Lora) -> LoraConfig:
    """PEFT's configuration of an adapter that the engine serves."""
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )


def require_targets(model: Any, lora: Lora) -> None:
    """Check that the model has the layers that are to be adapted.

    Raises:
        TrainingError: It lacks one; names those that it has.
    """
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    missing = sorted({*lora.targets} - linear)
    if missing:
        raise TrainingError(
            f"lora.targets: the model has no layers {', '.join(missing)}. It has "
            f"{', '.join(sorted(linear - {'lm_head'}))}."
        )
