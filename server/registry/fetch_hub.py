"""Bring a Hugging Face repository: its weights once, its config and tokenizer, nothing else."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from server.errors import SourceError
from server.registry.adapter_files import ADAPTER_HINT, missing_adapter_files
from server.registry.cache import require_space
from server.registry.hub_errors import hub_errors
from server.registry.manifest import sha256_of
from server.registry.progress import Progress
from server.registry.sources_schema import ADAPTER_CONFIG, ADAPTER_WEIGHTS, HubSource

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_SMALL_FILES = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_PICKLES = (".bin", ".pth", ".pt")
# How sentence-transformers names the folders of what comes after the model: "1_Pooling", "2_Dense".
_MODULE = re.compile(r"\d+_[A-Za-z]+")
_POLL_S = 0.2


def fetch_repository(
    source: HubSource, folder: Path, progress: Progress, *, adapter: bool = False
) -> dict[str, str]:
    """Download what serving needs of a repository.

    Whole files of this commit that are in ``folder`` already are not fetched again.

    Args:
        source: Repository and revision.
        folder: Where to; made if need be. Kept by the caller when this fails.
        progress: Told of the bytes.
        adapter: It holds a LoRA adapter, not a whole model.

    Returns:
        ``{"commit": …}``: the commit that the revision points to now.

    Raises:
        SourceError: No network, no such repository or revision, no permission, no space, no
            weights in it, or a file that differs from what the hub says of it.
    """
    import huggingface_hub

    endpoint = os.environ.get("HF_ENDPOINT") or None
    with hub_errors(source):
        api = huggingface_hub.HfApi(endpoint=endpoint)
        info = api.model_info(source.hub, revision=source.revision, files_metadata=True)
        sizes = (_adapter_files if adapter else _choose_files)(source, info)
        _download(source, "model", info.sha, sizes, folder, progress)
    _verify(source, info, folder, progress)
    return {"commit": info.sha or ""}


def fetch_data_files(
    source: HubSource, pattern: str, folder: Path, progress: Progress
) -> dict[str, str]:
    """Download files of a data set.

    Args:
        source: Repository of a data set, and revision.
        pattern: Which of its files, as a glob over their whole paths.
        folder: As for `fetch_repository`.
        progress: Told of the bytes.

    Returns:
        ``{"commit": …}``: the commit that the revision points to now.

    Raises:
        SourceError: As `fetch_repository`; or no file matches.
    """
    import huggingface_hub

    endpoint = os.environ.get("HF_ENDPOINT") or None
    with hub_errors(source):
        api = huggingface_hub.HfApi(endpoint=endpoint)
        info = api.dataset_info(source.hub, revision=source.revision, files_metadata=True)
        sizes = {
            sibling.rfilename: sibling.size or 0
            for sibling in info.siblings or []
            if fnmatch.fnmatchcase(sibling.rfilename, pattern)
        }
        if not sizes:
            raise SourceError(f"{source.hub} holds no file that matches '{pattern}'.")
        _download(source, "dataset", info.sha, sizes, folder, progress)
    return {"commit": info.sha or ""}


def _download(
    source: HubSource,
    kind: str,
    commit: str | None,
    sizes: dict[str, int],
    folder: Path,
    progress: Progress,
) -> None:
    """Bring these files of a repository of a kind, and drop all others from the folder."""
    import huggingface_hub

    folder.mkdir(parents=True, exist_ok=True)
    _drop_fragments(folder)
    total = sum(sizes.values())
    require_space(folder, max(0, total - _bytes_below(folder)))
    with _watched(folder, f"download {source.hub}", total, progress):
        huggingface_hub.snapshot_download(
            source.hub,
            repo_type=kind,
            revision=commit,
            local_dir=folder,
            allow_patterns=[_literal(name) for name in sizes],
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            tqdm_class=_silent_bar(),
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    _drop_strangers(folder, sizes)


def _files_at_top(info: ModelInfo) -> dict[str, int]:
    return {
        sibling.rfilename: sibling.size or 0
        for sibling in info.siblings or []
        # Sub-folders hold other formats of the same weights ("original/", "onnx/").
        if len(PurePosixPath(sibling.rfilename).parts) == 1
    }


def _adapter_files(source: HubSource, info: ModelInfo) -> dict[str, int]:
    """Names and bytes of an adapter's two files."""
    files = _files_at_top(info)
    problem = missing_adapter_files(set(files))
    if problem:
        raise SourceError(f"{source.hub} {problem}")
    return {name: files[name] for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}


def _choose_files(source: HubSource, info: ModelInfo) -> dict[str, int]:
    """Names and bytes: safetensors or else pickles, with what stands beside them at the top."""
    files = _files_at_top(info)
    # "consolidated" are Meta's and Mistral's own shards of weights that stand there twice.
    names = [name for name in files if not name.startswith("consolidated")]
    weights = [name for name in names if name.endswith(".safetensors")]
    weights = weights or [name for name in names if name.endswith(_PICKLES)]
    if not weights:
        hint = ""
        if any(name.endswith(".gguf") for name in names):
            hint = " It has GGUF files; download one into a folder and use a directory source."
        raise SourceError(f"{source.hub} holds no safetensors weights at its top.{hint}")
    if "config.json" not in files:
        hint = f" It is an adapter: {ADAPTER_HINT}." if ADAPTER_CONFIG in files else ""
        raise SourceError(f"{source.hub} holds no config.json, so it is no whole model.{hint}")
    small = [name for name in names if name.endswith(_SMALL_FILES)]
    modules = _module_files(info) if "modules.json" in files else {}
    return {name: files[name] for name in sorted({*weights, *small})} | modules


def _module_files(info: ModelInfo) -> dict[str, int]:
    """Names and bytes of how an embedding model pools, and of layers behind it."""
    found = {}
    for sibling in info.siblings or []:
        folder, _, name = sibling.rfilename.rpartition("/")
        if _MODULE.fullmatch(folder) and name.endswith((".json", ".safetensors", *_PICKLES)):
            found[sibling.rfilename] = sibling.size or 0
    return found


def _verify(source: HubSource, info: ModelInfo, folder: Path, progress: Progress) -> None:
    """Compare large files with the checksums that the hub states."""
    sums = {s.rfilename: s.lfs.sha256 for s in info.siblings or [] if s.lfs is not None}
    present = {name: path for name, path in _files_of(folder).items() if name in sums}
    progress.start("verify download", sum(path.stat().st_size for path in present.values()), "B")
    try:
        for name, path in present.items():
            if sha256_of(path, progress) != sums[name]:
                path.unlink()
                raise SourceError(
                    f"{name} of {source.hub} arrived damaged: its SHA-256 is not {sums[name]}. "
                    "Try again; only this file is downloaded anew."
                )
    finally:
        progress.finish()


def _drop_fragments(folder: Path) -> None:
    """The hub's client keeps whole files, and begins a file that was cut off anew elsewhere."""
    for path in folder.rglob("*.incomplete"):
        path.unlink(missing_ok=True)


def _drop_strangers(folder: Path, wanted: dict[str, int]) -> None:
    """A continued download may hold files of the commit that the branch pointed to before."""
    for name, path in _files_of(folder).items():
        if name not in wanted:
            path.unlink()


def _files_of(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its name in the repository."""
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def _literal(name: str) -> str:
    """A file name as a pattern that matches itself alone."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _silent_bar() -> Any:
    from huggingface_hub.utils import tqdm as hub_bar  # type: ignore[attr-defined]

    class Silent(hub_bar):
        """The hub's own bars would draw over ours."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]

    return Silent


@contextmanager
def _watched(folder: Path, title: str, total: int, progress: Progress) -> Iterator[None]:
    """Report the bytes that have reached the disk while the block runs.

    What lies in the folder is the same whatever way the hub's client downloads, and counts a
    continued download right.
    """
    progress.start(title, total, "B")
    stop = threading.Event()
    seen = 0

    def look() -> None:
        nonlocal seen
        now = min(_bytes_below(folder), total)
        if now > seen:
            progress.advance(now - seen)
            seen = now

    def watch() -> None:
        while not stop.wait(_POLL_S):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        look()
        progress.finish()


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and path.suffix not in (".lock", ".metadata"):
                # Blocks, not length: clients may reserve a file's full length at once.
                total += min(path.stat().st_size, path.stat().st_blocks * 512)
        except OSError:
            continue  # renamed in between
    return total
