"""From process start to the first streamed token, everything installed and fetched before."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.errors import BenchError
from benchmarks.options import Session, add_rounds, say
from benchmarks.ratios import Comparison, Limit, missed
from benchmarks.report import Report
from benchmarks.servers import Server, System, corral, vllm
from benchmarks.stream_client import ask

LIMIT = Limit("≤", 0.5)


@dataclass(frozen=True, slots=True)
class Start:
    """One start; seconds from the start of the process."""

    system: str
    round: int
    accepted_s: float
    first_token_s: float
    text: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this measurement."""
    add_rounds(parser, 3)
    parser.add_argument(
        "--cold-cache",
        action="store_true",
        help="empty compile caches for every start (default: as an earlier start left them)",
    )


def measure(session: Session) -> Report:
    """Both servers in turn; one start of each before, unmeasured, warms disk and caches."""
    systems = (corral(session.model), vllm(session.model, session.options.vllm_args))
    cold: bool = session.options.cold_cache
    if not cold:
        for system in systems:
            _start(session, system, 0)
    starts = [
        _start(session, system, number)
        for number in range(1, session.options.rounds + 1)
        for system in systems
    ]
    comparisons = compare(starts)
    caches = "empty before every start" if cold else "warm, as an earlier start leaves it"
    return Report(
        section=f"cold-start{'-empty-cache' if cold else ''}",
        title=f"Cold start{', empty compile cache' if cold else ''}",
        table=[["", "Corral", "vLLM", "Corral / vLLM", "limit", ""]]
        + [comparison.row() for comparison in comparisons],
        runs=[asdict(start) for start in starts],
        notes=[
            "Seconds from the start of the process; the request (chat, streamed) is sent as soon "
            f"as the port accepts a connection. vLLM's torch.compile cache is {caches}; the "
            "model's files are in the disk cache of the operating system."
        ],
        missed=missed(comparisons),
    )


def compare(starts: list[Start]) -> list[Comparison]:
    """The two times of all starts."""
    mine = [start for start in starts if start.system == "Corral"]
    others = [start for start in starts if start.system == "vLLM"]
    return [
        Comparison(
            ("port accepts (s)",), [s.accepted_s for s in mine], [s.accepted_s for s in others]
        ),
        Comparison(
            ("first token (s)",),
            [s.first_token_s for s in mine],
            [s.first_token_s for s in others],
            LIMIT,
        ),
    ]


def _start(session: Session, system: System, number: int) -> Start:
    options = session.options
    with TemporaryDirectory(prefix="corral-bench-cache-") as caches:
        environment = _empty_caches(Path(caches)) if options.cold_cache else {}
        with Server(system, session.logs, options.port, environment) as server:
            try:
                answer = ask(
                    server.port,
                    session.model.id,
                    timeout_s=options.timeout,
                    check_alive=server.check_alive,
                )
            except BenchError as error:
                raise server.error(f"gave no first token: {error}") from error
            start = Start(
                system.name,
                number,
                answer.accepted_at - server.started_at,
                answer.first_token_at - server.started_at,
                answer.text,
            )
    say(
        f"round {number or 'of warm-up'}: {system.name}: first token after "
        f"{start.first_token_s:.1f} s ({start.text!r})"
    )
    return start


def _empty_caches(folder: Path) -> dict[str, str]:
    return {
        "VLLM_CACHE_ROOT": str(folder / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }
