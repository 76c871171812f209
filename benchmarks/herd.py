"""Several models on one machine: many clients with room for two of three models, and swaps.

The swap is measured beside a start of ``vllm serve`` for the second model, which is what takes its
place where a server has one model.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx
import psutil
import yaml

from benchmarks.errors import BenchError
from benchmarks.options import Session, add_rounds, say
from benchmarks.ratios import Comparison, Limit, missed
from benchmarks.report import Report
from benchmarks.servers import Server, corral, vllm
from benchmarks.stream_client import ask
from server.engines.memory import Meter

SWAP_LIMIT = Limit("≤", 0.3)
MIB = 1 << 20
BUDGET = 2600 * MIB
NAMES = ("alder", "birch", "cedar")
_QUESTION = "What is the capital of France? Answer in one sentence."


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the mix: seconds from its start, and what came of it."""

    model: str
    seconds: float
    status: int
    text: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this measurement."""
    add_rounds(parser, 3)
    parser.add_argument("--requests", type=int, default=200, help="requests of the mix [200]")
    parser.add_argument("--clients", type=int, default=20, help="clients that send them [20]")


def measure(session: Session) -> Report:
    """The mix first, then swaps and starts of vLLM's server in turn."""
    registry = _registry(session)
    mix, held = _mix(session, registry)
    swaps, starts = [], []
    for number in range(1, session.options.rounds + 1):
        swaps.append(_swap(session, registry))
        starts.append(_start_vllm(session))
        say(f"round {number}: swap {swaps[-1]:.1f} s, vLLM's server {starts[-1]:.1f} s")
    swap = Comparison(("model B instead of A: first token (s)",), swaps, starts, SWAP_LIMIT)
    seconds = sorted(request.seconds for request in mix)
    lost = [request for request in mix if request.status != 200]
    failures = missed([swap])
    if lost:
        failures.append(f"{len(lost)} of {len(mix)} requests of the mix were lost")
    if max(held) > BUDGET:
        failures.append(f"the engines held {max(held) // MIB} MiB, {BUDGET // MIB} were allowed")
    return Report(
        section="herd",
        title="Three models with room for two, and swaps",
        table=[["", "Corral", "vLLM", "Corral / vLLM", "limit", ""], swap.row()],
        runs=[asdict(request) for request in mix],
        notes=[
            f"{len(mix)} chat requests from {session.options.clients} clients, each to one of "
            f"three models at random, with room for two ({BUDGET // MIB} MiB): {len(lost)} lost. "
            f"Seconds to the whole answer: median {statistics.median(seconds):.1f}, 95% "
            f"{seconds[int(0.95 * len(seconds))]:.1f}, longest {seconds[-1]:.1f}. The engines' "
            f"processes held at most {max(held) // MIB} MiB together, sampled five times a second.",
            "Swap: two models are loaded, the third is asked for; one of the two is unloaded "
            "for it. vLLM: its own server started for one model, everything in the disk cache.",
        ],
        missed=failures,
    )


def _registry(session: Session) -> Path:
    """A registry with three engines on the model under test."""
    loaded = yaml.safe_load(session.model.registry.read_text())
    entry = next(entry for entry in loaded["models"] if entry["id"] == session.model.id)
    common = {key: entry[key] for key in ("source", "template") if key in entry}
    models = [
        common
        | {"id": name, "load": "on_demand", "context": {"length": 2048 - 512 * number}}
        | {"engine": {"kv_cache": f"{160 - 10 * number}MiB"}}
        for number, name in enumerate(NAMES)
    ]
    herd = {"memory": BUDGET, "max_wait": "20s", "min_residency": "5s", "drain": "30s"}
    path = session.logs / "herd.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "herd": herd, "models": models}))
    return path


@contextmanager
def _held(server: Server) -> Iterator[list[int]]:
    """Samples what the engines hold, in bytes, until left."""
    meter, samples, over = Meter(), [0], threading.Event()

    def engines() -> list[int]:
        return [
            child.pid
            for process in psutil.Process(server.front_pid).children()
            if "forkserver" in " ".join(process.cmdline())
            for child in process.children()
        ]

    def sample() -> None:
        while not over.wait(0.2):
            samples.append(meter.used(engines()))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def _mix(session: Session, registry: Path) -> tuple[list[Request], list[int]]:
    options = session.options
    choose = random.Random(1)
    models = [choose.choice(NAMES) for _ in range(options.requests)]
    system = corral(replace(session.model, registry=registry))
    with (
        Server(system, session.logs, options.port) as server,
        _held(server) as samples,
        ThreadPoolExecutor(options.clients) as clients,
    ):
        url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
        _until_listening(server)
        done = list(clients.map(lambda model: _request(url, model, options.timeout), models))
    return done, samples


def _until_listening(server: Server) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        server.check_alive()
        try:
            httpx.get(f"http://127.0.0.1:{server.port}/health", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise BenchError("the server does not listen")


def _request(url: str, model: str, timeout_s: float) -> Request:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _QUESTION}],
        "temperature": 0,
        "max_tokens": 16,
    }
    began = time.monotonic()
    answer = httpx.post(url, json=body, timeout=timeout_s)
    seconds = time.monotonic() - began
    text = answer.json()["choices"][0]["message"]["content"] if answer.is_success else answer.text
    return Request(model, seconds, answer.status_code, text)


def _swap(session: Session, registry: Path) -> float:
    """Seconds to the first token of a model that needs another one's room."""
    options = session.options
    system = corral(replace(session.model, registry=registry))
    with Server(system, session.logs, options.port) as server:
        for name in NAMES[:2]:
            ask(server.port, name, timeout_s=options.timeout, check_alive=server.check_alive)
        time.sleep(3.0)  # longer than the grace that a pause is given
        began = time.monotonic()
        answer = ask(
            server.port, NAMES[2], timeout_s=options.timeout, check_alive=server.check_alive
        )
        return answer.first_token_at - began


def _start_vllm(session: Session) -> float:
    options = session.options
    system = vllm(session.model, options.vllm_args)
    with Server(system, session.logs, options.port) as server:
        answer = ask(
            server.port, session.model.id, timeout_s=options.timeout, check_alive=server.check_alive
        )
        return answer.first_token_at - server.started_at
