"""An adapter put into its base's weights: a whole model for Corral and for other tools."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from server.prompts.catalog import FORMATS, get_format
from server.registry import ModelStore, Progress, load_registry
from server.registry.adapter_files import describe_adapter, find_misfits
from server.registry.cache import read_json
from server.registry.sources_schema import DirectorySource
from training.base_model import find_source
from training.errors import TrainingError
from training.export import dress_tokenizer
from training.recipe import Recipe
from training.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Pair:
    """What is merged.

    Args:
        base: Folder of the base's files.
        adapter: Folder of the adapter's.
        template: Prompt format of the result.
        name: What to call it.
    """

    base: Path
    adapter: Path
    template: str
    name: str


def find_pair(what: str, registry_path: Path, cache_dir: Path, progress: Progress) -> Pair:
    """Look up what is to be merged.

    Args:
        what: Folder of a finished run, or id of an adapter in the registry.

    Raises:
        TrainingError: It is neither.
        SourceError: Its files can't be brought.
    """
    store = ModelStore(cache_dir)
    run = RunFolder(Path(what))
    if run.state_file.is_file():
        recipe = Recipe.model_validate(run.state()["recipe"])
        if recipe.lora is None:
            raise TrainingError(f"{what} has trained all weights: {run.result} is a whole model.")
        source, _ = find_source(recipe, registry_path)
        adapter = run.result
        if not adapter.is_dir():
            raise TrainingError(f"The run in {what} has not finished; go on with it: --resume")
        return Pair(store.prepare(source, progress), adapter, recipe.template, recipe.name)
    registry = load_registry(registry_path, known_templates=FORMATS)
    entry = next((each for each in registry.models if what in (each.id, *each.aliases)), None)
    if entry is None or entry.adapter is None:
        raise TrainingError(
            f"'{what}' is neither the folder of a run nor an adapter of {registry_path}."
        )
    adapter = store.adapters.prepare(entry.adapter, progress)
    return Pair(store.prepare(entry.source, progress), adapter, entry.template, entry.id)


def merge(pair: Pair, target: Path) -> None:
    """Write the merged model.

    Args:
        pair: What to merge.
        target: Folder to write; it must not be there, or be empty.

    Raises:
        TrainingError: The folder is in use.
        SourceError: The adapter does not fit.
    """
    if target.exists() and any(target.iterdir()):
        raise TrainingError(f"{target} is not empty; name another folder.")
    info = describe_adapter(pair.adapter, pair.name)
    if misfits := find_misfits(info, pair.base):
        raise TrainingError(f"{pair.name} does not fit its base: {'; '.join(misfits)}.")
    stored = read_json(pair.base / "config.json").get("dtype", "bfloat16")
    # Added up in float32 and rounded once.
    model = AutoModelForCausalLM.from_pretrained(
        str(pair.base), dtype=torch.float32, local_files_only=True
    )
    merged = PeftModel.from_pretrained(model, str(pair.adapter)).merge_and_unload()
    merged = merged.to(getattr(torch, stored) if isinstance(stored, str) else torch.bfloat16)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as partial:
        merged.save_pretrained(partial)
        tokenizer = AutoTokenizer.from_pretrained(str(pair.base), local_files_only=True)
        dress_tokenizer(tokenizer, get_format(pair.template), Path(partial))
        target.mkdir(exist_ok=True)
        for path in Path(partial).iterdir():
            shutil.move(path, target / path.name)


def directory_entry(pair: Pair, target: Path) -> dict[str, object]:
    """The registry entry that serves the merged model."""
    source = DirectorySource(directory=target.resolve()).model_dump(mode="json")
    return {"id": f"{pair.name}-merged", "source": source, "template": pair.template}
