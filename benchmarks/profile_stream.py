"""Where the HTTP process spends its time while it streams, sampled by py-spy."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks import load
from benchmarks.errors import BenchError
from benchmarks.load import Load, LoadGenerator
from benchmarks.options import Session, positive
from benchmarks.report import Report
from benchmarks.servers import Server, corral, vllm

_SHOWN = 25
_RATE_HZ = 500
_WRITE_S = 60


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this measurement."""
    parser.add_argument("--system", choices=["corral", "vllm"], default="corral")
    parser.add_argument(
        "--streams", type=positive, default=8, help="requests at once [%(default)s]"
    )
    parser.add_argument("--prompts", type=positive, help="requests [2 a stream, at least 8]")


def measure(session: Session) -> Report:
    """One load on one server; functions by the samples in which they were running."""
    options = session.options
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        raise BenchError("py-spy is not there. Run: .venv/bin/pip install py-spy")
    system = {"corral": corral, "vllm": vllm}[options.system](session.model)
    prompts = options.prompts or load.default_prompts(options.streams)
    with Server(system, session.logs, options.port) as server:
        server.wait_ready(session.model.id, options.timeout)
        with LoadGenerator(server, session.model, session.logs, options.timeout) as generator:
            generator.run(Load(streams=options.streams, prompts=options.streams, seed=0))
            raw = session.logs / "profile.txt"
            with subprocess.Popen(_command(spy, server.front_pid, raw)) as recorder:
                measured = generator.run(Load(streams=options.streams, prompts=prompts, seed=1))
                recorder.send_signal(signal.SIGINT)  # py-spy writes its file
                recorder.wait(_WRITE_S)
    own, total = count(raw.read_text(encoding="utf-8").splitlines())
    return Report(
        section=f"profile-{options.system}",
        title=f"Profile of the HTTP process, {system.name}",
        table=table(own, total),
        notes=[
            f"{options.streams} streams, {measured.cpu_us_per_token:.0f} µs CPU a token with the "
            f"profiler; samples at {_RATE_HZ} Hz of the threads that hold the GIL."
        ],
    )


def _command(spy: str, pid: int, raw: Path) -> list[str]:
    return [
        *(spy, "record", "--pid", str(pid), "--rate", str(_RATE_HZ), "--duration", "3600"),
        # Threads that hold the GIL: those that wait are taken for running on some kernels.
        *("--gil", "--format", "raw", "--function", "--output", str(raw)),
    ]


def count(lines: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """Samples by function, from py-spy's raw format (``outer;inner 12``).

    Returns:
        Samples in which the function itself ran, and those in which it was on the stack.
    """
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(samples)
        for frame in set(frames):
            total[frame] += int(samples)
    return own, total


def table(own: Counter[str], total: Counter[str]) -> list[list[str]]:
    """The functions that ran most."""
    samples = sum(own.values()) or 1
    rows = [
        [f"{100 * number / samples:.1f} %", f"{100 * total[name] / samples:.1f} %", f"`{name}`"]
        for name, number in own.most_common(_SHOWN)
    ]
    return [["itself", "with callees", "function"], *rows]
