"""What the measurements make of their runs, and which one the command line chooses."""

import argparse
from collections import Counter
from dataclasses import replace

import pytest

from benchmarks import cli, cold_start, contention, page, profile_stream, throughput
from benchmarks.errors import BenchError
from benchmarks.load import Load, Measured
from benchmarks.ratios import missed

MEASURED = Measured(
    tokens_per_s=20.0,
    ttft_ms=100.0,
    ttft_p99_ms=120.0,
    tpot_ms=40.0,
    itl_ms=40.0,
    cpu_us_per_token=200.0,
    chunks_per_token=1.0,
    duration_s=1.0,
    input_tokens=1024,
    output_tokens=512,
)
FAST = replace(MEASURED, tokens_per_s=30.0, ttft_ms=60.0, cpu_us_per_token=100.0)


def run(system: str, streams: int, measured: Measured) -> throughput.Run:
    return throughput.Run(system, 1, Load(streams=streams, prompts=8, seed=1), measured)


def test_throughput_compares_every_metric_at_every_stream_count() -> None:
    runs = [run(name, n, m) for n in (8, 1) for name, m in (("Corral", FAST), ("vLLM", MEASURED))]
    comparisons = throughput.compare(runs)
    assert [c.label[0] for c in comparisons] == ["1"] * 7 + ["8"] * 7
    assert [c.ratio for c in comparisons[:3]] == [1.5, 0.6, 1.0]
    assert missed(comparisons) == []
    table = throughput.table(comparisons)
    assert table[1][:2] == ["1", "output tokens/s"]
    assert table[2][:2] == ["", "median TTFT (ms)"]
    assert table[8][:2] == ["8", "output tokens/s"]


def test_throughput_misses_each_limit_of_its_own() -> None:
    comparisons = throughput.compare([run("Corral", 1, MEASURED), run("vLLM", 1, MEASURED)])
    assert missed(comparisons) == [
        "1, output tokens/s: ratio 1.00, limit ≥ 1.4",
        "1, median TTFT (ms): ratio 1.00, limit ≤ 0.7",
        "1, CPU of the HTTP process per token (µs): ratio 1.00, limit < 1",
    ]


def test_throughput_refuses_servers_that_read_different_prompts() -> None:
    longer = replace(MEASURED, input_tokens=1100)
    with pytest.raises(BenchError, match="different prompts: 1100 and 1024"):
        throughput.compare([run("Corral", 1, longer), run("vLLM", 1, MEASURED)])


def test_the_page_is_judged_by_the_median_of_its_rounds() -> None:
    options = argparse.Namespace(tokens=2000, chats=10_000, messages=2000)
    rapid = {
        "bytes": 146.0, "open": 0.5, "key": 12.0, "key_p99": 40.0, "key_worst": 90.0,
        "list": 0.3, "search": 0.3, "long": 0.4,
    }  # fmt: skip
    found = page.report([rapid, rapid | {"key_p99": 60.0}, rapid], options)
    assert found.missed == []
    assert found.table[4] == [
        "key while an answer is written, 99th of 100", "40 ms", "40–60", "≤ 50", "kept"
    ]  # fmt: skip
    assert found.table[5][3:] == ["", ""]
    slow = page.report([rapid | {"key_p99": 60.0, "list": 1.5}], options)
    assert slow.missed == [
        "key while an answer is written, 99th of 100: 60 ms, limit ≤ 50",
        "reload until the newest of 10,000 chats is shown: 1.5 s, limit ≤ 1",
    ]
    assert slow.table[6][1:] == ["1.5 s", "", "≤ 1", "missed"]


def test_cold_start_has_its_limit_on_the_first_token() -> None:
    starts = [
        cold_start.Start("Corral", 1, 1.0, 9.0, "Paris"),
        cold_start.Start("vLLM", 1, 14.0, 15.0, "Paris"),
    ]
    accepted, first = cold_start.compare(starts)
    assert (accepted.limit, accepted.ratios) == (None, [1 / 14])
    assert (first.ratio, first.kept) == (0.6, False)


def test_contention_divides_busy_by_quiet() -> None:
    load = Load(streams=8, prompts=16, seed=1)
    slow = replace(MEASURED, tokens_per_s=6.0)
    runs = [contention.Run(True, 1, load, slow), contention.Run(False, 1, load, MEASURED)]
    tokens, ttft = contention.compare(runs)
    assert (tokens.label, tokens.ratio, tokens.kept) == (("8", "output tokens/s"), 0.3, False)
    assert ttft.limit is None


def test_profile_counts_a_recursive_function_once_a_sample() -> None:
    own, total = profile_stream.count(["main;step;step 3", "main;send 1"])
    assert own == Counter({"step": 3, "send": 1})
    assert total == Counter({"main": 4, "step": 3, "send": 1})
    assert profile_stream.table(own, total)[1] == ["75.0 %", "75.0 %", "`step`"]


@pytest.mark.parametrize("name", cli.MEASUREMENTS)
def test_every_measurement_parses_its_defaults(name: str) -> None:
    options = cli.parser().parse_args([name])
    assert options.measurement == name
    assert options.results.name == "RESULTS.md"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "throughput"),
        (["--rounds", "1", "--streams", "1,8"], "throughput"),
        (["cold-start", "--cold-cache"], "cold-start"),
    ],
)
def test_without_a_name_it_is_throughput(
    words: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def note(_: cli.Measurement, options: argparse.Namespace, __: str) -> int:
        seen.append(options.measurement)
        return 0

    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(cli, "_run", note)
    assert cli.main(words) == 0
    assert seen == [name]


def test_a_failed_measurement_is_no_missed_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise BenchError("the server ended")

    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main([]) == cli.EXIT_FAILED
    assert "the server ended" in capsys.readouterr().err
