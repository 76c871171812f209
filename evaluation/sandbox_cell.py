"""The sandbox's warden: a program of its own, on Python's standard library alone.

    python -I -S sandbox_cell.py < request > report

It makes namespaces, starts the guest as their first process, watches it, and kills it when time is
up or when its own stdin is closed, so that nothing outlives the evaluation. The request is one line
of JSON, the report another. Linux only; see docs/evaluation.md for what this keeps in and what not.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

_LIBC = ctypes.CDLL(None, use_errno=True)
# From <linux/sched.h>, <linux/mount.h>, <linux/prctl.h>.
_NEW_NS, _NEW_UTS, _NEW_IPC = 0x00020000, 0x04000000, 0x08000000
_NEW_USER, _NEW_PID, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
NOBODY = 65534
_KEPT_BYTES = 1 << 16
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def main() -> None:
    """Read a request, run it, and write what came of it."""
    request = json.loads(sys.stdin.buffer.readline())
    try:
        report = _watch(request)
    except OSError as error:
        report = {"why_not": f"{error.strerror or error}"}
    sys.stdout.write(json.dumps(report) + "\n")


def _watch(request: dict[str, Any]) -> dict[str, Any]:
    results, results_end = os.pipe()
    output, output_end = os.pipe()
    given, given_end = os.pipe()
    failed, failed_end = os.pipe()
    _leave(as_root=os.geteuid() == 0)
    guest = os.fork()
    if guest == 0:
        os.close(failed)
        _become_guest(request, given, output_end, results_end, failed_end)
    for end in (results_end, output_end, given, failed_end):
        os.close(end)
    # Closed by the guest's exec, or holding why there was none.
    if why_not := os.read(failed, 400).decode():
        os.waitpid(guest, 0)
        return {"why_not": why_not}
    payload = json.dumps(request["payload"]).encode()
    kept, timed_out = _attend(guest, given_end, payload, (results, output), request["seconds"])
    _, status, used = os.wait4(guest, 0)
    # The kernel ends who has had the processor for as long as is allowed, like everybody else who
    # has to go: by SIGKILL. It counts in ticks, and somewhat otherwise than it reports.
    spent = used.ru_utime + used.ru_stime >= 0.9 * request["cpu_seconds"]
    killed = os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    return {
        "results": kept[0].decode(errors="replace"),
        "output": kept[1].decode(errors="replace"),
        "timed_out": timed_out or (killed and spent),
        "status": os.waitstatus_to_exitcode(status),
    }


def _attend(
    guest: int, given: int, payload: bytes, pipes: tuple[int, int], seconds: float
) -> tuple[list[bytearray], bool]:
    """Feed the guest and read from it until it has ended; kill it in time."""
    kept = [bytearray(), bytearray()]
    deadline = time.monotonic() + seconds
    ended = os.pidfd_open(guest)
    os.set_blocking(given, False)
    reading = {*pipes}
    writing = {given}
    timed_out = False
    while True:
        left = deadline - time.monotonic()
        ready, writable, _ = select.select([*reading, ended, 0], [*writing], [], max(0.0, left))
        for pipe in reading & {*ready}:
            data = os.read(pipe, 1 << 16)
            store = kept[pipes.index(pipe)]
            store += data[: _KEPT_BYTES - len(store)]
            if not data:
                reading.discard(pipe)
        if writable:
            payload = _feed(given, payload, writing)
        if ended in ready:
            break
        if left <= 0 or 0 in ready:  # nothing more is ever sent on stdin: it was closed
            timed_out = left <= 0
            os.kill(guest, signal.SIGKILL)
            break
    _drain(reading, pipes, kept)
    return kept, timed_out


def _feed(given: int, payload: bytes, writing: set[int]) -> bytes:
    try:
        payload = payload[os.write(given, payload) :]
    except BrokenPipeError:
        payload = b""
    if not payload:
        writing.clear()
        os.close(given)
    return payload


def _drain(reading: set[int], pipes: tuple[int, int], kept: list[bytearray]) -> None:
    """What was written before the end."""
    for pipe in reading:
        os.set_blocking(pipe, False)
        store = kept[pipes.index(pipe)]
        while len(store) < _KEPT_BYTES:
            try:
                data = os.read(pipe, _KEPT_BYTES - len(store))
            except BlockingIOError:
                break
            if not data:
                break
            store += data


def _leave(*, as_root: bool) -> None:
    """Into new namespaces. Root needs no user namespace; everybody else gets one."""
    flags = _NEW_NS | _NEW_UTS | _NEW_IPC | _NEW_PID | _NEW_NET
    if as_root:
        _call(_LIBC.unshare(flags), "unshare")
        return
    uid, gid = os.geteuid(), os.getegid()
    _call(_LIBC.unshare(flags | _NEW_USER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")


def _become_guest(
    request: dict[str, Any], given: int, output: int, results: int, failed: int
) -> NoReturn:
    """The first process of the namespaces becomes the guest."""
    try:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()
        python = os.path.realpath(sys.executable)
        _furnish(request, Path(python))
        for source, target in ((given, 0), (output, 1), (output, 2), (results, 3)):
            os.dup2(source, target)
        os.dup2(failed, 4)
        os.set_inheritable(4, False)
        os.closerange(5, 1 << 16)
        _limit(request)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        _call(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        environment = {"HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}  # noqa: S108
        os.execve(python, [python, "-I", "-S", "-B", "-c", request["guest"]], environment)  # noqa: S606
    except BaseException as error:  # noqa: BLE001 - told to the warden, whatever it is
        os.write(4 if _is_open(4) else failed, f"{error}".encode()[:400] or b"?")
    os._exit(1)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _furnish(request: dict[str, Any], python: Path) -> None:
    """A root of its own: the system and Python, to be read, and an empty /tmp of a few MiB."""
    _call(_LIBC.mount(b"none", b"/", None, _REC | _PRIVATE, None), "private mounts")
    root = request["root"]
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    # Python's own prefix, such as /opt/python, where it is no part of /usr.
    prefix = str(python.parent.parent)
    for folder in (*_SYSTEM, *(() if prefix.startswith("/usr") else (prefix,))):
        _bind(folder, root + folder)
    for device in _DEVICES:
        place = Path(root + device)
        place.parent.mkdir(exist_ok=True)
        place.touch()
        _mount(device, str(place), None, _BIND, None)
    Path(root, "tmp").mkdir()
    size = f"size={request['disk_bytes']},mode=1777,nr_inodes=1000"
    _mount("tmpfs", f"{root}/tmp", "tmpfs", _NOSUID | _NODEV, size)  # noqa: S108
    Path(root, "old").mkdir()
    number = _PIVOT_ROOT[os.uname().machine]
    _call(_LIBC.syscall(number, root.encode(), f"{root}/old".encode()), "pivot_root")
    os.chdir("/tmp")  # noqa: S108
    _call(_LIBC.umount2(b"/old", _DETACH), "umount")
    _mount(None, "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV, None)


def _bind(source: str, target: str) -> None:
    """Show a folder of the machine, to be read."""
    if not os.path.exists(source):  # noqa: PTH110 - of a dangling link too
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    if os.path.islink(source):  # noqa: PTH114
        os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211
        return
    Path(target).mkdir()
    _mount(source, target, None, _BIND | _REC, None)
    # What is locked for an unprivileged namespace must stay as it is.
    locked = os.statvfs(source).f_flag & (_NOSUID | _NODEV | 8)
    _mount(None, target, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | locked, None)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind, data)]
    done = _LIBC.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _call(done, f"mount {target}")


def _limit(request: dict[str, Any]) -> None:
    """Limits of each process of the guest, and of their number."""
    seconds = int(request["cpu_seconds"])
    for kind, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, request["memory_bytes"]),
        (resource.RLIMIT_FSIZE, request["disk_bytes"]),
        (resource.RLIMIT_NPROC, request["processes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))


def _call(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
