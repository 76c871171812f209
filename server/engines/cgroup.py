"""What the control groups around this process leave it of the machine; versions 1 and 2 of cgroups.

A limit may stand at any level above a process (a pod's above its containers', a systemd slice's
above its services'), and each of them binds. So every level that can be seen is looked at.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_PROCESS = Path("/proc/self")
# Names of limit, use, and of the page cache's figures in memory.stat. Version 1 gives those of one
# group alone without the prefix.
_MEMORY_FILES = (
    ("memory.max", "memory.current", ("active_file", "inactive_file")),
    (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The tightest of all levels.

    Args:
        cpus: Cores' worth of CPU time; infinite without a limit.
        memory: Bytes this process's groups may hold; ``sys.maxsize`` without a limit.
        memory_left: Bytes that can still be taken; ``sys.maxsize`` without a limit.
    """

    cpus: float
    memory: int
    memory_left: int


def limits() -> Limits:
    """Look at the groups now."""
    memory = [_memory(group) for group in _groups("memory")]
    return Limits(
        cpus=min(map(_cpus, _groups("cpu")), default=math.inf),
        memory=min((limit for limit, _ in memory), default=sys.maxsize),
        memory_left=min((left for _, left in memory), default=sys.maxsize),
    )


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the groups that count for ``controller``, from this process's own upwards."""
    for line in _text(_PROCESS / "cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        # Version 2 has one hierarchy for all, which is listed without controllers.
        if controllers and controller not in controllers.split(","):
            continue
        for root, folder in _mounts(controller if controllers else None):
            yield from _upwards(PurePosixPath(group), PurePosixPath(root), Path(folder))


def _mounts(controller: str | None) -> Iterator[tuple[str, str]]:
    """Root and folder of each mounted hierarchy: version 1's of a controller, or version 2's."""
    for line in _text(_PROCESS / "mountinfo").splitlines():
        head, _, tail = line.partition(" - ")
        _, _, _, root, folder, *_ = head.split(" ")
        kind, _, options = tail.split(" ", 2)
        if kind == "cgroup2" if controller is None else controller in options.split(","):
            yield root, folder


def _upwards(group: PurePosixPath, root: PurePosixPath, folder: Path) -> Iterator[Path]:
    # A path that leads out of what is mounted is one of the host's: its end is what we see.
    inside = group.is_relative_to(root) and ".." not in group.parts
    own = folder / group.relative_to(root) if inside else folder
    while own != folder:
        yield own
        own = own.parent
    yield folder


def _cpus(group: Path) -> float:
    words = _text(group / "cpu.max").split() or [
        _text(group / "cpu.cfs_quota_us"),
        _text(group / "cpu.cfs_period_us"),
    ]
    try:
        quota, period = map(int, words)
    except ValueError:  # "max", or a group without the controller
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _memory(group: Path) -> tuple[int, int]:
    """Limit, and what is left of it.

    The page cache counts as use there, though it gives way to whoever needs memory; after a
    model's files were read it holds nearly all there is.
    """
    for limit_file, use_file, cache_names in _MEMORY_FILES:
        try:
            limit = int(_text(group / limit_file))
            used = int(_text(group / use_file))
        except ValueError:  # "max", or no such file
            continue
        lines = (line.split() for line in _text(group / "memory.stat").splitlines())
        figures = {name: int(value) for name, value in lines}
        cache = sum(figures.get(name, 0) for name in cache_names)
        return limit, max(0, limit - max(0, used - cache))
    return sys.maxsize, sys.maxsize


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
