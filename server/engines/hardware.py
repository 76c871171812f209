"""What this machine is: cores, memory, GPUs, compilers. Cheap, and without importing torch."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from server.engines import cgroup, gpus
from server.engines.gpus import Gpu

_CXX_COMPILERS = ("c++", "g++", "clang++")
# Those that Triton looks for, in its order (triton/runtime/build.py); it knows no "cc".
_C_COMPILERS = ("gcc", "clang")
_ISA = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd")
_NODES = Path("/sys/devices/system/node")
_STATUS = Path("/proc/self/status")
_MEMORY_LINE = re.compile(r"Node \d+ (\S+):\s+(\d+) kB")
# What can be taken now, as vLLM counts it for its own checks (vllm/utils/cpu_resource_utils.py).
_AVAILABLE = frozenset(["MemFree", "Active(file)", "Inactive(file)", "SReclaimable"])


@dataclass(frozen=True, slots=True)
class Node:
    """One NUMA node, as far as this process may use it.

    Args:
        index: The kernel's number.
        cpus: One logical CPU for each of its physical cores.
        memory_available: Bytes of its memory that can be taken now.
    """

    index: int
    cpus: tuple[int, ...]
    memory_available: int


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine as this process may use it.

    Args:
        cpu_model: Marketing name of the processor.
        cores: Physical cores this process may run on, after affinity and the cgroups' CPU quotas.
        isa: Instruction sets that matter for inference, such as ``avx512_bf16``.
        memory_total: RAM this process may use (bytes), after the cgroups' limits.
        memory_available: RAM that can be taken now (bytes), after the cgroups' limits.
        compiler: Path of a C++ compiler, which torch.compile needs on a CPU, or None.
        gpus: NVIDIA GPUs that this process may use.
        no_gpu: Why there are none.
        c_compiler: Path of the C compiler that Triton would use on a GPU, or None.
        python_h: Whether Python's C headers are there, which Triton needs too.
        cpus: Logical CPUs this process may run on.
        nodes: NUMA nodes with CPUs and memory that this process may use; one without NUMA.
    """

    cpu_model: str
    cores: int
    isa: tuple[str, ...]
    memory_total: int
    memory_available: int
    compiler: str | None
    gpus: tuple[Gpu, ...]
    no_gpu: str = "nvidia-smi does not answer"
    c_compiler: str | None = None
    python_h: bool = True
    cpus: tuple[int, ...] = ()
    nodes: tuple[Node, ...] = ()

    @property
    def gpu_compile_lacks(self) -> str:
        """What Triton misses for building its launchers, which are C extensions of Python."""
        if self.c_compiler is None:
            return "no C compiler"
        return "" if self.python_h else "no Python.h"


def probe() -> Hardware:
    """Look at the machine now; memory figures are of this moment."""
    model, flags = _cpu_info()
    memory, limits = psutil.virtual_memory(), cgroup.limits()
    found = gpus.find(memory.total, memory.available)
    cpus = os.sched_getaffinity(0)
    return Hardware(
        cpu_model=model,
        cores=usable_cores(),
        isa=tuple(name for name in _ISA if name in flags),
        memory_total=min(memory.total, limits.memory),
        memory_available=min(memory.available, limits.memory_left),
        compiler=next(filter(None, map(shutil.which, _CXX_COMPILERS)), None),
        gpus=found.gpus,
        no_gpu=found.none,
        c_compiler=_c_compiler(),
        python_h=_has_python_h(),
        cpus=tuple(sorted(cpus)),
        nodes=tuple(_nodes(cpus)) or (Node(0, _one_a_core(cpus), memory.available),),
    )


def usable_cores() -> int:
    """Physical cores within this process's affinity mask, capped by the cgroups' CPU quotas."""
    cores = len(_one_a_core(os.sched_getaffinity(0)))
    return max(1, int(min(cores, cgroup.limits().cpus)))


def cpu_numbers(text: str) -> tuple[int, ...]:
    """The numbers of a list as the kernel writes it: ``0-2,5`` is 0, 1, 2, 5.

    Raises:
        ValueError: It is no such list.
    """
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


def _one_a_core(cpus: Collection[int]) -> tuple[int, ...]:
    """The lowest of ``cpus`` on each physical core."""
    cores: dict[int, int] = {}
    for cpu in sorted(cpus):
        cores.setdefault(_first_sibling(cpu), cpu)
    return tuple(cores.values())


def _first_sibling(cpu: int) -> int:
    """Lowest hyper-thread of the core that ``cpu`` belongs to (``cpu`` itself when unknown)."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return cpu_numbers(path.read_text())[0]
    except (OSError, ValueError, IndexError):
        return cpu


def _nodes(allowed: set[int]) -> Iterator[Node]:
    """The nodes whose CPUs and memory are open to this process (a cpuset may close either)."""
    try:
        status = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        memory_nodes = cpu_numbers(status["Mems_allowed_list"])
    except (OSError, ValueError, KeyError):
        return
    for index in memory_nodes:
        folder = _NODES / f"node{index}"
        try:
            cpus = allowed & {*cpu_numbers((folder / "cpulist").read_text())}
            figures = _MEMORY_LINE.findall((folder / "meminfo").read_text())
        except (OSError, ValueError):  # a kernel without NUMA
            continue
        available = sum(int(value) << 10 for name, value in figures if name in _AVAILABLE)
        if cpus:
            yield Node(index, _one_a_core(cpus), available)


def _c_compiler() -> str | None:
    """As Triton does it: what $CC names is used unseen, so it must be there."""
    named = os.environ.get("CC")
    return next(filter(None, map(shutil.which, _C_COMPILERS if named is None else [named])), None)


def _has_python_h() -> bool:
    scheme = sysconfig.get_default_scheme()
    # Debian's own scheme has another folder; Triton takes this one.
    include = sysconfig.get_path("include", "posix_prefix" if scheme == "posix_local" else scheme)
    return (Path(include) / "Python.h").exists()


def _cpu_info() -> tuple[str, frozenset[str]]:
    """Model name and feature flags from /proc/cpuinfo."""
    model, flags = "unknown", frozenset[str]()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return model, flags
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and model == "unknown":
            model = value.strip()
        elif key.strip() in ("flags", "Features") and not flags:
            flags = frozenset(value.split())
    return model, flags
