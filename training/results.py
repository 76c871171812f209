"""What a finished run leaves: the result, its curves, its card and its registry entry."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save

from server.prompts.catalog import get_format
from server.registry.adapter_files import describe_adapter
from server.registry.sources_schema import ADAPTER_WEIGHTS
from training.base_model import BaseModel
from training.card import write_card
from training.curves import draw_curves
from training.export import dress_tokenizer
from training.recipe import Recipe
from training.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Losses:
    """What a run's loss has done.

    Args:
        trained: Step and loss of each log.
        held_out: Step and loss of each look at the held-out rows.
    """

    trained: Sequence[tuple[int, float]]
    held_out: Sequence[tuple[int, float]]

    @classmethod
    def of(cls, history: Sequence[Mapping[str, Any]]) -> Losses:
        """Read the trainer's log; of a step logged twice the last counts."""
        trained = {int(log["step"]): float(log["loss"]) for log in history if "loss" in log}
        held = {int(log["step"]): float(log["eval_loss"]) for log in history if "eval_loss" in log}
        return cls(sorted(trained.items()), sorted(held.items()))


def save_results(
    trainer: Any, tokenizer: Any, recipe: Recipe, base: BaseModel, folder: RunFolder
) -> None:
    """Write everything; the weights by all processes together, the rest by the first one."""
    result = folder.result
    trainer.save_model(str(result))
    if not trainer.is_world_process_zero():
        return
    losses = Losses.of(trainer.state.log_history)
    if recipe.lora is None:
        dress_tokenizer(tokenizer, get_format(recipe.template), result)
    else:
        shrink_adapter(result, recipe)
        _leave_adapter_files(result)
        describe_adapter(result, recipe.name)
    write_losses(folder.path / "loss.csv", losses)
    draw_curves(folder.path, recipe.name, losses.trained, losses.held_out)
    write_card(result, recipe, base, folder, losses.trained, losses.held_out)
    write_entry(folder, recipe, base)
    for path in result.iterdir():
        path.chmod(0o644)  # safetensors lets its owner alone read what it writes


def shrink_adapter(result: Path, recipe: Recipe) -> None:
    """Store the adapter in the precision that it was computed with: half the bytes."""
    path = result / ADAPTER_WEIGHTS
    dtype = torch.bfloat16 if recipe.schedule.precision == "bfloat16" else torch.float32
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in load_file(path).items()}
    path.write_bytes(save(tensors, metadata={"format": "pt"}))


def write_losses(path: Path, losses: Losses) -> None:
    """The curves as a table: step, loss, held_out_loss."""
    trained, held_out = dict(losses.trained), dict(losses.held_out)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss", "held_out_loss"])
        for step in sorted({*trained, *held_out}):
            writer.writerow([step, trained.get(step, ""), held_out.get(step, "")])


def write_entry(folder: RunFolder, recipe: Recipe, base: BaseModel) -> None:
    """The registry entry of the result, and of its base where no entry serves that."""
    said = recipe.model_dump(mode="json", exclude_unset=True, include={"history", "system"})
    entry: dict[str, Any] = {"id": recipe.name}
    if recipe.description:
        entry["description"] = recipe.description
    models = []
    if recipe.lora is None:
        entry["source"] = {"directory": folder.result.name}
    else:
        base_id = base.entry_id
        if base_id is None:
            base_id = f"{recipe.name}-base"
            source = base.source.model_dump(mode="json", exclude_unset=True)
            models.append({"id": base_id, "source": source, "load": "on_demand"})
        entry |= {"base": base_id, "adapter": {"directory": folder.result.name}}
    sampling = recipe.sampling.model_dump(mode="json", exclude_none=True)
    entry |= {"template": recipe.template} | said | ({"sampling": sampling} if sampling else {})
    text = yaml.safe_dump({"models": [*models, entry]}, sort_keys=False, allow_unicode=True)
    folder.entry.write_text(
        f"# Have a running server serve it: corral models add {folder.entry}\n{text}",
        encoding="utf-8",
    )


def _leave_adapter_files(result: Path) -> None:
    """PEFT names the machine's folder of the base; and TRL writes a card and the tokenizer."""
    config = json.loads((result / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None
    config["target_modules"] = sorted(config["target_modules"])
    text = json.dumps(config, indent=2, sort_keys=True)
    (result / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
    for path in result.iterdir():
        if path.name not in ("adapter_config.json", ADAPTER_WEIGHTS):
            path.unlink()
