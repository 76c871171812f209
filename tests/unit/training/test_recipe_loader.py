"""Recipes: all mistakes at once with line and remedy, and every shipped one loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.registry import HubSource
from training.errors import RecipeError
from training.recipe import Lora
from training.recipe_loader import load_recipe

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
GOOD = """\
name: mine
model: smollm2-135m-instruct
template: alpaca
lora: {rank: 4}
data:
  - name: rows
    source: {directory: data}
schedule: {epochs: 1}
"""


def problems(text: str, folder: Path) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return [str(problem) for problem in caught.value.problems]


def test_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(GOOD)
    recipe = load_recipe(path)
    assert recipe.model == "smollm2-135m-instruct"
    assert recipe.lora == Lora(rank=4)
    assert recipe.data[0].source.directory == tmp_path / "data"  # type: ignore[union-attr]
    assert recipe.folder == Path("runs/mine")


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = """\
name: mine
model: {hub: not a repository}
template: alpacca
lora: {rank: 0, targets: [lm_head], learning_rate: 1}
data:
  - name: rows
    source: {package: llamafactory, version: 0.9.5, file: rows.csv}
    wieght: 2
  - source: {hub: a/b, directory: c}
    name: other
held_out: 1.5
rank: 3
schedule: {epochs: 1, steps: 2, batch: many}
packing: yes please
"""
    assert problems(text, tmp_path) == [
        "line 2: model.hub: must be a repository as organisation/name, not 'not a repository'",
        "line 3: template: unknown template 'alpacca' (did you mean 'alpaca'?)",
        "line 4: lora.rank: must be at least 1, not the number 0",
        "line 4: lora.targets: lm_head cannot be adapted: no engine serves it",
        "line 4: lora: unknown field 'learning_rate' (known: alpha, dropout, rank, targets)",
        "line 7: data.0.source.file: must name a file of rows (.json, .jsonl, .parquet, .txt, .md, "
        ".json.gz, .jsonl.gz)",
        "line 8: data.0: unknown field 'wieght' (did you mean 'weight'?)",
        "line 9: data.1.source: must be a mapping with exactly one of directory, hub, package",
        "line 11: held_out: must be a number of rows, or a share between 0 and 1, or null",
        "line 12: rank: unknown field 'rank' (it belongs under 'lora')",
        "line 13: schedule.batch: must be a whole number, not 'many'",
        "line 14: packing: must be true or false, not 'yes please'",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("epochs: 1", "batch: 2"), "line 8: schedule: must have one of epochs and steps"),
        (
            ("template", "new_tokens: ['[PAD]']\ntemplate"),
            "line 1: recipe: new_tokens cannot be trained with lora; leave one of them out",
        ),
        (
            ("template", "streaming: true\ntemplate"),
            "line 1: recipe: streaming needs schedule.steps: nobody knows how long an epoch is",
        ),
        (("name: mine", "mine"), "line 2: recipe: is not valid YAML"),
        (("{rank: 4}", "{rank: 4, rank: 5}"), "line 4: lora: 'rank' is given twice"),
    ],
)
def test_single_mistakes(change: tuple[str, str], problem: str, tmp_path: Path) -> None:
    (found,) = problems(GOOD.replace(*change), tmp_path)
    assert found.startswith(problem)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read: No such file or directory"):
        load_recipe(tmp_path / "none.yaml")


PUBLISHED = {
    "alpaca-7b-full": (3, 128, 2e-5, 512, None),
    "alpaca-13b-full": (3, 128, 2e-5, 512, None),
    "alpaca-lora-7b": (10, 128, 3e-4, 512, (16, ["q_proj", "k_proj", "v_proj", "o_proj"])),
    "mix-7b-lora": (1, 256, 4.5e-4, 512, (8, ["q_proj", "v_proj"])),
    "mix-13b": (1, 256, 4.5e-4, 512, (8, ["q_proj", "v_proj"])),
    "mix-30b": (1, 256, 4.5e-4, 512, (8, ["q_proj", "v_proj"])),
    "smollm2-alpaca-lora": (1, 8, 1e-3, 256, (8, ["q_proj", "k_proj", "v_proj", "o_proj"])),
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_have_the_published_figures(path: Path) -> None:
    recipe = load_recipe(path)
    plan, lora = recipe.schedule, recipe.lora
    adapter = None if lora is None else (lora.rank, lora.targets)
    said = (plan.epochs, plan.batch, plan.learning_rate, recipe.max_length, adapter)
    assert said == PUBLISHED[path.stem]
    if lora is not None:
        assert (lora.alpha, lora.dropout) == (16, 0.05)
    if "full" in path.stem:
        assert (plan.weight_decay, plan.warmup, plan.decay) == (0, 0.03, "cosine")
        assert recipe.new_tokens == ["[PAD]"]
    assert isinstance(recipe.model, str | HubSource)
    first, needs = path.read_text().splitlines()[:2]
    assert first.startswith(("# corral train recipes/", "# accelerate launch --config_file "))
    assert f"recipes/{path.name}" in first
    assert needs.startswith("#")


def test_every_recipe_is_shipped() -> None:
    assert {path.stem for path in RECIPES} == {*PUBLISHED}
