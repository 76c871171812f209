"""The ledger's figures against what processes really hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.engines.bookkeeping import MeasuredMemory
from server.engines.ledger import Need
from server.engines.measured import Measured
from server.engines.memory import MIB, Meter
from server.engines.need import Rest
from server.engines.scripted import ScriptedEngine

HOLD = "x = b'1' * (64 << 20); print(flush=True); input(); y = b'1' * (32 << 20); print(flush=True)"
NEED = Need(weights=10 * MIB, kv_cache=20 * MIB, overhead=500 * MIB, headroom=7 * MIB, about="a")


@dataclass(frozen=True)
class Loaded:
    engine: ScriptedEngine
    devices: tuple[str, ...] = ("ram",)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """Holds 64 MiB, and 32 more when it is told; then it waits."""
    program = HOLD + "; input()"
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    running.stdout.readline()
    yield running
    running.kill()
    running.communicate()


def grow(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()


def engine(*pids: int) -> ScriptedEngine:
    made = ScriptedEngine(lambda _: ())
    made.pids = pids
    return made


async def test_an_engine_from_its_load_to_its_end(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    known = Measured(tmp_path)
    books = MeasuredMemory(Meter(), known, patience_s=0.1)
    loaded = Loaded(engine(process.pid))
    held = (await books.resident(loaded, NEED))["ram"]
    rest = known.rest("a")
    assert rest is not None
    assert rest.ready == rest.most
    # 64 MiB and an interpreter; 30 of them are weights and KV cache.
    assert 34 * MIB < rest.ready < 60 * MIB
    assert held == 30 * MIB + rest.ready + 7 * MIB
    grow(process)
    parting = await books.stopping(loaded)
    later = known.rest("a")
    assert later is not None
    assert later.ready == rest.ready
    assert 30 * MIB < later.most - later.ready < 36 * MIB, "the most that it held"
    missing = await books.missing(parting)
    assert 96 * MIB < missing < 140 * MIB, "it has not ended"
    process.kill()
    process.wait()
    assert await books.missing(parting) == 0


async def test_an_engine_that_once_held_more(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    known = Measured(tmp_path)
    known.note(NEED, 900 * MIB)
    books = MeasuredMemory(Meter(), known)
    held = await books.resident(Loaded(engine(process.pid)), NEED)
    assert held == {"ram": 900 * MIB}


async def test_a_process_that_ended_unseen(process: subprocess.Popen[str], tmp_path: Path) -> None:
    process.kill()
    process.wait()
    books = MeasuredMemory(Meter(), Measured(tmp_path))
    loaded = Loaded(engine(process.pid))
    assert await books.resident(loaded, NEED) == {"ram": NEED.resident}
    assert Measured(tmp_path).rest("a") is None
    assert await books.missing(await books.stopping(loaded)) == 0
    nobody = Loaded(engine())
    assert await books.resident(nobody, NEED) == {"ram": NEED.resident}
    assert await books.missing(await books.stopping(nobody)) == 0


class GpuMeter(Meter):
    """A GPU that says what it is told to say."""

    def __init__(self, used: Callable[[str], int | None], free: int) -> None:
        super().__init__()
        self._tell = used
        self.left = free

    def used_on(self, device: str, pids: object) -> int | None:
        return self._tell(device)

    def free(self, device: str) -> int:
        return self.left


async def test_gpus_that_tell(tmp_path: Path) -> None:
    known = Measured(tmp_path)
    sizes = {"gpu2": 100 * MIB, "gpu3": 110 * MIB}
    meter = GpuMeter(sizes.get, 1000 * MIB)
    books = MeasuredMemory(meter, known, patience_s=0)
    loaded = Loaded(engine(999_999_999), ("gpu2", "gpu3"))
    assert await books.resident(loaded, NEED) == {"gpu2": 110 * MIB, "gpu3": 117 * MIB}
    assert known.rest("a") == Rest(80 * MIB, 80 * MIB), "the larger one counts"
    parting = await books.stopping(loaded)
    meter.left = 1104 * MIB
    assert await books.missing(parting) == 6 * MIB
    meter.left = 1110 * MIB
    assert await books.missing(parting) == 0


async def test_gpus_that_tell_nothing(tmp_path: Path) -> None:
    books = MeasuredMemory(GpuMeter(lambda _: None, 0), Measured(tmp_path))
    loaded = Loaded(engine(999_999_999), ("gpu0",))
    assert await books.resident(loaded, NEED) == {"gpu0": NEED.resident}
    assert await books.missing(await books.stopping(loaded)) == 0
