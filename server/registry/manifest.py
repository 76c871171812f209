"""``corral-manifest.json``: what a finished model consists of, byte for byte."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.registry.progress import Progress

MANIFEST = "corral-manifest.json"
_BLOCK = 1 << 20


class FileRecord(BaseModel):
    """One file: bytes and SHA-256 in hex."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    sha256: str


class Manifest(BaseModel):
    """A finished model's files, and where they came from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    source: dict[str, Any]
    resolved: dict[str, str] = Field(default_factory=dict)
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    files: dict[str, FileRecord]

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest in a folder, or None where there is none that can be read."""
        try:
            return cls.model_validate_json((folder / MANIFEST).read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, folder: Path) -> None:
        """Put the manifest beside its files and make it and their names survive a power cut."""
        with (folder / MANIFEST).open("wb") as file:
            file.write(self.model_dump_json(indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
            sync_folder(path)


def record_files(folder: Path, progress: Progress) -> dict[str, FileRecord]:
    """Hash every file below a folder and push it to the disk.

    Returns:
        Records by path relative to the folder, with forward slashes.
    """
    paths = _files_in(folder)
    progress.start("checksums", sum(path.stat().st_size for path in paths), "B")
    try:
        records = {}
        for path in paths:
            # Some writers leave files private to their user; a shared cache is read by others.
            path.chmod(0o644)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            size = path.stat().st_size
            sha256 = sha256_of(path, progress)
            records[path.relative_to(folder).as_posix()] = FileRecord(size=size, sha256=sha256)
        return records
    finally:
        progress.finish()


def sha256_of(path: Path, progress: Progress) -> str:
    """SHA-256 of a file in hex; advances the running stage by the bytes read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            progress.advance(len(block))
    return digest.hexdigest()


def is_intact(folder: Path, manifest: Manifest) -> bool:
    """Whether every file is there with its size. Does not read the files."""
    try:
        return all(
            (folder / name).stat().st_size == record.size for name, record in manifest.files.items()
        )
    except OSError:
        return False


def find_damage(folder: Path, manifest: Manifest, progress: Progress) -> list[str]:
    """Compare every byte with the manifest.

    Returns:
        One sentence for each file that is missing, changed or not listed; empty when all is well.
    """
    problems = []
    progress.start("verify", sum(record.size for record in manifest.files.values()), "B")
    try:
        for name, record in manifest.files.items():
            path = folder / name
            if not path.is_file():
                problems.append(f"{name} is missing")
            elif path.stat().st_size != record.size:
                size = path.stat().st_size
                problems.append(f"{name} has {size} bytes instead of {record.size}")
            elif sha256_of(path, progress) != record.sha256:
                problems.append(f"{name} has changed: its SHA-256 is not {record.sha256}")
    finally:
        progress.finish()
    present = {path.relative_to(folder).as_posix() for path in _files_in(folder)}
    unlisted = sorted(present - set(manifest.files) - {MANIFEST})
    return problems + [f"{name} does not belong to the model" for name in unlisted]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
