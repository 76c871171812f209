"""The governor on a machine made of numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.engines.threads import ThreadGovernor

ROOT = Path(__file__).resolve().parents[3]
TICK = os.sysconf("SC_CLK_TCK")


class Machine:
    """A clock, a stat file and a process that computes on some cores."""

    def __init__(
        self,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        cores: int,
        most: int | None = None,
        sharing: int = 1,
    ) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
        self.cores = cores
        self.now = self.own = self.busy = self.idle = 0.0
        self.stat = path / "stat"
        self.set: list[int] = []
        self._write()
        self.governor = ThreadGovernor(
            most or cores,
            self.set.append,
            sharing=sharing,
            stat=self.stat,
            clock=lambda: self.now,
            own_cpu=lambda: self.own,
        )

    def run(self, seconds: float, *, own: float, others: float, step: float = 0.05) -> int:
        """Let time pass with so many cores' worth of work; returns the thread count."""
        for _ in range(round(seconds / step)):
            self.now += step
            self.own += own * step
            used = min(self.cores, own + others)
            self.busy += used * step
            self.idle += (self.cores - used) * step
            self._write()
            self.governor.before_step()
        return self.governor.threads

    def _write(self) -> None:
        share = [round(value * TICK / self.cores) for value in (self.busy, self.idle)]
        lines = [f"cpu{i} {share[0]} 0 0 {share[1]} 0 0 0 0 0 0" for i in range(self.cores)]
        # Cores of others, which say nothing about ours.
        lines += [f"cpu{self.cores} {round(self.now * TICK)} 0 0 0 0 0 0 0 0 0", "intr 5", ""]
        self.stat.write_text("\n".join(["cpu  9 9 9 9 9", *lines]))


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch, 2)


def test_a_quiet_machine_keeps_every_core(two: Machine) -> None:
    assert two.run(5, own=2, others=0) == 2
    assert two.run(5, own=1.9, others=0.1) == 2
    assert two.set == [2]


def test_another_process_takes_a_core_and_gives_it_back(two: Machine) -> None:
    two.run(1, own=2, others=0)
    assert two.run(0.65, own=1, others=1) == 1, "within half a second or so"
    assert two.run(5, own=1, others=1) == 1
    assert two.run(2, own=1, others=0) == 2
    assert two.set == [2, 1, 2]


def test_nothing_flutters_between_the_thresholds(two: Machine) -> None:
    two.run(1, own=2, others=0)
    two.run(10, own=1.65, others=0.35)
    assert two.set == [2], "not taken below the upper threshold"
    two.run(2, own=1, others=1)
    two.run(10, own=1.65, others=0.35)
    assert two.set == [2, 1], "not given back above the lower one"


def test_a_burst_is_ignored(two: Machine) -> None:
    two.run(1, own=2, others=0)
    for _ in range(5):
        two.run(0.1, own=1, others=1)
        two.run(0.9, own=2, others=0)
    assert two.set == [2]


def test_there_is_always_one_thread(two: Machine) -> None:
    assert two.run(3, own=0, others=2) == 1


def test_a_large_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Machine(tmp_path, monkeypatch, 8)
    assert large.run(5, own=5, others=3) == 5
    # Cores stand idle then, as the count itself has made them: no reason to take them back.
    assert large.run(5, own=5, others=2.9) == 5
    assert large.run(5, own=5, others=1.2) == 7
    assert large.set == [8, 6, 5, 6, 7], "step by step"


def test_others_take_what_is_left_over_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four physical cores with two hyper-threads each, or eight CPUs and a quota of four."""
    spare = Machine(tmp_path, monkeypatch, 8, most=4)
    spare.run(5, own=4, others=4)
    for _ in range(5):
        spare.run(1, own=4, others=4)
        spare.run(1, own=4, others=3)
    assert spare.set == [4], "nothing flutters, and nothing was in the way"
    assert spare.run(5, own=2, others=6) == 2
    assert spare.run(5, own=2, others=3) == 4


def test_workers_beside_this_one_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers of one model on eight cores, four threads each; ``own`` is what both use."""
    two_workers = Machine(tmp_path, monkeypatch, 8, most=4, sharing=2)
    assert two_workers.run(5, own=8, others=0) == 4
    assert two_workers.set == [4]
    # Each leaves half of what others take.
    assert two_workers.run(5, own=6, others=2) == 3
    assert two_workers.run(5, own=6, others=0) == 4


BUSY = """
import time
while time.process_time() < 0.3: pass
print("done", flush=True)
input()
"""
READER = "from server.engines.threads import cpu_of_workers as used; print(used()())"


def test_the_cpu_time_of_all_workers() -> None:
    """This process stands for the engine, the three below it for its workers."""
    busy = [
        subprocess.Popen(
            [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for worker in busy:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"done\n"
    told = subprocess.run(
        [sys.executable, "-c", READER], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    for worker in busy:
        worker.communicate(b"\n", timeout=60)
    # A tick is lost here and there.
    assert float(told.stdout) > 0.5


def test_one_core_is_never_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Machine(tmp_path, monkeypatch, 1)
    one.stat.unlink()
    monkeypatch.setattr(one, "_write", lambda: None)
    assert one.run(3, own=0, others=1) == 1


def test_a_sandbox_without_figures(tmp_path: Path) -> None:
    counts: list[int] = []
    governor = ThreadGovernor(
        2, counts.append, stat=tmp_path / "none", clock=iter(range(99)).__next__
    )
    for _ in range(5):
        governor.before_step()
    assert counts == [2]


def test_the_kernels_own_file() -> None:
    counts: list[int] = []
    governor = ThreadGovernor(2, counts.append)
    governor.before_step()
    assert counts == [2]
