from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest

from server.engines import cgroup as groups
from server.engines import hardware
from server.engines.hardware import Gpu, Hardware, Node, cpu_numbers, probe, usable_cores

GIB = 1 << 30


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty stand-in for /sys/fs/cgroup, as a container sees it."""
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text(f"30 22 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    monkeypatch.setattr(groups, "_PROCESS", tmp_path)
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
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5})
    assert usable_cores() == 2


def test_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nmodel name\t: Fast 9000\nflags\t\t: fpu avx2 avx512f amx_bf16\n\n"
    monkeypatch.setattr(Path, "read_text", lambda *_a, **_k: text + text.replace("Fast", "Slow"))
    assert hardware._cpu_info() == ("Fast 9000", frozenset({"fpu", "avx2", "avx512f", "amx_bf16"}))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of programs, the only one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def program(path: Path, script: str = "") -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_gpus(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (probe().gpus, probe().no_gpu) == ((), "nvidia-smi is not there")
    lines = ("0, GPU-a, NVIDIA H100, 81559, 81000", "1, GPU-b, NVIDIA GB10, [N/A], [N/A]")
    program(path / "nvidia-smi", "\n".join(f"echo '{line}'" for line in lines))
    assert probe().gpus == (
        Gpu(0, "NVIDIA H100", 81559 << 20, 81000 << 20, "GPU-a"),
        Gpu(1, "NVIDIA GB10", Memory.total, Memory.available, "GPU-b", unified=True),
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (probe().gpus, probe().no_gpu) == ((), "CUDA_VISIBLE_DEVICES='' shows none")


def test_the_compiler_of_a_cpu(path: Path) -> None:
    assert probe().compiler is None
    expected = program(path / "g++")
    assert probe().compiler == expected
    assert probe().c_compiler is None


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_the_compiler_of_a_gpu(name: str, path: Path) -> None:
    assert probe().gpu_compile_lacks == "no C compiler"
    expected = program(path / name)
    assert (probe().c_compiler, probe().compiler) == (expected, None)


def test_a_compiler_by_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(path / "gcc")
    expected = program(path / "icx")
    monkeypatch.setenv("CC", "icx")
    assert probe().c_compiler == expected
    # Triton takes the variable's word for it, and would not look for another.
    monkeypatch.setenv("CC", "gone")
    assert probe().c_compiler is None


def test_the_headers_of_python(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(path / "gcc")
    monkeypatch.setattr(sysconfig, "get_default_scheme", lambda: "posix_local")
    asked: list[str] = []
    monkeypatch.setattr(sysconfig, "get_path", lambda _, scheme: asked.append(scheme) or tmp_path)
    assert probe().gpu_compile_lacks == "no Python.h"
    (tmp_path / "Python.h").touch()
    assert probe().gpu_compile_lacks == ""
    assert {*asked} == {"posix_prefix"}, "as Triton asks on Debian"


def node_files(folder: Path, index: int, cpus: str, free_kb: int) -> None:
    path = folder / f"node{index}"
    path.mkdir()
    (path / "cpulist").write_text(f"{cpus}\n")
    figures = {
        "MemTotal": 99,
        "MemFree": free_kb,
        "Active(file)": 5,
        "Inactive(file)": 6,
        "Slab": 9,
    }
    (path / "meminfo").write_text(
        "".join(f"Node {index} {name}:  {value} kB\n" for name, value in figures.items())
    )


def nodes_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_nodes: str) -> Hardware:
    (tmp_path / "status").write_text(f"Name:\tx\nMems_allowed_list:\t{memory_nodes}\n")
    monkeypatch.setattr(hardware, "_NODES", tmp_path)
    monkeypatch.setattr(hardware, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(hardware, "_first_sibling", lambda cpu: cpu % 8)
    return probe()


def test_numa_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node_files(tmp_path, 0, "0-3,8-11", 1000)
    node_files(tmp_path, 1, "4-7,12-15", 2000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1, 16)))
    found = nodes_of(tmp_path, monkeypatch, "0-1")
    assert found.nodes == (
        # CPU 0 is not ours, but its core's other hyper-thread is.
        Node(0, (1, 2, 3, 8), 1011 << 10),
        Node(1, (4, 5, 6, 7), 2011 << 10),
    )
    assert (found.cpus, found.cores) == (tuple(range(1, 16)), 8)
    # A cpuset may close the memory of a node, or all its CPUs.
    assert [node.index for node in nodes_of(tmp_path, monkeypatch, "1").nodes] == [1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert [node.index for node in nodes_of(tmp_path, monkeypatch, "0-1").nodes] == [0]


def test_a_kernel_without_numa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 9})
    found = nodes_of(tmp_path, monkeypatch, "0")
    assert found.nodes == (Node(0, (0, 1), Memory.available),)
    monkeypatch.setattr(hardware, "_STATUS", tmp_path / "none")
    assert probe().nodes == found.nodes


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-2,5\n", (0, 1, 2, 5)), ("3", (3,)), ("", ()), ("2,0", (0, 2))]
)
def test_lists_of_cpus(text: str, numbers: tuple[int, ...]) -> None:
    assert cpu_numbers(text) == numbers
