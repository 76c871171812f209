"""Limits at every level of the control groups, on file systems made for the purpose."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server.engines import cgroup
from server.engines.cgroup import Limits, limits

GIB = 1 << 30
MIB = 1 << 20
# What version 1 says where there is no limit.
NO_LIMIT = 9223372036854771712
UNLIMITED = Limits(math.inf, sys.maxsize, sys.maxsize)

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes files below ``tmp_path``; ``proc`` there stands for /proc/self."""
    monkeypatch.setattr(cgroup, "_PROCESS", tmp_path / "proc")

    def write(files: dict[str, str | int]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text).replace("ROOT", str(tmp_path)) + "\n")

    return write


def version_2(group: str, root: str = "/") -> dict[str, str | int]:
    return {
        "proc/cgroup": f"0::{group}",
        "proc/mountinfo": "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"30 22 0:26 {root} ROOT/fs rw,nosuid shared:4 master:2 - cgroup2 cgroup2 rw,nsdelegate",
    }


def version_1(group: str, root: str = "/") -> dict[str, str | int]:
    mount = "rw,nosuid - cgroup cgroup rw"
    return {
        "proc/cgroup": f"4:memory:{group}\n3:cpu,cpuacct:{group}\n2:cpuset:/\n1:name=systemd:/x",
        "proc/mountinfo": f"30 22 0:26 {root} ROOT/memory {mount},memory\n"
        f"31 22 0:27 {root} ROOT/cpu {mount},cpu,cpuacct\n"
        f"32 22 0:28 / ROOT/systemd {mount},xattr,name=systemd",
    }


def test_nothing_to_be_seen(write: Write) -> None:
    assert limits() == UNLIMITED
    write(version_2("/") | {"fs/cpu.stat": "usage_usec 5"})
    assert limits() == UNLIMITED


def test_the_group_of_a_container(write: Write) -> None:
    """Version 2 with a namespace: the container's own group is the root that it sees."""
    write(
        version_2("/")
        | {
            "fs/cpu.max": "250000 100000",
            "fs/memory.max": 8 * GIB,
            "fs/memory.current": 3 * GIB,
            "fs/memory.stat": f"anon {GIB}\nactive_file {GIB}\ninactive_file {GIB // 2}",
        }
    )
    # Of 3 GiB half are page cache, which gives way.
    assert limits() == Limits(2.5, 8 * GIB, 6 * GIB + GIB // 2)


def test_the_tightest_level_binds(write: Write) -> None:
    """A service below a slice below a slice, each with limits of its own."""
    write(
        version_2("/corral.slice/corral.service")
        | {
            "fs/corral.slice/corral.service/cpu.max": "max 100000",
            "fs/corral.slice/corral.service/memory.max": 16 * GIB,
            "fs/corral.slice/corral.service/memory.current": GIB,
            "fs/corral.slice/cpu.max": "150000 50000",
            "fs/corral.slice/memory.max": 4 * GIB,
            # Others in the slice hold memory too.
            "fs/corral.slice/memory.current": 3 * GIB,
        }
    )
    assert limits() == Limits(3.0, 4 * GIB, GIB)
    write({"fs/corral.slice/corral.service/cpu.max": "100000 100000"})
    assert limits().cpus == 1.0


def test_version_1(write: Write) -> None:
    write(
        version_1("/jobs/one")
        | {
            "cpu/jobs/one/cpu.cfs_quota_us": -1,
            "cpu/jobs/one/cpu.cfs_period_us": 100000,
            "cpu/jobs/cpu.cfs_quota_us": 400000,
            "cpu/jobs/cpu.cfs_period_us": 100000,
            "memory/jobs/one/memory.limit_in_bytes": 2 * GIB,
            "memory/jobs/one/memory.usage_in_bytes": GIB,
            "memory/jobs/one/memory.stat": f"active_file 1\ntotal_active_file {512 * MIB}\n"
            f"total_inactive_file {256 * MIB}",
            "memory/memory.limit_in_bytes": NO_LIMIT,
            "memory/memory.usage_in_bytes": 60 * GIB,
        }
    )
    assert limits() == Limits(4.0, 2 * GIB, 2 * GIB - 256 * MIB)


def test_a_container_of_version_1(write: Write) -> None:
    """It is told its path on the host, and sees its own group where that is mounted."""
    write(
        version_1("/docker/abc", root="/docker/abc")
        | {
            "cpu/cpu.cfs_quota_us": 50000,
            "cpu/cpu.cfs_period_us": 100000,
            "memory/memory.limit_in_bytes": GIB,
            "memory/memory.usage_in_bytes": 2 * GIB,
        }
    )
    assert limits() == Limits(0.5, GIB, 0)


@pytest.mark.parametrize("group", ["/../../host.slice", "/elsewhere"])
def test_a_path_outside_of_what_is_mounted(group: str, write: Write) -> None:
    write(version_2(group, root="/here") | {"fs/cpu.max": "200000 100000"})
    assert limits().cpus == 2.0


def test_both_versions_at_once(write: Write) -> None:
    """Systemd's hybrid: controllers in version 1, and an empty hierarchy of version 2."""
    files = version_1("/user")
    files["proc/cgroup"] = f"{files['proc/cgroup']}\n0::/user"
    files["proc/mountinfo"] = f"{files['proc/mountinfo']}\n" + str(
        version_2("/")["proc/mountinfo"]
    ).replace("30 22", "40 22")
    write(
        files
        | {
            "cpu/user/cpu.cfs_quota_us": 100000,
            "cpu/user/cpu.cfs_period_us": 100000,
            "fs/user/cgroup.procs": "1",
        }
    )
    assert limits() == Limits(1.0, sys.maxsize, sys.maxsize)


def test_figures_that_make_no_sense(write: Write) -> None:
    write(version_2("/") | {"fs/cpu.max": "rubbish", "fs/memory.max": "rubbish"})
    assert limits() == UNLIMITED


def test_this_machine() -> None:
    found = limits()
    assert found.cpus > 0
    assert 0 <= found.memory_left <= found.memory
