"""The build steps that pyproject.toml cannot say: a wheel carries the registry and the chat page.

``model_registry.yaml``, the adapters that it names and the recipes lie at the root of the
repository, where people look for them and edit them. A wheel holds copies beside the code that
reads them, so an installed Corral finds its default registry and its recipes. An editable install
(``make serve``) makes no copies and reads the files at the root.

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
# What lies at the root → the package that it is copied into.
COPIED = {
    "model_registry.yaml": "server",
    "adapters/*/*": "server",
    "recipes/*.yaml": "training",
    "recipes/accelerate/*.yaml": "training",
}


def copied() -> dict[str, str]:
    """Each file that is copied, and where it stands in the wheel; relative to the root."""
    return {
        str(path.relative_to(ROOT)): str(Path(package) / path.relative_to(ROOT))
        for pattern, package in COPIED.items()
        for path in sorted(ROOT.glob(pattern))
    }


def build_page() -> None:
    """Bring ``server/web/static`` up to date, where its sources are."""
    if (ROOT / "scripts" / "build_web.py").is_file():
        subprocess.run([sys.executable, "-m", "scripts.build_web"], cwd=ROOT, check=True)


class BuildPy(build_py):
    """build_py that builds the chat page and copies what lies at the root into the packages."""

    def run(self) -> None:
        if not self.editable_mode:
            build_page()
        super().run()
        if not self.editable_mode:
            for source, place in copied().items():
                target = Path(self.build_lib) / place
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(source, str(target), preserve_mode=False)

    def get_source_files(self) -> list[str]:
        """Files for the source distribution, relative to the root."""
        return [*super().get_source_files(), *copied()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs: list[str] = super().get_outputs(include_bytecode)
        return [*outputs, *(str(Path(self.build_lib) / place) for place in copied().values())]


class Sdist(sdist):
    """sdist that builds the chat page first."""

    def run(self) -> None:
        build_page()
        super().run()


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
