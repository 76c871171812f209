"""The one build step that pyproject.toml cannot say: the wheel carries model_registry.yaml.

The file lives at the root of the repository, where people look for it and edit it. A wheel holds a
copy at ``server/model_registry.yaml``, so an installed Corral finds its default registry beside its
code. An editable install (``make serve``) makes no copy and reads the file at the root.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

REGISTRY = "model_registry.yaml"


class BuildPy(build_py):
    """build_py that copies the registry into the package."""

    def run(self) -> None:
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


setup(cmdclass={"build_py": BuildPy})
