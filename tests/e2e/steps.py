"""Runs scripts beside this file that load an engine, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from server.registry.loader import load_registry
from server.registry.sources import ModelStore, default_cache_dir

ROOT = Path(__file__).resolve().parents[2]
VLLM = "vllm.v1.worker.cpu_worker.CPUWorker"
FLAT = "server.engines.cpu_worker.CorralCPUWorker"


def real_model() -> Path:
    """The folder of the shipped registry's model, fetched where it has to be."""
    cache = Path(os.environ.get("CORRAL_CACHE_DIR") or default_cache_dir())
    source = load_registry(ROOT / "model_registry.yaml").models[0].source
    return ModelStore(cache).prepare(source)


def run(script: str, *arguments: str | Path) -> Any:
    """The JSON that a script prints.

    Raises:
        AssertionError: It failed; with what it said.
    """
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
