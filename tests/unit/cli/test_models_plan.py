"""``corral models plan`` on machines that are put before it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from server.commands.forecast import Forecast, forecast
from server.commands.inventory import open_registry, open_store, take_stock
from server.commands.listen import PortOwner
from server.commands.models_plan import plan_models
from server.engines.hardware import Gpu, Hardware
from server.engines.ledger import Need
from server.engines.measured import FOLDER, Measured
from server.engines.memory import OTHERS, SERVER_BYTES
from server.settings import read_settings

GIB = 1 << 30
MIB = 1 << 20
MACHINE = Hardware("Test CPU", 4, (), 16 * GIB, 8 * GIB, None, ())
GPU = Gpu(0, "Test GPU", 80 * GIB, 79 * GIB)
# The tiny model: 2 kB of weights, 259 tokens of width 64 packed once more, a context of 512 tokens
# and a block of 128 of 256 bytes each; a process, 48 MiB, a step of 2,048 tokens and its logits.
WEIGHTS = 2048 + 259 * 64 * 2
CONTEXT = (512 + 128) * 256
HEADROOM = 48 * MIB + 2048 * (3 * 256 + 6 * 64) * 2 + 36 * 128 * 259
OVERHEAD = 576 * MIB + HEADROOM
TOTAL = WEIGHTS + 8 * CONTEXT + OVERHEAD


def planned(capsys: pytest.CaptureFixture[str], hardware: Hardware = MACHINE) -> tuple[int, str]:
    """Exit code and screen."""
    code = plan_models(read_settings(port="0"), as_json=False, hardware=hardware)
    return code, capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], hardware: Hardware = MACHINE) -> dict[str, Any]:
    plan_models(read_settings(port="0"), as_json=True, hardware=hardware)
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def more(registry: Path, text: str, herd: str = "") -> None:
    """Add entries, and settings of the herd before them."""
    registry.write_text(f"{herd}{registry.read_text()}{text}")


def look(hardware: Hardware = MACHINE, owner: PortOwner | None = None) -> Forecast:
    settings = read_settings()
    registry, store = open_registry(settings), open_store(settings)
    return forecast(registry, take_stock(registry, store), hardware, store, owner)


SCREEN = """\
engine  devices  weights  KV cache  tokens  adapters  overhead  total     while loading
tiny    ram      35.2 kB  1.3 MB    5,120   -         660.2 MB  661.6 MB  661.6 MB

budget of ram  6.4 GB  what is free now, less a reserve

tiny (and tiny-raw): loaded at the start, on ram
"""


def test_the_screen(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys) == (0, SCREEN)


def test_for_scripts(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys) == {
        "budgets": {"ram": 8 * GIB - SERVER_BYTES - int(OTHERS * 16 * GIB)},
        "engines": [
            {
                "models": ["tiny", "tiny-raw"],
                "replica": 1,
                "pinned": False,
                "load": "startup",
                "files_here": True,
                "problem": None,
                "need": {
                    "weights": WEIGHTS,
                    "kv_cache": 8 * CONTEXT,
                    "adapters": 0,
                    "overhead": OVERHEAD,
                    "loading": 0,
                    "devices": 1,
                    "host": 0,
                    "total": TOTAL,
                    "peak": TOTAL,
                    "kv_tokens": 5120,
                },
                "verdict": {"kind": "fits", "devices": ["ram"]},
                "loaded_at_start": True,
            }
        ],
        "loaded_at_start": ["tiny"],
        "no_room_at_start": [],
        "all_fit_together": True,
    }


def test_engines_that_displace_each_other(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = "  - id: {}\n    source: *weights\n    engine: {{threads: {}}}\n    load: {}\n"
    more(
        registry,
        entries.format("two", 2, "startup")
        + entries.format("three", 3, "startup")
        + entries.format("four", 4, "on_demand"),
        "herd: {memory: 1.3GiB}\n",
    )
    code, shown = planned(capsys)
    assert code == 0
    assert shown.endswith(
        "\nbudget of ram  1.4 GB  herd.memory\n\n"
        "tiny (and tiny-raw): loaded at the start, on ram\n"
        "two: loaded at the start, on ram\n"
        "three: no room at the start; displaces tiny from ram\n"
        "four: displaces tiny from ram\n"
        "They cannot all be loaded at once.\n"
    )
    told = as_json(capsys)
    assert told["budgets"] == {"ram": int(1.3 * GIB)}
    assert told["loaded_at_start"] == ["tiny", "two"]
    assert told["no_room_at_start"] == ["three"]
    assert told["all_fit_together"] is False
    verdicts = [engine["verdict"]["kind"] for engine in told["engines"]]
    assert verdicts == ["fits", "fits", "evict", "evict"]
    assert told["engines"][3]["verdict"]["evict"] == ["tiny"]


def test_pinned_engines_and_replicas_stay(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = (
        "  - id: {}\n    source: *weights\n    load: {}\n"
        "    engine: {{threads: {}, replicas: {}}}\n"
    )
    more(registry, entry.format("two", "startup", 2, 3), "herd: {memory: 2GiB}\n")
    *_, tiny, first, second, third, together = planned(capsys)[1].splitlines()
    assert (tiny, first, second, third, together) == (
        "tiny (and tiny-raw): loaded at the start, on ram",
        "two: loaded at the start, on ram",
        "two#2: loaded at the start, on ram",
        "two#3: no room at the start; displaces tiny from ram",
        "They cannot all be loaded at once.",
    )
    more(registry, entry.format("three", "on_demand", 3, 1))
    registry.write_text(registry.read_text().replace("id: tiny\n", "id: tiny\n    pin: true\n"))
    lines = planned(capsys)[1].splitlines()
    assert lines[-3:-1] == [
        "two#3: no room beside what is pinned: tiny",
        "three: displaces two from ram",
    ]
    engines = as_json(capsys)["engines"]
    assert [(e["models"][0], e["replica"], e["pinned"]) for e in engines] == [
        ("tiny", 1, True),
        ("two", 1, False),
        ("two", 2, False),
        ("two", 3, False),
        ("three", 1, False),
    ]


def test_one_that_never_fits(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = "  - id: large\n    source: *weights\n    engine: {kv_cache: 7GiB}\n"
    more(registry, large, "herd: {memory: 7GiB}\n")
    code, shown = planned(capsys)
    assert code == 1
    short = -(-(WEIGHTS + OVERHEAD) // MIB)
    assert shown.endswith(f"\nlarge: never fits, by {short} MiB\n")
    told = as_json(capsys)
    verdict = {"kind": "never", "short": WEIGHTS + OVERHEAD, "devices_missing": 0}
    assert told["engines"][1]["verdict"] == verdict
    assert told["all_fit_together"] is True, "those that can be loaded can be loaded at once"


def test_what_is_not_here(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry.write_text("models:\n  - id: far\n    source: {hub: org/far}\n")
    assert planned(capsys) == (
        0,
        "budget of ram  6.4 GB  what is free now, less a reserve\n\n"
        "far: unknown, its files are not here: corral models fetch far\n",
    )
    (engine,) = as_json(capsys)["engines"]
    assert (engine["files_here"], engine["need"], engine["verdict"]) == (False, None, None)


def test_one_that_cannot_run(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = "  - id: two\n    source: *weights\n    engine: {kv_cache: 100 tokens}\n"
    more(registry, broken)
    code, shown = planned(capsys)
    assert code == 1
    assert "\ntwo: cannot run. 'two' has an engine.kv_cache of 1 MiB in the registry" in shown
    (registry.parent / "tiny" / "config.json").write_text("{}")
    code, shown = planned(capsys)
    assert code == 1
    assert "\ntiny (and tiny-raw): cannot run. " in shown


def test_gpus(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = (
        "  - id: two\n    source: *weights\n    engine: {tensor_parallel_size: 2, kv_cache: 1GiB}\n"
    )
    three = "  - id: three\n    source: *weights\n    engine: {tensor_parallel_size: 3}\n"
    more(registry, two + three)
    gpus = replace(MACHINE, gpus=(GPU, replace(GPU, index=1)), memory_available=16 * GIB)
    code, shown = planned(capsys, gpus)
    assert code == 1
    lines = shown.splitlines()
    assert lines[1].split() == [
        "tiny",
        "a",
        "GPU",
        "2.0",
        "kB",
        "75.2",
        "GB",
        "-",
        "-",
        "2.1",
        "GB",
        "77.3",
        "GB",
        "77.3",
        "GB",
    ]
    each = "two each of 2 GPUs 1.0 kB 1.1 GB 8,388,608 - 2.1 GB 3.2 GB 3.2 GB"
    assert lines[2].split() == each.split()
    assert lines[4:6] == [
        "budget of gpu0  84.8 GB  what is free now, less a reserve",
        "budget of gpu1  84.8 GB  what is free now, less a reserve",
    ]
    assert lines[7] == "tiny (and tiny-raw): loaded at the start, on gpu0"
    assert lines[8] == "two: loaded at the start, on gpu0, gpu1"
    assert lines[9].startswith("three: cannot run. 'three' asks for 3 GPUs and this machine has 2.")


def test_what_was_measured_counts(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (engine,) = look().engines
    assert engine.plan is not None
    need = engine.plan.need
    known = Measured(open_store(read_settings()).cache_dir / FOLDER)
    known.note(need, need.resident - need.overhead + 100 * MIB, ready=True)
    (later,) = as_json(capsys)["engines"]
    assert later["need"]["overhead"] == 100 * MIB + HEADROOM


@pytest.mark.parametrize(("version", "counts"), [("1.0", True), (None, False)])
def test_a_corral_that_runs_counts_as_free(
    version: str | None, counts: bool, registry: Path
) -> None:
    program = "x = b'1' * (256 << 20); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    found = look(owner=PortOwner(version, process.pid)).budgets["ram"] - look().budgets["ram"]
    process.communicate(b"\n")
    assert (256 * MIB < found < 300 * MIB) if counts else (found == 0)


def test_the_command(registry: Path, corral: Callable[..., Result]) -> None:
    registry.write_text("models:\n  - id: far\n    source: {hub: org/far}\n")
    result = corral("models", "plan", "--port", "0", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["engines"][0]["models"] == ["far"]


def test_needs_are_plain_sums() -> None:
    need = Need(weights=1, kv_cache=2, adapters=3, overhead=4, loading=5)
    assert (need.resident, need.peak) == (10, 15)
