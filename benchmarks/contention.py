"""Corral's throughput while another process takes a whole core, beside that on a quiet machine."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass

from benchmarks import load
from benchmarks.load import Load, LoadGenerator, Measured
from benchmarks.options import Session, add_rounds, numbers, positive, say
from benchmarks.ratios import Comparison, Limit, missed
from benchmarks.report import Report
from benchmarks.servers import Server, corral

# A core of two is gone; what is asked is that throughput falls about as the cores do.
LIMIT = Limit("≥", 0.35)
_BUSY = """
import os, sys
parent, core = int(sys.argv[1]), int(sys.argv[2])
os.sched_setaffinity(0, {core})
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One load, with or without the busy process."""

    busy: bool
    round: int
    load: Load
    measured: Measured


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this measurement."""
    add_rounds(parser, 3)
    parser.add_argument("--streams", type=numbers, default=[1, 8], help="requests at once [1,8]")
    parser.add_argument("--prompts", type=positive, help="requests [2 a stream, at least 8]")


def measure(session: Session) -> Report:
    """One server; each load quiet and busy in turn, without time to settle in between."""
    options = session.options
    runs: list[Run] = []
    with Server(corral(session.model), session.logs, options.port) as server:
        server.wait_ready(session.model.id, options.timeout)
        with LoadGenerator(server, session.model, session.logs, options.timeout) as generator:
            _run(options, generator, 0, max(options.streams), busy=False)  # warms up
            for number in range(1, options.rounds + 1):
                for streams in options.streams:
                    runs += [
                        _run(options, generator, number, streams, busy=busy)
                        for busy in (False, True)
                    ]
    comparisons = compare(runs)
    return Report(
        section="contention",
        title="Contention",
        table=[["streams", "metric", "busy", "quiet", "busy / quiet", "limit", ""]]
        + [comparison.row() for comparison in comparisons],
        runs=[asdict(run) for run in runs],
        notes=[
            "Busy: an endless loop pinned to one core for the whole load, from its first token."
        ],
        missed=missed(comparisons),
    )


def _run(
    options: argparse.Namespace, generator: LoadGenerator, number: int, streams: int, *, busy: bool
) -> Run:
    one = Load(
        streams=streams,
        prompts=options.prompts or load.default_prompts(streams),
        seed=1000 * number + 10 * streams + busy,
    )
    with busy_core() if busy else nullcontext():
        measured = generator.run(one)
    state = "busy" if busy else "quiet"
    say(f"round {number}: {state}, {streams} streams: {measured.tokens_per_s:.1f} tokens/s")
    return Run(busy, number, one, measured)


@contextmanager
def busy_core() -> Iterator[subprocess.Popen[bytes]]:
    """A process that takes the last core; it ends with this one, come what may."""
    core = max(os.sched_getaffinity(0))
    command = [sys.executable, "-c", _BUSY, str(os.getpid()), str(core)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def compare(runs: list[Run]) -> list[Comparison]:
    """Throughput and time to first token at every stream count, busy beside quiet."""
    comparisons = []
    for streams in sorted({run.load.streams for run in runs}):
        of = [run for run in runs if run.load.streams == streams]
        busy = [run.measured for run in of if run.busy]
        quiet = [run.measured for run in of if not run.busy]
        comparisons += [
            Comparison(
                (str(streams), "output tokens/s"),
                [one.tokens_per_s for one in busy],
                [one.tokens_per_s for one in quiet],
                LIMIT,
            ),
            Comparison(
                (str(streams), "median TTFT (ms)"),
                [one.ttft_ms for one in busy],
                [one.ttft_ms for one in quiet],
            ),
        ]
    return comparisons
