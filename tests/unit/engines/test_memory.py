"""Budgets of made-up machines; what real processes hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from server.engines import memory
from server.engines.gpus import Gpu
from server.engines.hardware import Hardware
from server.engines.memory import MIB, OTHERS, SERVER_BYTES, Meter, budgets, processes, returned

GIB = 1 << 30
# Holds 64 MiB of its own and shares 64 MiB with a child; "grow" takes 32 MiB more.
PROGRAM = """
import mmap, os, sys
def take(mib):
    pages = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for place in range(0, mib << 20, 4096):
        pages[place] = 1
    return pages
held = [take(64)]
end, parent = os.pipe()
child = os.fork()
if not child:
    os.close(parent)
    os.read(end, 1)
    os._exit(0)
held.append(take(64))
print(child, flush=True)
for line in sys.stdin:
    held.append(take(32))
    print("grown", flush=True)
"""
Start = Callable[[], "subprocess.Popen[str]"]


def machine(gpus: tuple[Gpu, ...] = (), **fields: Any) -> Hardware:
    basics = {
        "cpu_model": "",
        "cores": 1,
        "isa": (),
        "memory_total": 100 * GIB,
        "memory_available": 60 * GIB,
        "compiler": None,
        "gpus": gpus,
    }
    return Hardware(**basics | fields)


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def run() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_ram_that_is_there_for_models() -> None:
    reserve = SERVER_BYTES + int(OTHERS * 100 * GIB)
    assert budgets(machine()) == {"ram": 60 * GIB - reserve}
    # What our engines hold is theirs already, and a server that runs has its memory.
    assert budgets(machine(), held={"ram": 7 * GIB}) == {"ram": 67 * GIB - reserve}
    running = budgets(machine(), server=GIB)
    assert running == {"ram": 60 * GIB - reserve + GIB}
    assert budgets(machine(), server=9 * GIB) == {"ram": 60 * GIB - reserve + SERVER_BYTES}
    assert budgets(machine(memory_available=GIB)) == {"ram": 0}


def test_the_memory_of_gpus() -> None:
    gpus = (Gpu(0, "A", 80 * GIB, 79 * GIB), Gpu(3, "B", 24 * GIB, 2 * GIB))
    ram = budgets(machine())["ram"]
    assert budgets(machine(gpus)) == {"ram": ram, "gpu0": 79 * GIB, "gpu1": 2 * GIB}
    held = budgets(machine(gpus), held={"gpu0": 5 * GIB, "gpu1": 20 * GIB})
    assert held == {"ram": ram, "gpu0": 80 * GIB, "gpu1": 22 * GIB}, "never more than it has"


def test_a_gpu_that_uses_the_systems_memory() -> None:
    gpu = Gpu(0, "GB10", 100 * GIB, 60 * GIB, unified=True)
    found = budgets(machine((gpu,)), held={"gpu0": GIB})
    assert found["gpu0"] == 61 * GIB - SERVER_BYTES - int(OTHERS * 100 * GIB)


@pytest.mark.parametrize(
    ("said", "gpus", "found"),
    [
        (GIB, 0, {"ram": GIB}),
        (200 * GIB, 0, {"ram": 200 * GIB}),
        (GIB, 2, {"ram": None, "gpu0": GIB, "gpu1": GIB}),
        ({"gpu1": 7}, 2, {"ram": None, "gpu0": 8 * GIB, "gpu1": 7}),
        ({"ram": 5, "gpu9": 7}, 1, {"ram": 5, "gpu0": 8 * GIB}),
        ({"gpu0": 7}, 0, {"ram": None}),
    ],
)
def test_what_somebody_set(said: Any, gpus: int, found: dict[str, int | None]) -> None:
    there = machine((Gpu(0, "A", 8 * GIB, 8 * GIB),) * gpus)
    ram = budgets(there)["ram"]
    assert budgets(there, said) == {
        device: ram if size is None else size for device, size in found.items()
    }


def test_what_processes_hold(start: Start) -> None:
    process = start()
    child = int(line(process))
    meter = Meter()
    assert processes([process.pid]) == [process.pid, child]
    both = meter.used([process.pid])
    # 64 MiB that they share, 64 of its own, and two interpreters of a few MiB.
    assert 128 * MIB < both < 160 * MIB
    alone = meter.used([child])
    assert 32 * MIB < alone < 48 * MIB, "a half of what is shared"
    process.communicate("")
    assert meter.used([process.pid, child]) == 0


def test_growth_is_seen_at_once_and_what_is_shared_is_asked_for_now_and_then(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    exact = memory._proportional
    monkeypatch.setattr(memory, "_proportional", lambda pid: (asked.append(pid), exact(pid))[1])
    now = [0.0]
    meter = Meter(clock=lambda: now[0])
    process = start()
    child = int(line(process))
    before = meter.used([process.pid])
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert line(process) == "grown"
    now[0] = 1.9
    grown = meter.used([process.pid]) - before
    assert 31 * MIB < grown < 34 * MIB
    assert asked == [process.pid, child]
    now[0] = 2.0
    assert abs(meter.used([process.pid]) - before - grown) < 2 * MIB
    assert asked == [process.pid, child] * 2
    meter.used([process.pid], exact=True)
    assert asked == [process.pid, child] * 3, "at once where it must be exact"


def test_a_kernel_that_does_not_tell(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "statm").write_text("900 500 100 1 0 400 0\n")
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    assert Meter().used([7, 8]) == 500 * 4096
    (folder / "smaps_rollup").write_text("00-ff ---p 0 0:0 0 [rollup]\nRss: 9 kB\nPss: 1000 kB\n")
    assert Meter().used([7]) == 1000 << 10


def test_what_is_free_of_the_ram() -> None:
    free = Meter().free("ram")
    assert 0 < free <= psutil.virtual_memory().total
    assert free == pytest.approx(psutil.virtual_memory().available, abs=2 * GIB)


def test_gpus_are_asked_twice_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([5 * GIB, 6 * GIB])
    now = [0.0]

    def find(*_: int) -> memory.gpus.Found:
        return memory.gpus.Found((Gpu(0, "A", 8 * GIB, next(answers), "GPU-0"),))

    monkeypatch.setattr(memory.gpus, "find", find)
    monkeypatch.setattr(memory.gpus, "users", lambda _: [(os.getpid(), 3 * GIB), (1, GIB)])
    meter = Meter(clock=lambda: now[0])
    assert [meter.free("gpu0"), meter.free("gpu0"), meter.free("gpu1")] == [5 * GIB, 5 * GIB, 0]
    assert meter.used_on("gpu0", [os.getpid()]) == 3 * GIB
    assert meter.used_on("gpu0", [999_999_999]) is None
    assert meter.used_on("gpu1", [os.getpid()]) is None
    now[0] = 0.6
    assert meter.free("gpu0") == 6 * GIB


class Coming(Meter):
    """Free bytes that were made up."""

    def __init__(self, *free: int) -> None:
        super().__init__()
        self._coming = [*free]

    def free(self, device: str) -> int:
        assert device == "gpu0"
        return self._coming.pop(0) if len(self._coming) > 1 else self._coming[0]


async def test_bytes_that_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_POLL_S", 0.001)
    assert await returned(Coming(130), "gpu0", 30, 100) == 0
    assert await returned(Coming(100, 110, 129, 131), "gpu0", 30, 100) == 0
    # What was nearest counts: others may take some of it meanwhile.
    assert await returned(Coming(100, 120, 90), "gpu0", 30, 100, patience_s=0.05) == 10
    assert await returned(Coming(40), "gpu0", 30, 100, patience_s=0) == 90
