"""What the documents say of training is so: recipes load, commands parse, sums are right."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from tests.docs.blocks import ROOT, Block, of_kind
from training import cli
from training.memory import Shape, memory_need
from training.recipe import Recipe
from training.recipe_loader import field_descriptions, load_recipe

DOCUMENT = (ROOT / "docs" / "training.md").read_text("utf-8")
SHAPES = {
    "7b": Shape(4096, 11008, 32, 32, 32, 32000),
    "13b": Shape(5120, 13824, 40, 40, 40, 32000),
    "30b": Shape(6656, 17920, 60, 52, 52, 32000),
}


def where(block: Block) -> str:
    return block.where


@pytest.mark.parametrize("block", of_kind("yaml recipe"), ids=where)
def test_recipes_load(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(block.code, encoding="utf-8")
    assert load_recipe(path).data


@pytest.mark.parametrize("block", of_kind("sh train"), ids=where)
def test_commands_parse(block: Block) -> None:
    train = typer.main.get_command(cli.app)
    for line in block.code.splitlines():
        program, *words = shlex.split(line)
        if program == "make":
            subprocess.run(["make", "-n", *words], cwd=ROOT, check=True, capture_output=True)
        elif program == "accelerate":
            assert words[:2] == ["launch", "--config_file"]
            assert (ROOT / words[2]).is_file()
            load_recipe(ROOT / words[-1])
        elif words[0] == "models":
            assert words[1] == "add"
        else:
            assert (program, words[0]) == ("corral", "train")
            context = train.make_context("train", words[1:])
            name, command, rest = train.resolve_command(context, context._protected_args)  # type: ignore[attr-defined]
            assert name in ("run", "merge")
            options = command.make_context(name, [*rest, *context.args])
            if name == "run":
                load_recipe(cli.shipped(options.params["recipe"]))


def test_every_field_of_a_recipe_is_in_the_table() -> None:
    table = DOCUMENT.split("| field | |\n|---|---|\n")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", table, re.MULTILINE)
    assert rows == [*field_descriptions(Recipe)]


def test_the_sums_of_memory_are_what_the_recipes_need() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (\d) \| ([\d. |]+) \|$", DOCUMENT, re.MULTILINE)
    assert len(rows) == 9
    for name, processes, figures in rows:
        recipe = load_recipe(ROOT / "recipes" / f"{name}.yaml")
        shape = next(shape for size, shape in SHAPES.items() if f"-{size}" in name)
        need = memory_need(shape, recipe, int(processes))
        parts = (need.weights, need.gradients, need.optimiser, need.gathered, need.activations)
        assert figures == " | ".join(f"{part / 1e9:.1f}" for part in (*parts, need.total))


def test_parameters_are_counted_right() -> None:
    for shape in SHAPES.values():
        assert f"{shape.parameters:,}" in DOCUMENT
    smollm2 = Shape(576, 1536, 30, 9, 3, 49152, tied=True)
    assert smollm2.parameters == 134_515_008
    assert smollm2.adapter_parameters(8, ["q_proj", "k_proj", "v_proj", "o_proj"]) == 921_600
