"""One load on a running server, by vLLM's own ``vllm.benchmarks.serve``, and what came of it."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.errors import BenchError
from benchmarks.machine import ENVIRONMENT, ROOT
from benchmarks.servers import Model, Server, excerpt

ENDPOINTS = {"openai": "/v1/completions", "openai-chat": "/v1/chat/completions"}
INPUT_TOKENS = 128
OUTPUT_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests to send.

    Args:
        streams: Requests under way at once.
        prompts: Requests in all.
        seed: Draws the random prompts; another seed shares no prefix with this one.
        backend: ``openai`` (completions) or ``openai-chat``.
        output_tokens: Length of every answer.
        models: Models to ask in turn; none: the model under test.
    """

    streams: int
    prompts: int
    seed: int
    backend: str = "openai"
    output_tokens: int = OUTPUT_TOKENS
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures of one load; times in the units of their names, medians and p99 over requests."""

    tokens_per_s: float
    ttft_ms: float
    ttft_p99_ms: float
    tpot_ms: float
    itl_ms: float
    cpu_us_per_token: float
    chunks_per_token: float
    duration_s: float
    input_tokens: int
    output_tokens: int


def default_prompts(streams: int) -> int:
    """Enough requests for a median: two a stream, at least eight."""
    return max(8, 2 * streams)


def arguments(load: Load, server_port: int, model: Model) -> list[str]:
    """The command line of ``vllm bench serve`` for this load."""
    # What it calls adapters are names, whatever is behind them.
    asked = ["--lora-assignment", "round-robin", "--lora-modules", *load.models]
    return [
        *("--backend", load.backend, "--endpoint", ENDPOINTS[load.backend]),
        *("--host", "127.0.0.1", "--port", str(server_port)),
        *("--model", model.id, "--served-model-name", model.id),
        *("--tokenizer", str(model.directory)),
        *("--dataset-name", "random", "--random-input-len", str(INPUT_TOKENS)),
        *("--random-output-len", str(load.output_tokens), "--ignore-eos"),
        *("--num-prompts", str(load.prompts), "--max-concurrency", str(load.streams)),
        # The servers' default sampling differs (registry, generation_config.json).
        *("--seed", str(load.seed), "--temperature", "0"),
        *("--save-detailed", "--disable-tqdm"),
        *(asked if load.models else ()),
    ]


class LoadGenerator:
    """A process that sends loads to one server; a context manager.

    Args:
        server: Running and ready.
        model: What to ask for.
        logs: Folder for what vLLM's client prints.
        timeout_s: For a load, and for the client's start.
    """

    def __init__(self, server: Server, model: Model, logs: Path, timeout_s: float) -> None:
        self._server = server
        self._model = model
        self._timeout_s = timeout_s
        self._log = logs / f"load-{time.time_ns()}.log"

    def __enter__(self) -> LoadGenerator:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.load_worker"],
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._answer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, load: Load) -> Measured:
        """Send the load and measure it.

        Raises:
            BenchError: A request failed, an answer was short or not streamed, or time ran out.
        """
        assert self._process.stdin is not None
        command = arguments(load, self._server.port, self._model)
        job = {"arguments": command, "front_pid": self._server.front_pid}
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
            return parse(self._answer(), load)
        except (BenchError, OSError) as error:
            raise self._server.error(f"failed under {load}: {error}") from error

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._timeout_s)[0]:
            raise BenchError(f"no result within {self._timeout_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the load generator ended. Its log:\n{excerpt(self._log)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(answer["error"])
        return answer


def _environment() -> dict[str, str]:
    """No proxy between client and server, and no key that belongs elsewhere."""
    changed = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "VLLM_LOGGING_LEVEL": "WARNING"}
    kept = {name: value for name, value in ENVIRONMENT.items() if name != "OPENAI_API_KEY"}
    return kept | changed


def parse(result: Mapping[str, Any], load: Load) -> Measured:
    """Figures from an answer of the load generator.

    Raises:
        BenchError: They are not those of a complete, streamed run.
    """
    errors = [text for text in result["errors"] if text]
    if errors or result["failed"] or result["completed"] != load.prompts:
        last = errors[0].strip().splitlines()[-1] if errors else "no reason given"
        raise BenchError(f"{result['completed']} of {load.prompts} requests succeeded: {last}")
    tokens = result["total_output_tokens"]
    if tokens != load.prompts * load.output_tokens:
        expected = load.prompts * load.output_tokens
        raise BenchError(f"{tokens} tokens came where {expected} were asked for")
    chunks = sum(1 + len(gaps) for gaps in result["itls"])
    if load.output_tokens > 1 and chunks <= load.prompts:
        raise BenchError("the answers were not streamed")
    return Measured(
        tokens_per_s=result["output_throughput"],
        ttft_ms=result["median_ttft_ms"],
        ttft_p99_ms=result["p99_ttft_ms"],
        tpot_ms=result["median_tpot_ms"],
        itl_ms=result["median_itl_ms"],
        cpu_us_per_token=result["front_cpu_seconds"] / tokens * 1e6,
        chunks_per_token=chunks / tokens,
        duration_s=result["duration"],
        input_tokens=result["total_input_tokens"],
        output_tokens=tokens,
    )
