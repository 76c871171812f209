"""The NVIDIA GPUs this process may use: what ``nvidia-smi`` lists, by ``CUDA_VISIBLE_DEVICES``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

# A GPU that sleeps takes seconds to answer, eight of them take longer.
_TIMEOUT_S = 10.0
_FORMAT = "--format=csv,noheader,nounits"
_QUERY = ("--query-gpu=index,uuid,name,memory.total,memory.free", _FORMAT)
_GPU_LINE = re.compile(r"GPU \d+: .* \(UUID: (?P<uuid>[^)]+)\)")
_MIG_LINE = re.compile(r"\s+MIG (?P<profile>\S+)\s.*\(UUID: (?P<uuid>[^)]+)\)")
_MIG_MEMORY = re.compile(r"\.(\d+)gb")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU, or a MIG part of one, as ``nvidia-smi`` sees it (sizes in bytes).

    Args:
        index: Its number in ``nvidia-smi``.
        unified: It has no memory of its own and uses the system's (GB10, Jetson).
        called: What ``CUDA_VISIBLE_DEVICES`` calls it; "": by its number.
    """

    index: int
    name: str
    memory_total: int
    memory_free: int
    uuid: str = ""
    unified: bool = False
    called: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The GPUs, and why there are none ("" if there are)."""

    gpus: tuple[Gpu, ...]
    none: str = ""


def find(memory_total: int, memory_available: int) -> Found:
    """Ask the driver, each time anew: one that did not answer may do so later.

    Args:
        memory_total: The system's memory (bytes), for GPUs that use it.
        memory_available: What of it can be taken now.
    """
    if shutil.which("nvidia-smi") is None:
        return Found((), "nvidia-smi is not there")
    listed = tuple(_parse(line, memory_total, memory_available) for line in _ask(*_QUERY))
    gpus = tuple(gpu for gpu in listed if gpu is not None)
    if not gpus:
        return Found((), "nvidia-smi does not answer")
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return Found(gpus)
    visible = tuple(_visible(gpus, wanted))
    return Found(visible, "" if visible else f"CUDA_VISIBLE_DEVICES={wanted!r} shows none")


def users(gpu: Gpu) -> list[tuple[int, int]]:
    """Processes that hold memory of a GPU: id and bytes; none where the driver does not tell."""
    found = []
    for line in _ask(
        "--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits"
    ):
        uuid, _, rest = line.partition(",")
        pid, _, size = rest.partition(",")
        if uuid.strip() == gpu.uuid and size.strip().isdigit() and pid.strip().isdigit():
            found.append((int(pid), int(size) << 20))
    return found


def visible(gpus: Iterable[Gpu]) -> str:
    """``CUDA_VISIBLE_DEVICES`` for a process that is to see these, in the words of our own."""
    return ",".join(gpu.called or str(gpu.index) for gpu in gpus)


def _ask(*arguments: str) -> list[str]:
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def _parse(line: str, memory_total: int, memory_available: int) -> Gpu | None:
    try:
        index, uuid, rest = line.split(",", 2)
        name, total, free = (part.strip() for part in rest.rsplit(",", 2))
        number = int(index)
    except ValueError:
        return None
    try:
        return Gpu(number, name, int(total) << 20, int(free) << 20, uuid.strip())
    except ValueError:  # "[N/A]"
        return Gpu(number, name, memory_total, memory_available, uuid.strip(), unified=True)


def _visible(gpus: Sequence[Gpu], wanted: str) -> Iterator[Gpu]:
    """As CUDA reads the variable: in its order, and up to the first name that is no GPU's."""
    for name in map(str.strip, wanted.split(",")):
        if name.isdigit():
            found = next((gpu for gpu in gpus if gpu.index == int(name)), None)
        elif name.startswith("MIG-"):
            found = next((gpu for gpu in _mig_parts(gpus) if gpu.uuid.startswith(name)), None)
        else:  # the beginning of a UUID is enough
            found = next((gpu for gpu in gpus if name and gpu.uuid.startswith(name)), None)
        if found is None:
            return
        yield replace(found, called=name)


def _mig_parts(gpus: Sequence[Gpu]) -> Iterator[Gpu]:
    """The MIG devices; only ``nvidia-smi -L`` lists them, with a profile such as ``3g.40gb``."""
    whole: Gpu | None = None
    for line in _ask("-L"):
        if match := _GPU_LINE.match(line):
            whole = next((gpu for gpu in gpus if gpu.uuid == match["uuid"]), None)
        elif whole is not None and (match := _MIG_LINE.match(line)):
            said = _MIG_MEMORY.search(match["profile"])
            memory = int(said[1]) << 30 if said else whole.memory_total
            name = f"{whole.name} MIG {match['profile']}"
            yield replace(
                whole, name=name, memory_total=memory, memory_free=memory, uuid=match["uuid"]
            )
