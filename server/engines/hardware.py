"""What this machine is: cores, memory, GPUs, compiler. Cheap, and without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_COMPILERS = ("c++", "g++", "clang++")
_NVIDIA_SMI_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU as ``nvidia-smi`` sees it (sizes in bytes)."""

    index: int
    name: str
    memory_total: int
    memory_free: int


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine as this process may use it.

    Args:
        cpu_model: Marketing name of the processor.
        cores: Physical cores this process may run on, after affinity and the cgroup's CPU quota.
        isa: Instruction sets that matter for inference, such as ``avx512_bf16``.
        memory_total: RAM this process may use (bytes), after the cgroup's limit.
        memory_available: RAM that can be taken now (bytes), after the cgroup's limit.
        compiler: Path of a C++ compiler, or None.
        gpus: NVIDIA GPUs; empty when ``nvidia-smi`` is missing or fails.
    """

    cpu_model: str
    cores: int
    isa: tuple[str, ...]
    memory_total: int
    memory_available: int
    compiler: str | None
    gpus: tuple[Gpu, ...]


def probe() -> Hardware:
    """Look at the machine now; memory figures are of this moment."""
    model, flags = _cpu_info()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd")
    memory = psutil.virtual_memory()
    limit, used = _cgroup_memory()
    total, available = int(memory.total), int(memory.available)
    if limit is not None:
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return Hardware(
        cpu_model=model,
        cores=usable_cores(),
        isa=tuple(name for name in wanted if name in flags),
        memory_total=total,
        memory_available=available,
        compiler=next(filter(None, map(shutil.which, _COMPILERS)), None),
        gpus=_gpus(),
    )


def usable_cores() -> int:
    """Physical cores within this process's affinity mask, capped by the cgroup's CPU quota."""
    allowed = os.sched_getaffinity(0)
    siblings = {_first_sibling(cpu) for cpu in allowed}
    cores = len(siblings & allowed) or len(allowed)
    quota = _cgroup_cpu_quota()
    return max(1, min(cores, int(quota)) if quota is not None else cores)


def _first_sibling(cpu: int) -> int:
    """Lowest hyper-thread of the core that ``cpu`` belongs to (``cpu`` itself when unknown)."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return int(path.read_text().replace("-", ",").split(",")[0])
    except (OSError, ValueError):
        return cpu


def _cgroup_cpu_quota() -> float | None:
    """Cores' worth of CPU time the cgroup allows (v2 ``cpu.max``), or None."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _cgroup_memory() -> tuple[int | None, int]:
    """Limit (None without one) and use in bytes of the cgroup, v2.

    The page cache counts as use there, though it gives way to whoever needs memory; after a
    model's files were read it holds nearly all there is.
    """
    try:
        said = (_CGROUP / "memory.max").read_text().strip()
        limit = None if said == "max" else int(said)
        used = int((_CGROUP / "memory.current").read_text())
        figures = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        cache = sum(int(figures.get(name, 0)) for name in ("active_file", "inactive_file"))
    except (OSError, ValueError):
        return None, 0
    return limit, max(0, used - cache)


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


@lru_cache(maxsize=1)
def _gpus() -> tuple[Gpu, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    query = "--query-gpu=index,name,memory.total,memory.free"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(filter(None, map(_parse_gpu, done.stdout.splitlines())))


def _parse_gpu(line: str) -> Gpu | None:
    try:
        index, name, total, free = (part.strip() for part in line.split(","))
        return Gpu(int(index), name, int(total) << 20, int(free) << 20)
    except ValueError:  # "[N/A]" on devices that do not tell
        return None
