"""Other programs that may ask the questions instead: lm-eval and inspect-ai, where installed.

They get our task files in their own form, and their answers are kept as if we had asked, so that
one report is made of whatever asked.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Final

from evaluation.errors import RunnerMissing, WrongUsage
from evaluation.items import Task
from evaluation.jobs import Progress
from evaluation.options import Options
from evaluation.store import Store

RUNNERS: Final = {"lm-eval": ("lm_eval", "'lm-eval[api]'"), "inspect": ("inspect_ai", "inspect-ai")}


def check_runner(options: Options) -> None:
    """Before anything is asked.

    Raises:
        RunnerMissing: The program is not installed.
        WrongUsage: It cannot do what was asked for.
    """
    if options.runner == "own":
        return
    if options.runner not in RUNNERS:
        raise WrongUsage(f"--runner is own, {' or '.join(RUNNERS)}")
    module, package = RUNNERS[options.runner]
    if importlib.util.find_spec(module) is None:
        raise RunnerMissing(f"--runner {options.runner} needs a package: pip install {package}")
    if len(options.asking.seeds) > 1 or options.asking.completions:
        raise WrongUsage(f"--runner {options.runner} takes neither --seeds nor --completions")


async def run_with(
    options: Options, tasks: Sequence[Task], store: Store, progress: Progress
) -> None:
    """Have another program ask whatever has no answer yet."""
    if options.runner == "lm-eval":
        from evaluation.runners.lm_eval_runner import ask
    else:
        from evaluation.runners.inspect_runner import ask
    await ask(options, tasks, store, progress)
