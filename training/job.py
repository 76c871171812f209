"""A recipe with everything that it names brought to this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from server.console import FetchBars
from server.prompts.catalog import get_format
from server.prompts.formatter import Formatter
from server.prompts.tokenizer import PromptTokenizer
from training.base_model import BaseModel, bring, find_source
from training.data.lengths import Lengths
from training.data.sets import Located, survey, training_rows
from training.data.sources import DataStore
from training.encoding import encoded
from training.memory import Shape, describe_need
from training.recipe import Recipe
from training.recipe_loader import load_recipe
from training.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Job:
    """A recipe, ready to be run.

    Args:
        recipe: The recipe.
        base: The model that it starts from.
        sets: Its data.
    """

    recipe: Recipe
    base: BaseModel
    sets: list[Located]

    @classmethod
    def load(cls, path: Path, output: Path | None, registry: Path, cache_dir: Path) -> Job:
        """Read a recipe and bring its model and data.

        Raises:
            RecipeError: The file is wrong.
            SourceError: Something can't be brought.
            TrainingError: The registry has no such model.
        """
        recipe = load_recipe(path)
        if output is not None:
            recipe = recipe.model_copy(update={"output": output})
        source, entry_id = find_source(recipe, registry)
        store = DataStore(cache_dir)
        sets = [
            Located(data, store.files(data.source, FetchBars(data.name))) for data in recipe.data
        ]
        base = bring(source, entry_id, cache_dir, FetchBars(recipe.name))
        return cls(recipe, base, sets)

    def check(self) -> Iterator[str]:
        """Look at every row; says in lines what would be trained.

        Raises:
            DataError: Rows are wrong.
        """
        recipe = self.recipe
        found = survey(self.sets, recipe)
        for name, counts in found.counts.items():
            yield (
                f"{name}: {counts.rows} rows, {counts.skipped} skipped, {counts.duplicates} "
                f"duplicates, {counts.held_out} held out, {counts.trained} trained an epoch"
            )
        formatter = Formatter(
            get_format(recipe.template),
            PromptTokenizer.from_directory(self.base.directory),
            history=recipe.history,
            default_system=recipe.system,
        )
        lengths = Lengths(recipe.max_length)
        rows = training_rows(self.sets, recipe, found.cut)
        for _ in encoded(rows, recipe, formatter, lengths):
            pass
        summary = lengths.summary()
        yield "tokens a row: " + ", ".join(
            f"{name.replace('_', ' ')} {summary[name]}"
            for name in ("mean", "half", "most", "nearly_all", "longest")
        )
        yield (
            f"{summary['tokens']} tokens an epoch, {summary['trained_tokens']} of them trained; "
            f"{summary['truncated']} rows too long, {summary['dropped']} left out"
        )
        steps = recipe.schedule.steps or round(
            (recipe.schedule.epochs or 0) * -(-lengths.rows // recipe.schedule.batch)
        )
        yield f"{steps} steps of {recipe.schedule.batch} rows"
        yield describe_need(Shape.of(self.base.directory), recipe)

    def run(self, *, resume: bool, fresh: bool) -> RunFolder | None:
        """Train; returns the run's folder, or None in a process that is not the first."""
        from training.runner import leave_group, run

        folder = run(self.recipe, self.base, self.sets, resume=resume, fresh=fresh)
        leave_group()
        return folder
