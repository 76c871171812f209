"""The load generator's process: vLLM's benchmark client, one job a line on stdin.

A process of its own, started once the server is ready and ended with it: it holds 0.7 GB, and
vLLM's server refuses to start unless 92 % of the memory is free. Also, vLLM changes the environment
of the process that imports it.

Each line is ``{"arguments": [...], "front_pid": 123}``, each answer a line with the result of
``vllm bench serve --save-detailed`` and ``front_cpu_seconds``, or with ``{"error": "..."}``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from benchmarks.process_clock import process_cpu_seconds


def main() -> None:
    """Answer jobs until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints goes to the log
    from vllm.benchmarks import serve
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    serve.add_cli_args(parser)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            options = parser.parse_args(job["arguments"])
            answer = _measured(serve, options, job["front_pid"])
        except Exception as error:  # noqa: BLE001  # whatever it was, the parent reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _measured(serve: Any, options: Any, front_pid: int) -> dict[str, Any]:
    """Run vLLM's benchmark; CPU time is taken around the requests, not the drawing of prompts."""
    send_requests = serve.benchmark
    cpu_seconds = 0.0

    async def timed(**arguments: Any) -> Any:
        nonlocal cpu_seconds
        before = process_cpu_seconds(front_pid)
        result = await send_requests(**arguments)
        cpu_seconds = process_cpu_seconds(front_pid) - before
        return result

    serve.benchmark = timed
    try:
        result: dict[str, Any] = asyncio.run(serve.main_async(options))
    finally:
        serve.benchmark = send_requests
    result.pop("generated_texts", None)
    return result | {"front_cpu_seconds": cpu_seconds}


if __name__ == "__main__":
    main()
