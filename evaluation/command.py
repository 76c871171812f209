"""The body of ``corral eval``: flags to options, errors to exit codes, and a last look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.endpoint import Endpoint
from evaluation.errors import EvaluationError, WrongUsage
from evaluation.figures import ALL, Results
from evaluation.loading import HELD_OUT, check_languages
from evaluation.options import Options
from evaluation.plots import describe, percent
from evaluation.progress import Screen
from evaluation.questions import Asking
from evaluation.run import evaluate
from evaluation.runners import check_runner


@dataclass(frozen=True, slots=True)
class Given:
    """The flags as they were typed."""

    base_url: str
    api_key: str
    judge_api_key: str
    models: tuple[str, ...]
    out: Path
    suites: tuple[str, ...]
    languages: tuple[str, ...]
    limit: int | None
    held_out: str | None
    judge: str | None
    judge_url: str | None
    all_pairs: bool
    baseline: str
    completions: tuple[str, ...]
    temperature: float
    seeds: tuple[str, ...]
    max_tokens: int | None
    concurrency: int
    timeout: float
    runner: str

    def options(self) -> Options:
        """Checked.

        Raises:
            WrongUsage, WrongInput: A flag means nothing, or not beside another.
        """
        check_languages(self.languages)
        if not self.languages or not self.suites:
            raise WrongUsage("--suite and --language name at least one each")
        if self.judge_url and not self.judge:
            raise WrongUsage("--judge-base-url needs --judge")
        held_out = self._held_out()
        return Options(
            base_url=self.base_url,
            models=self.models,
            out=self.out,
            suites=self.suites,
            languages=self.languages,
            limit=self.limit,
            held_out=held_out,
            needs_likelihoods=self.held_out is not None and held_out is not None,
            judge=self.judge,
            judge_url=self.judge_url,
            all_pairs=self.all_pairs,
            baseline=self.baseline,
            asking=Asking(
                self.temperature, self._seeds(), frozenset(self.completions), self.max_tokens
            ),
            concurrency=self.concurrency,
            timeout=self.timeout,
            runner=self.runner,
            api_key=self.api_key,
        )

    def _held_out(self) -> Path | None:
        """Ours is a part of the suite ``all``."""
        if self.held_out is None:
            return HELD_OUT if "all" in self.suites else None
        return None if self.held_out == "none" else Path(self.held_out)

    def _seeds(self) -> tuple[int, ...]:
        try:
            seeds = tuple(dict.fromkeys(int(seed) for seed in self.seeds))
        except ValueError:
            raise WrongUsage("--seeds are whole numbers with commas between") from None
        return seeds or (0,)

    def connect(self, url: str | None) -> Endpoint:
        """The models' endpoint, or a judge's of its own."""
        return Endpoint(
            url or self.base_url,
            self.judge_api_key if url else self.api_key,
            concurrency=self.concurrency,
            timeout=self.timeout,
        )


async def run(given: Given) -> int:
    """Evaluate; returns the exit code."""
    err, out = Console(stderr=True, highlight=False), Console(highlight=False)
    try:
        options = given.options()
        check_runner(options)
        with Screen(err) as screen:
            results = await evaluate(options, given.connect, screen)
    except EvaluationError as error:
        for line in str(error).splitlines():
            err.print(Text.assemble(("corral: ", "red"), line), soft_wrap=True)
        return error.exit_code
    out.print(_summary(results))
    err.print(Text(f"{options.out / 'report.html'}"), soft_wrap=True)
    return 0


def _summary(results: Results) -> Table:
    """A row a model."""
    table = Table(box=None, pad_edge=False)
    for title in ("model", "right answers", "ended", "loss"):
        table.add_column(title, overflow="fold")
    for model in results.models:
        right = results.rates[model].get(ALL, {}).get(ALL)
        ended, loss = results.ended.get(model), results.loss.get(model)
        table.add_row(
            Text(model),
            describe(right, percent) if right else "–",
            percent(ended.value) if ended else "–",
            f"{loss.text.value:.3f}" if loss else "–",
        )
    return table
