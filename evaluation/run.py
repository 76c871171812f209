"""One evaluation, from options to a report: ask, score, judge, write."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from evaluation.endpoint import Endpoint
from evaluation.errors import CannotScore, ModelMissing
from evaluation.figures import Results
from evaluation.items import digest
from evaluation.jobs import Job, Progress, run_jobs
from evaluation.judging import judge_jobs, pairings
from evaluation.likelihood import choice_jobs, loss_jobs
from evaluation.loading import Conversation, Suite, load_suite, read_held_out
from evaluation.options import Options
from evaluation.questions import question_jobs
from evaluation.report import write_report
from evaluation.results import Source, summarise
from evaluation.runners import run_with
from evaluation.sandbox import Sandbox
from evaluation.store import Store

Connect = Callable[[str | None], Endpoint]


async def evaluate(options: Options, connect: Connect, progress: Progress) -> Results:
    """Ask whatever is not known yet, and write the report into ``options.out``.

    Args:
        connect: Makes the endpoint of a URL; None is that of the models.

    Raises:
        EvaluationError: With what was found out until then kept, for the next try.
    """
    suite = load_suite(options.suites, options.languages, options.limit)
    held_out = read_held_out(options.held_out, options.limit) if options.held_out else []
    with Store(options.out) as store:
        endpoint = connect(None)
        judge = connect(options.judge_url) if options.judge_url else endpoint
        try:
            run = _Run(options, suite, held_out, endpoint, judge, store, progress)
            await run.ask()
        finally:
            await endpoint.close()
            if judge is not endpoint:
                await judge.close()
        sandbox = Sandbox()
        if any(item.score and item.score.code for task in suite.tasks for item in task.items):
            await sandbox.prepare()
        if sandbox.why_not:
            progress.note(f"code is not scored: {sandbox.why_not}")
        results = await summarise(Source(options, suite, tuple(held_out), store), sandbox)
        results.notes[:0] = run.notes
        results.about = about(options, store.runs)
    write_report(results, options.out)
    return results


class _Run:
    """The part that talks to servers."""

    def __init__(
        self,
        options: Options,
        suite: Suite,
        held_out: Sequence[Conversation],
        endpoint: Endpoint,
        judge: Endpoint,
        store: Store,
        progress: Progress,
    ) -> None:
        self._options = options
        self._suite = suite
        self._held_out = held_out
        self._endpoint = endpoint
        self._judge = judge
        self._store = store
        self._progress = progress
        # Why something was left out, and what.
        self._left_out: dict[str, list[str]] = {}
        self._begun = datetime.now(UTC)
        self._clock = time.monotonic()
        self._server_version: str | None = None

    @property
    def notes(self) -> list[str]:
        """What was left out, a line a reason."""
        return [f"left out ({'; '.join(what)}): {why}" for why, what in self._left_out.items()]

    async def ask(self) -> None:
        """All stages, one model after the other, so that a server that holds one at a time does
        not change models with every request."""
        try:
            await self._ask()
        finally:
            # Not of a run that only made the report again.
            if self._server_version is not None:
                self._note_run()

    def _note_run(self) -> None:
        begun = f"{self._begun:%Y-%m-%d %H:%M:%S} UTC"
        record = {
            "kind": "run",
            "begun": begun,
            "seconds": round(time.monotonic() - self._clock, 1),
            "endpoint": self._endpoint.base_url,
            "server_version": self._server_version,
        }
        self._store.add(digest(record), record)

    async def _ask(self) -> None:
        stages = [
            (model, *stage) for model in self._options.models for stage in self._stages(model)
        ]
        own = self._options.runner == "own"
        if not own or any(not self._known(jobs) for _, _, jobs, _ in stages):
            await self._check(self._endpoint, self._options.models)
        if not own:
            await run_with(self._options, self._suite.tasks, self._store, self._progress)
        for model, what, jobs, optional in stages:
            await self._stage(f"{model}: {what}", jobs, optional=optional)
        if self._options.judge:
            await self._compare(self._options.judge)

    def _stages(self, model: str) -> list[tuple[str, list[Job], bool]]:
        options = self._options
        questions = question_jobs(self._endpoint, options.asking, model, self._suite.tasks)
        return [
            ("questions", [] if options.runner != "own" else [*questions], False),
            ("choices", [*choice_jobs(self._endpoint, model, self._suite.choices)], True),
            ("held-out", [*loss_jobs(self._endpoint, model, self._held_out)], True),
        ]

    def _known(self, jobs: Sequence[Job]) -> bool:
        return self._store.have(job.key for job in jobs)

    async def _stage(self, what: str, jobs: Sequence[Job], *, optional: bool) -> None:
        if not jobs:
            return
        try:
            await run_jobs(what, jobs, self._store, self._progress)
        except CannotScore as error:
            if not optional or self._options.needs_likelihoods:
                raise
            self._left_out.setdefault(str(error), []).append(what)
            self._progress.note(f"{what}: left out, because {error}")

    async def _compare(self, judge: str) -> None:
        options = self._options
        jobs = [
            job
            for pairing in pairings(judge, options.asking, options.pairs, self._suite.tasks)
            for job in judge_jobs(self._judge, judge, options.asking, pairing, self._store)
        ]
        if not self._known(jobs):
            await self._check(self._judge, [judge])
        await self._stage(f"{judge} judges", jobs, optional=False)

    async def _check(self, endpoint: Endpoint, models: Sequence[str]) -> None:
        """Raise ModelMissing before anything is asked, rather than at the third model."""
        known = await endpoint.models()
        version = await endpoint.version() or "unknown"
        if self._server_version is None:
            self._server_version = version
        if missing := [model for model in models if model not in known]:
            raise ModelMissing(
                f"{endpoint.base_url} has no model {', '.join(missing)}; it has "
                f"{', '.join(known) or 'none'}"
            )


def about(options: Options, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a reader needs to repeat a run, or to know what it was.

    Args:
        runs: See `Store.runs`.
    """
    asking = options.asking
    return {
        "endpoint": list(dict.fromkeys(run["endpoint"] for run in runs)),
        "server version": list(dict.fromkeys(run["server_version"] for run in runs)),
        "asked": list(dict.fromkeys(run["begun"] for run in runs)),
        "seconds of asking": round(sum(run["seconds"] for run in runs), 1),
        "models": list(options.models),
        "judge": options.judge,
        "judge's endpoint": options.judge_url,
        "suites": list(options.suites),
        "languages": list(options.languages),
        "items of a task at most": options.limit,
        "held-out file": options.held_out.name if options.held_out else None,
        "temperature": asking.temperature,
        "seeds": list(asking.seeds),
        "longest answer": asking.max_tokens,
        "asked as text": sorted(asking.completions),
        "runner": options.runner,
        "evaluation's version": _version("corral"),
        "openai's version": _version("openai"),
        "Python": platform.python_version(),
        "client's machine": f"{platform.system()} {platform.machine()}",
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
