"""``corral train``: it parses and calls; no logic."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from server.console import FetchBars, out
from server.registry import default_cache_dir
from server.settings import Settings, read_settings
from training.errors import ExtraMissing, TrainingError

_EXTRA = ("trl", "peft", "accelerate", "datasets", "tensorboard", "matplotlib")


class _RunByDefault(TyperGroup):
    """``corral train RECIPE`` is ``corral train run RECIPE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Train a model by a recipe: corral train RECIPE.yaml",
)

Registry = Annotated[
    str | None, typer.Option(metavar="PATH", help="Registry file [./model_registry.yaml].")
]
CacheDir = Annotated[
    str | None, typer.Option(metavar="PATH", help="Where files are kept [~/.cache/corral].")
]


@app.command("run")
def run_recipe(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped recipe's name.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Look at recipe and data; train nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an earlier run.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier run first.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run [runs/NAME].")
    ] = None,
    registry: Registry = None,
    cache_dir: CacheDir = None,
) -> None:
    """Train by a recipe.

    Ctrl-C and SIGTERM end it after the present step, to be gone on with by --resume. On several
    GPUs: accelerate launch --config_file CONFIG.yaml -m training RECIPE.yaml
    """
    if resume and fresh:
        raise typer.BadParameter("--resume and --fresh exclude each other")
    settings = read_settings(registry=registry, cache_dir=cache_dir)
    if not check:
        require_extra()
    from training.job import Job

    job = Job.load(shipped(recipe), output, settings.registry_path, _cache_of(settings))
    if check:
        for line in job.check():
            out.print(line, markup=False)
        return
    folder = job.run(resume=resume, fresh=fresh)
    if folder is not None:
        out.print(f"{folder.result}: done", markup=False)
        out.print(f"serve it: corral models add {folder.entry}", markup=False)


@app.command("merge")
def merge_adapter(
    what: Annotated[str, typer.Argument(metavar="RUN|ID", help="A run's folder, or an adapter.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to.")],
    registry: Registry = None,
    cache_dir: CacheDir = None,
) -> None:
    """Put an adapter into its base's weights, for Corral, vLLM, transformers and llama.cpp."""
    require_extra()
    settings = read_settings(registry=registry, cache_dir=cache_dir)
    from training.merging import find_pair, merge

    pair = find_pair(what, settings.registry_path, _cache_of(settings), FetchBars(what))
    merge(pair, output)
    out.print(f"{output}: merged from {pair.name}", markup=False)


def shipped(recipe: Path) -> Path:
    """The file itself or, where there is none and only a name is given, the recipe that Corral
    brings: beside this code in an installed package, at the repository's root in a checkout."""
    if recipe.exists() or recipe.suffix or len(recipe.parts) != 1:
        return recipe
    package = Path(__file__).resolve().parent
    places = [folder / "recipes" / f"{recipe}.yaml" for folder in (package, package.parent)]
    return next((place for place in places if place.is_file()), recipe)


def require_extra() -> None:
    """Check that what trains is installed.

    Raises:
        ExtraMissing: Something is not.
    """
    for package in _EXTRA:
        if find_spec(package) is None:
            raise ExtraMissing(package)
    if find_spec("torch") is None:
        raise TrainingError("Training needs PyTorch, which comes with Corral's engine build.")


def _cache_of(settings: Settings) -> Path:
    return settings.cache_dir or default_cache_dir()
