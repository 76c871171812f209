"""One streamed chat request, sent as soon as the port answers, and the time of its first token."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import BenchError

QUESTION = "What is the capital of France? Answer in one sentence."
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Answer:
    """A streamed answer; times are ``time.perf_counter`` seconds."""

    accepted_at: float
    first_token_at: float
    ended_at: float
    text: str


def ask(port: int, model: str, *, timeout_s: float, check_alive: Callable[[], None]) -> Answer:
    """Ask for the capital of France, again and again until the port accepts, then read the stream.

    Args:
        port: On 127.0.0.1.
        model: Model to ask.
        timeout_s: Longest wait for the port, and then for any part of the answer.
        check_alive: Called while nobody listens; raises when waiting is in vain.

    Raises:
        BenchError: No answer in time, an error instead of one, or an empty one.
    """
    connection = _connect(port, timeout_s, check_alive)
    accepted_at = time.perf_counter()
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(_body(model)),
            {"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise BenchError(f"status {response.status}: {response.read().decode()[:500]}")
        first_at, parts = 0.0, []
        for part in _contents(response):
            first_at = first_at or time.perf_counter()
            parts.append(part)
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"the answer broke off: {error!r}") from error
    finally:
        connection.close()
    if not parts:
        raise BenchError("the answer was empty")
    return Answer(accepted_at, first_at, time.perf_counter(), "".join(parts))


def _body(model: str) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "temperature": 0,
        "max_tokens": 16,
    }


def _connect(
    port: int, timeout_s: float, check_alive: Callable[[], None]
) -> http.client.HTTPConnection:
    deadline = time.monotonic() + timeout_s
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        try:
            connection.connect()
        except ConnectionRefusedError:
            check_alive()
            if time.monotonic() > deadline:
                raise BenchError(f"nobody listened on the port for {timeout_s:.0f} s") from None
            time.sleep(_POLL_S)
        else:
            return connection


def _contents(response: http.client.HTTPResponse) -> Iterator[str]:
    """The non-empty texts of the stream's chunks."""
    for line in response:
        data = line.decode().strip().removeprefix("data: ")
        if not line.startswith(b"data: ") or data == "[DONE]":
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            raise BenchError(f"the stream ended in an error: {chunk['error']}")
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                yield text
