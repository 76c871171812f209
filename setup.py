"""The build steps that pyproject.toml cannot say: a wheel carries the registry and the chat page.

``model_registry.yaml`` lies at the root of the repository, where people look for it and edit it. A
wheel holds a copy at ``server/model_registry.yaml``, so an installed Corral finds its default
registry beside its code. An editable install (``make serve``) makes no copy and reads the file at
the root.

The chat page is built of ``clients/web`` into ``server/web/static`` before either distribution is
made. Where that is not possible, or a source distribution holds the page alone, what is there is
packed. ``python3 -m scripts.build_web --required`` says beforehand whether it is.
"""

import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
REGISTRY = "model_registry.yaml"


def build_page() -> None:
    """Bring ``server/web/static`` up to date, where its sources are."""
    if (ROOT / "scripts" / "build_web.py").is_file():
        subprocess.run([sys.executable, "-m", "scripts.build_web"], cwd=ROOT, check=True)


class BuildPy(build_py):
    """build_py that builds the chat page and copies the registry into the package."""

    def run(self) -> None:
        if not self.editable_mode:
            build_page()
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "server" / REGISTRY
            self.copy_file(REGISTRY, str(target), preserve_mode=False)

    def get_source_files(self) -> list[str]:
        """Files for the source distribution, relative to the root."""
        return [*super().get_source_files(), REGISTRY]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs: list[str] = super().get_outputs(include_bytecode)
        return [*outputs, str(Path(self.build_lib) / "server" / REGISTRY)]


class Sdist(sdist):
    """sdist that builds the chat page first."""

    def run(self) -> None:
        build_page()
        super().run()


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
