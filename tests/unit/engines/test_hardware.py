from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.engines import hardware
from server.engines.hardware import Gpu, probe, usable_cores

GIB = 1 << 30


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty stand-in for /sys/fs/cgroup."""
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    return tmp_path


def limit_memory(cgroup: Path, limit: str, used: int, *, cache: int = 0) -> None:
    (cgroup / "memory.max").write_text(f"{limit}\n")
    (cgroup / "memory.current").write_text(f"{used}\n")
    stat = f"anon {used - cache}\nfile {cache}\ninactive_file {cache - 1}\nactive_file 1\n"
    (cgroup / "memory.stat").write_text(stat if cache else "anon 5\n")


class Memory:
    total = 64 * GIB
    available = 32 * GIB


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.psutil, "virtual_memory", Memory)


@pytest.mark.parametrize(
    ("limit", "used", "cache", "total", "available"),
    [
        (8 * GIB, 3 * GIB, 0, 8 * GIB, 5 * GIB),
        # Files that were read lie in the page cache, which gives way.
        (8 * GIB, 7 * GIB, 6 * GIB, 8 * GIB, 7 * GIB),
        (8 * GIB, 9 * GIB, 0, 8 * GIB, 0),
        (100 * GIB, GIB, 0, 64 * GIB, 32 * GIB),
        ("max", GIB, 0, 64 * GIB, 32 * GIB),
    ],
)
def test_memory_within_a_cgroup(
    limit: int | str, used: int, cache: int, total: int, available: int, cgroup: Path
) -> None:
    limit_memory(cgroup, str(limit), used, cache=cache)
    found = probe()
    assert (found.memory_total, found.memory_available) == (total, available)


def test_memory_without_a_cgroup(cgroup: Path) -> None:
    assert (probe().memory_total, probe().memory_available) == (64 * GIB, 32 * GIB)
    (cgroup / "memory.max").write_text("rubbish")
    (cgroup / "memory.current").write_text("1")
    (cgroup / "memory.stat").write_text("")
    assert probe().memory_total == 64 * GIB


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("400000 100000", 4),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("9900000 100000", 8),
        ("", 8),
    ],
)
def test_cores_within_a_quota(
    quota: str, cores: int, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(hardware, "_first_sibling", lambda cpu: cpu)
    (cgroup / "cpu.max").write_text(quota)
    assert usable_cores() == cores


def test_hyper_threads_count_once(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_first_sibling", lambda cpu: cpu % 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cores() == 4
    # Only the second hyper-threads are allowed: each is a core of its own.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5})
    assert usable_cores() == 2


def test_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nmodel name\t: Fast 9000\nflags\t\t: fpu avx2 avx512f amx_bf16\n\n"
    monkeypatch.setattr(Path, "read_text", lambda *_a, **_k: text + text.replace("Fast", "Slow"))
    assert hardware._cpu_info() == ("Fast 9000", frozenset({"fpu", "avx2", "avx512f", "amx_bf16"}))


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A nvidia-smi of our own, alone on the path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    hardware._gpus.cache_clear()
    yield tmp_path / "nvidia-smi"
    hardware._gpus.cache_clear()


def write_smi(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_gpus(smi: Path) -> None:
    write_smi(smi, "echo '0, NVIDIA H100, 81559, 81000'\necho '1, Odd, [N/A], [N/A]'")
    assert probe().gpus == (Gpu(0, "NVIDIA H100", 81559 << 20, 81000 << 20),)


def test_no_gpus(smi: Path) -> None:
    assert probe().gpus == ()


def test_a_driver_that_does_not_answer(smi: Path) -> None:
    write_smi(smi, "exit 9")
    assert probe().gpus == ()


def test_the_compiler(smi: Path) -> None:
    assert probe().compiler is None
    write_smi(smi.parent / "g++", "")
    assert probe().compiler == str(smi.parent / "g++")
