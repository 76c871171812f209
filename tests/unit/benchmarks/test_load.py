"""The load generator's command line, and what is made of its result."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import BenchError
from benchmarks.load import Load, arguments, default_prompts, parse
from benchmarks.servers import Model

LOAD = Load(streams=2, prompts=2, seed=7, output_tokens=4)


def result(**changed: Any) -> dict[str, Any]:
    """The parts that are read of a result of ``vllm bench serve --save-detailed``."""
    return {
        "completed": 2,
        "failed": 0,
        "errors": ["", ""],
        "total_input_tokens": 256,
        "total_output_tokens": 8,
        "itls": [[0.1, 0.1, 0.1], [0.1, 0.1]],
        "duration": 0.5,
        "front_cpu_seconds": 0.0008,
        "output_throughput": 16.0,
        "median_ttft_ms": 50.0,
        "p99_ttft_ms": 60.0,
        "median_tpot_ms": 100.0,
        "median_itl_ms": 101.0,
        **changed,
    }


def test_figures_of_a_good_run() -> None:
    measured = parse(result(), LOAD)
    assert measured.tokens_per_s == 16.0
    assert (measured.ttft_ms, measured.ttft_p99_ms) == (50.0, 60.0)
    assert (measured.tpot_ms, measured.itl_ms) == (100.0, 101.0)
    assert measured.cpu_us_per_token == pytest.approx(100.0)
    assert measured.chunks_per_token == 7 / 8


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"completed": 1, "failed": 1, "errors": ["", "Traceback …\nOSError: reset\n"]},
            "1 of 2 requests succeeded: OSError: reset",
        ),
        ({"completed": 1, "failed": 1}, "1 of 2 requests succeeded: no reason given"),
        ({"total_output_tokens": 7}, "7 tokens came where 8 were asked for"),
        ({"itls": [[], []]}, "not streamed"),
    ],
)
def test_a_bad_run_makes_no_figures(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        parse(result(**changed), LOAD)


def test_every_stream_has_two_prompts_and_a_median_has_eight() -> None:
    assert [default_prompts(streams) for streams in (1, 4, 8, 32)] == [8, 8, 16, 64]


def test_arguments_say_everything_that_decides_the_load() -> None:
    model = Model("m", Path("/weights"), Path("/registry.yaml"), Path("/cache"))
    words = arguments(Load(streams=8, prompts=16, seed=1008, backend="openai-chat"), 81, model)
    flags = dict(zip(words, [*words[1:], ""], strict=True))
    wanted = {
        "--backend": "openai-chat",
        "--endpoint": "/v1/chat/completions",
        "--port": "81",
        "--model": "m",
        "--tokenizer": "/weights",
        "--dataset-name": "random",
        "--random-input-len": "128",
        "--random-output-len": "64",
        "--num-prompts": "16",
        "--max-concurrency": "8",
        "--seed": "1008",
        "--temperature": "0",
    }
    assert wanted.items() <= flags.items()
    assert "--ignore-eos" in words
