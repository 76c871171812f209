"""What the package may not bring with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_registry_is_light_to_import() -> None:
    """A server forks engines: torch's threads must not have run here. The rest is slow."""
    heavy = "torch transformers gguf vllm fastapi huggingface_hub server.prompts server.engines"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import server.registry; "
        "print(*[name for name in sys.argv[2].split() if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(ROOT), heavy]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
