"""vLLM's own benchmark client, ``vllm bench serve``, over each way to generate.

Run by the server's Python, which has it. The command ``vllm`` of the CPU build does not start, so
what it would call is called here. Reads OPENAI_BASE_URL, OPENAI_API_KEY, MODEL and, for numbers
worth writing down, PROMPTS (8) and CONCURRENCY (4).
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

from server.commands.inventory import open_registry, open_store
from server.settings import read_settings

PROMPTS = int(os.environ.get("PROMPTS", "8"))
CONCURRENCY = int(os.environ.get("CONCURRENCY", "4"))
TOKENS_IN, TOKENS_OUT = 128, 64
ENDPOINTS = {
    "openai": "/v1/completions",
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
}
SHOWN = ("output_throughput", "median_ttft_ms", "p99_ttft_ms", "median_tpot_ms", "median_itl_ms")


def measure(backend: str, tokenizer: str) -> dict[str, Any]:
    """The client's own result; what it prints goes to stderr."""
    values = {
        "backend": backend,
        "base-url": os.environ["OPENAI_BASE_URL"].removesuffix("/v1"),
        "endpoint": ENDPOINTS[backend],
        "model": os.environ["MODEL"],
        "tokenizer": tokenizer,
        "dataset-name": "random",
        "random-input-len": TOKENS_IN,
        "random-output-len": TOKENS_OUT,
        "num-prompts": PROMPTS,
        "max-concurrency": CONCURRENCY,
        "temperature": 0,
        "seed": 1,
    }
    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    arguments = [f"--{name}={value}" for name, value in values.items()]
    with contextlib.redirect_stdout(sys.stderr):
        return main(parser.parse_args([*arguments, "--ignore-eos", "--disable-tqdm"]))


def run() -> None:
    settings = read_settings()
    source = open_registry(settings).resolve(os.environ["MODEL"]).source
    tokenizer = str(open_store(settings).prepare(source))
    for backend in ENDPOINTS:
        result = measure(backend, tokenizer)
        figures = ", ".join(f"{name} {result[name]:.1f}" for name in SHOWN)
        print(f"{backend}: {figures}")
        assert result["completed"] == PROMPTS
        assert result["failed"] == 0
        # Every answer to its limit, as counted by the server.
        assert result["total_output_tokens"] == PROMPTS * TOKENS_OUT


if __name__ == "__main__":
    run()
