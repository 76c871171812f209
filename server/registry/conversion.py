"""Run the GGUF converter (``convert.py``) in a child process and follow its progress."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from server.errors import SourceError
from server.registry.cache import NoSpaceError
from server.registry.progress import Progress

# Appended to the path, not put before it: what stands beside the package must not shadow anything.
_START = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from server.registry.convert import main; sys.exit(main(sys.argv[2:]))"
)
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def convert_gguf(source: Path, target: Path, scratch: Path, progress: Progress) -> None:
    """Convert a GGUF file to bfloat16 safetensors with config and tokenizer.

    Args:
        source: The GGUF file.
        target: Folder to write to.
        scratch: Folder for temporary files.
        progress: Told of the stages.

    Raises:
        SourceError: The file can't be converted.
        NoSpaceError: The disk can't hold the result.
    """
    command = [sys.executable, "-P", "-c", _START, str(_PACKAGE_ROOT), str(source), str(target)]
    environment = os.environ | {
        # Everything is on this machine; asking a hub would hang without a network.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        # Tensor work is the smaller part, and OpenMP threads that wait for each other on a busy
        # machine took 17 s for what one of them does in 1 s.
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(scratch),
    }
    with tempfile.TemporaryFile("w+", dir=scratch, encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # held open: the child ends when it closes
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        try:
            failure = _follow(process, progress)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if failure.get("disk_full"):
            raise NoSpaceError(failure["needed"], failure["free"])
        if code != 0 or failure:
            raise SourceError(_explain(source, failure, code, errors))


def _follow(process: subprocess.Popen[str], progress: Progress) -> dict[str, Any]:
    """Pass the child's lines on; returns its error line, or an empty dict."""
    running = False
    failure: dict[str, Any] = {}
    try:
        for line in process.stdout or ():
            event = json.loads(line)
            if "stage" in event:
                if running:
                    progress.finish()
                progress.start(event["stage"], event["total"], event["unit"])
                running = True
            elif "advance" in event:
                progress.advance(event["advance"])
            else:
                failure = event
    finally:
        if running:
            progress.finish()
    return failure


def _explain(source: Path, failure: dict[str, Any], code: int, errors: IO[str]) -> str:
    if failure:
        reason = failure["error"]
    elif code < 0:
        reason = f"its process was ended by signal {-code}"
        if code == -9:
            reason += " (often because memory ran out)"
    else:
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {code}"
    return f"{source.name} cannot be converted: {reason}"
