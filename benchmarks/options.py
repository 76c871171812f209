"""What all measurements need: the command line's common part, and the session it makes."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.errors import BenchError
from benchmarks.machine import QUIET_PERCENT, ROOT, others_percent
from benchmarks.report import RESULTS
from benchmarks.servers import Model


@dataclass(frozen=True)
class Session:
    """One run of a measurement.

    Args:
        options: The parsed command line.
        logs: Folder for server logs, removed after a success.
    """

    options: argparse.Namespace
    logs: Path

    @cached_property
    def model(self) -> Model:
        """The model under test, brought to this machine when first asked for."""
        return Model.prepare(self.options.registry, self.options.model)


def common() -> argparse.ArgumentParser:
    """Options of every measurement, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    add("--registry", type=Path, default=ROOT / "model_registry.yaml", help="registry file")
    add("--model", help="id in the registry [its first]")
    add("--port", type=int, help="port of the servers [a free one]")
    add("--timeout", type=float, default=600, help="seconds for a start or a load [%(default)s]")
    add("--vllm-args", default="", help="further arguments for vLLM's own server, in one string")
    add("--results", type=Path, default=RESULTS, help="file whose section is replaced")
    add("--no-write", action="store_true", help="print only, leave the results file alone")
    add("--no-gate", action="store_true", help="exit code 0 though a limit is missed")
    return parser


def add_rounds(parser: argparse.ArgumentParser, default: int) -> None:
    """The option for how often everything is measured."""
    parser.add_argument("--rounds", type=positive, default=default, help="rounds [%(default)s]")


def positive(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def numbers(text: str) -> list[int]:
    """Whole numbers from 1, separated by commas."""
    return [positive(part) for part in text.split(",")]


@contextmanager
def session(options: argparse.Namespace) -> Iterator[Session]:
    """Warn when the machine is busy; server logs are kept when the measurement fails."""
    used = others_percent()
    if used > QUIET_PERCENT:
        say(f"warning: the machine is not quiet, {used:.0f} % of its CPU is in use")
    logs = Path(mkdtemp(prefix="corral-bench-"))
    try:
        yield Session(options, logs)
    except BenchError:
        say(f"logs are kept in {logs}")
        raise
    except BaseException:
        shutil.rmtree(logs)
        raise
    shutil.rmtree(logs)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
