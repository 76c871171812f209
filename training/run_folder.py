"""The folder of a run.

Layout::

    run.json            the recipe, its digest, versions, and how long each part of the run took
    held_out.jsonl      the rows kept back, in the shape `messages`
    lengths.json        how long the rows are
    rows/               both parts as token ids
    checkpoints/        to resume from
    tensorboard/        events
    loss.csv .png .svg  the curves
    adapter/ or model/  the result, with its card
    registry-entry.yaml for `corral models add`
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from server.registry.manifest import sha256_of
from server.registry.progress import NullProgress
from training.errors import TrainingError
from training.recipe import Recipe

# What may be another when a run goes on: it changes nothing that is computed.
_FREE: Final = frozenset({"output", "description", "licence", "sampling", "report"})
_FREE_SCHEDULE: Final = frozenset({"keep", "save_every", "log_every"})
_PACKAGES: Final = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where the parts of a run lie.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def state_file(self) -> Path:
        """What is known of the run."""
        return self.path / "run.json"

    @property
    def held_out(self) -> Path:
        """The rows kept back."""
        return self.path / "held_out.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folders to resume from."""
        return self.path / "checkpoints"

    @property
    def result(self) -> Path:
        """The adapter, or the model."""
        return self.path / ("adapter" if self.state()["recipe"]["lora"] else "model")

    @property
    def entry(self) -> Path:
        """The registry entry."""
        return self.path / "registry-entry.yaml"

    def rows(self, part: str) -> Path:
        """The token ids of ``train`` or ``held_out``."""
        return self.path / "rows" / f"{part}.arrow"

    def state(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        state: dict[str, Any] = json.loads(self.state_file.read_text(encoding="utf-8"))
        return state

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint; transformers writes the state as its last file."""
        found = [
            path
            for path in self.checkpoints.glob("checkpoint-*")
            if (path / "trainer_state.json").is_file()
        ]
        return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)

    def begin(self, recipe: Recipe, *, resume: bool, fresh: bool) -> Path | None:
        """Make the folder ready.

        Args:
            recipe: What is run in it.
            resume: Go on from the last checkpoint, if there is one.
            fresh: Delete an earlier run.

        Returns:
            The checkpoint to go on from.

        Raises:
            TrainingError: An earlier run is in the way, or is one of another recipe.
        """
        if fresh and self.state_file.is_file():  # nothing but a run's folder is deleted
            shutil.rmtree(self.path)
        if self.state_file.is_file():
            if not resume:
                raise TrainingError(
                    f"{self.path} holds an earlier run. Go on with it: --resume; delete it and "
                    "begin anew: --fresh; or choose another folder: --output"
                )
            if self.state()["digest"] != digest_of(recipe):
                raise TrainingError(
                    f"{self.path} holds a run of another recipe, or of this one before it was "
                    "changed; it cannot be resumed. Choose another folder: --output"
                )
            return self.last_checkpoint()
        (self.path / "rows").mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": recipe.model_dump(mode="json", exclude={"output"}),
            "digest": digest_of(recipe),
            "versions": versions(),
            "commit": commit(),
            "parts": [],
        }
        self.write_state(state)
        return None

    def require_same_rows(self) -> None:
        """Check that a run that goes on has the rows that it began with.

        Raises:
            TrainingError: The data have changed meanwhile.
        """
        state = self.state()
        digest = sha256_of(self.rows("train"), NullProgress())
        if state.setdefault("rows", digest) != digest:
            raise TrainingError(
                f"The data have changed since the run in {self.path} began, so it cannot be "
                "resumed. Begin anew: --fresh, or in another folder: --output"
            )
        self.write_state(state)

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace ``run.json``."""
        fresh = self.state_file.with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        fresh.replace(self.state_file)

    def add_part(self, first: int, last: int, seconds: float, processes: int) -> None:
        """Note that the run went from one step to another."""
        state = self.state()
        part = {"from": first, "to": last, "seconds": round(seconds, 1), "processes": processes}
        state["parts"].append(part | {"ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        self.write_state(state)


def digest_of(recipe: Recipe) -> str:
    """Changes with everything that changes what is computed."""
    said = recipe.model_dump(mode="json", exclude=set(_FREE))
    said["schedule"] = {k: v for k, v in said["schedule"].items() if k not in _FREE_SCHEDULE}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in _PACKAGES
    }


def commit() -> str:
    """The commit of this checkout of Corral, or its version."""
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        done = None
    from server import __version__

    said = done.stdout.strip() if done and done.returncode == 0 and (root / ".git").exists() else ""
    return said or f"corral {__version__}"
