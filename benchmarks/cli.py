"""``python -m benchmarks [measurement] [options]``: parse, measure, print, write, gate."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from benchmarks import (
    adapters,
    cold_start,
    contention,
    first_serve,
    herd,
    memory,
    page,
    profile_stream,
    report,
    throughput,
)
from benchmarks.errors import BenchError
from benchmarks.options import Session, common, say, session
from benchmarks.report import Report, markdown_table
from server.errors import CorralError

EXIT_MISSED = 1
EXIT_FAILED = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measurement that can be asked for."""

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[Session], Report]
    writes: bool = True


DEFAULT = "throughput"
MEASUREMENTS = {
    DEFAULT: Measurement(
        "Corral beside vLLM's own server (the default)", throughput.add_options, throughput.measure
    ),
    "adapters": Measurement(
        "what adapters cost, beside vLLM's own server", adapters.add_options, adapters.measure
    ),
    "cold-start": Measurement(
        "process start to first token, beside vLLM's own server",
        cold_start.add_options,
        cold_start.measure,
    ),
    "contention": Measurement(
        "throughput while another process takes a core",
        contention.add_options,
        contention.measure,
    ),
    "first-serve": Measurement(
        "`make serve` in a clean clone to the first answer",
        first_serve.add_options,
        first_serve.measure,
    ),
    "memory": Measurement(
        "what an engine holds, beside what the ledger counts for it",
        memory.add_options,
        memory.measure,
    ),
    "herd": Measurement(
        "three models with room for two; a swap beside a start of vLLM's own server",
        herd.add_options,
        herd.measure,
    ),
    "page": Measurement(
        "the chat page in a browser: first load, typing, long lists", page.add_options, page.measure
    ),
    "profile-stream": Measurement(
        "where the HTTP process spends its time (prints only)",
        profile_stream.add_options,
        profile_stream.measure,
        writes=False,
    ),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Exit codes: 0 limits kept, 1 a limit missed, 2 the measurement failed. "
        f"Without a measurement: {DEFAULT}.",
    )
    names = top.add_subparsers(dest="measurement", required=True)
    for name, measurement in MEASUREMENTS.items():
        sub = names.add_parser(name, help=measurement.help, parents=[common()])
        measurement.add_options(sub)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = bool(words) and words[0] in (*MEASUREMENTS, "-h", "--help")
    options = parser().parse_args(words if named else [DEFAULT, *words])
    signal.signal(signal.SIGTERM, _interrupt)  # so that servers are stopped then as well
    try:
        return _run(MEASUREMENTS[options.measurement], options, report.shown_command(words))
    except (BenchError, CorralError) as error:
        say(f"benchmark failed: {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("interrupted; the servers are stopped")
        return EXIT_INTERRUPTED


def _run(measurement: Measurement, options: argparse.Namespace, command: str) -> int:
    with session(options) as opened:
        found = measurement.measure(opened)
    print(f"\n{report.head(command)}\n\n{markdown_table(found.table)}\n")
    if measurement.writes and not options.no_write:
        report.write(found, command, options.results)
    for line in found.missed:
        say(f"limit missed: {line}")
    return EXIT_MISSED if found.missed and not options.no_gate else 0


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
