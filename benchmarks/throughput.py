"""Corral and vLLM's own server in turn on the same loads: tokens/s, latency, front-end CPU."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from benchmarks import load
from benchmarks.errors import BenchError
from benchmarks.load import Load, LoadGenerator, Measured
from benchmarks.options import Session, add_rounds, numbers, positive, say
from benchmarks.ratios import Comparison, Limit, missed
from benchmarks.report import Report
from benchmarks.servers import Server, System, corral, vllm

# Both tokenise the same texts; a special token or two a prompt may be added.
_INPUT_TOLERANCE = 0.02
_WARM_UP_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table: the field of `Measured`, its name, the limit of its ratio."""

    field: str
    name: str
    limit: Limit | None = None
    digits: int = 1


METRICS = (
    Metric("tokens_per_s", "output tokens/s", Limit("≥", 1.4)),
    Metric("ttft_ms", "median TTFT (ms)", Limit("≤", 0.7)),
    Metric("ttft_p99_ms", "p99 TTFT (ms)"),
    Metric("tpot_ms", "median time per output token (ms)"),
    Metric("itl_ms", "median inter-token latency (ms)"),
    Metric("cpu_us_per_token", "CPU of the HTTP process per token (µs)", Limit("<", 1.0)),
    Metric("chunks_per_token", "SSE chunks per token", digits=2),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One load on one server."""

    system: str
    round: int
    load: Load
    measured: Measured


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this measurement."""
    add_rounds(parser, 3)
    parser.add_argument(
        "--streams", type=numbers, default=[1, 8, 32], help="requests at once [1,8,32]"
    )
    parser.add_argument("--prompts", type=positive, help="requests [2 a stream, at least 8]")
    parser.add_argument(
        "--backend", choices=sorted(load.ENDPOINTS), default="openai", help="[%(default)s]"
    )


def measure(session: Session) -> Report:
    """Both servers, one at a time, ``--rounds`` times; in each round both get the same seeds."""
    options = session.options
    runs: list[Run] = []
    for number in range(1, options.rounds + 1):
        for system in (corral(session.model), vllm(session.model, options.vllm_args)):
            runs += _measure_server(session, system, number)
    backend: str = options.backend
    comparisons = compare(runs)
    suffix = "" if backend == "openai" else "-chat"
    return Report(
        section=f"throughput{suffix}",
        title=f"Throughput and latency, {load.ENDPOINTS[backend]}",
        table=table(comparisons),
        runs=[asdict(run) for run in runs],
        notes=[_note(options.rounds)],
        missed=missed(comparisons),
    )


def _measure_server(session: Session, system: System, number: int) -> list[Run]:
    options = session.options
    runs = []
    say(f"round {number}: starting {system.name}")
    with Server(system, session.logs, options.port) as server:
        server.wait_ready(session.model.id, options.timeout)
        with LoadGenerator(server, session.model, session.logs, options.timeout) as generator:
            generator.run(_warm_up(options, number))
            for streams in options.streams:
                one = _load(options, number, streams)
                measured = generator.run(one)
                say(
                    f"round {number}: {system.name}, {streams} streams: "
                    f"{measured.tokens_per_s:.1f} tokens/s, TTFT {measured.ttft_ms:.0f} ms, "
                    f"{measured.cpu_us_per_token:.0f} µs CPU a token"
                )
                runs.append(Run(system.name, number, one, measured))
    return runs


def _load(options: argparse.Namespace, number: int, streams: int) -> Load:
    return Load(
        streams=streams,
        prompts=options.prompts or load.default_prompts(streams),
        seed=1000 * number + streams,  # new prompts each time: no prefix cache helps
        backend=options.backend,
    )


def _warm_up(options: argparse.Namespace, number: int) -> Load:
    most = max(options.streams)
    return Load(
        streams=most,
        prompts=most,
        seed=1000 * number,
        backend=options.backend,
        output_tokens=_WARM_UP_TOKENS,
    )


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Every metric at every stream count, Corral beside vLLM.

    Raises:
        BenchError: The two did not read the same prompts.
    """
    comparisons = []
    for streams in sorted({run.load.streams for run in runs}):
        mine = [run.measured for run in runs if _is(run, "Corral", streams)]
        others = [run.measured for run in runs if _is(run, "vLLM", streams)]
        _check_inputs(mine, others)
        for metric in METRICS:
            value = _getter(metric.field)
            comparisons.append(
                Comparison(
                    label=(str(streams), metric.name),
                    ours=[value(one) for one in mine],
                    theirs=[value(one) for one in others],
                    limit=metric.limit,
                    digits=metric.digits,
                )
            )
    return comparisons


def _is(run: Run, system: str, streams: int) -> bool:
    return run.system == system and run.load.streams == streams


def _getter(field: str) -> Callable[[Measured], float]:
    return lambda measured: float(getattr(measured, field))


def _check_inputs(mine: Sequence[Measured], others: Sequence[Measured]) -> None:
    for a, b in zip(mine, others, strict=True):
        if abs(a.input_tokens - b.input_tokens) > _INPUT_TOLERANCE * b.input_tokens:
            raise BenchError(
                f"the servers read different prompts: {a.input_tokens} and {b.input_tokens} tokens"
            )


def table(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """The report's table; the stream count stands in the first row of its group only."""
    rows = [["streams", "metric", "Corral", "vLLM", "Corral / vLLM", "limit", ""]]
    shown = ""
    for row in (comparison.row() for comparison in comparisons):
        rows.append([row[0] if row[0] != shown else "", *row[1:]])
        shown = row[0]
    return rows


def _note(rounds: int) -> str:
    return (
        f"Random prompts of {load.INPUT_TOKENS} tokens, {load.OUTPUT_TOKENS} tokens of answer "
        f"(`ignore_eos`, temperature 0), streamed. {rounds} round(s), the servers in turn and "
        "never at the same time; values are medians over the rounds, the ratio is the median of "
        "the rounds' ratios with the smallest and the largest, limits are about that median."
    )
