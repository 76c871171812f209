"""The Makefile: which commands its targets run, read off `make --dry-run`."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


def dry_run(*arguments: str, **environment: str) -> list[str]:
    """The lines that make would run."""
    env = {"PATH": os.environ["PATH"], **environment}
    command = ["make", "--dry-run", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_serve_passes_what_make_was_given() -> None:
    last = dry_run("serve", "PORT=9000", "HOST=0.0.0.0", "REGISTRY=my herd.yaml")[-1]
    assert last.split(maxsplit=3)[:3] == ["exec", ".venv/bin/corral", "serve"]
    assert last.endswith("--port '9000' --host '0.0.0.0' --registry 'my herd.yaml'")


def test_serve_leaves_the_environment_to_corral() -> None:
    last = dry_run("serve", HOST="my-laptop", PORT="1", REGISTRY="x", CORRAL_PORT="9000")[-1]
    assert last.strip() == "exec .venv/bin/corral serve"


def test_serve_installs_first_for_the_build_and_the_python_asked_for() -> None:
    lines = dry_run("serve", "BUILD=gpu", "PYTHON=python3.12")
    assert "'python3.12' -m scripts.install --build gpu" in lines
    assert "'python3' -m scripts.install --build auto" in dry_run("serve", BUILD="7")


def test_serve_builds_the_page_before_it_serves() -> None:
    lines = dry_run("serve", "PYTHON=python3.12")
    page = lines.index("'python3.12' -m scripts.build_web")
    assert lines.index("'python3.12' -m scripts.install --build auto") < page < len(lines) - 1
    assert "'python3' -m scripts.build_web" in dry_run("install")


def test_test_runs_everything_and_fast_leaves_out_the_real_engine() -> None:
    lines = dry_run("test")
    assert "'python3' -m scripts.install --build auto --dev --train" in lines
    assert "'python3' -m scripts.build_web --dev" in lines
    assert lines[-1].strip() == "exec .venv/bin/python -m pytest"
    assert dry_run("test", "FAST=1")[-1].strip() == "exec .venv/bin/python -m pytest -m 'not e2e'"


def test_check_runs_every_linter() -> None:
    lines = dry_run("check")
    for command in ("ruff check .", "ruff format --check .", "mypy", "lint-imports"):
        assert f".venv/bin/{command}" in lines


def test_make_alone_lists_the_targets() -> None:
    done = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    )
    for target in ("help", "install-train", "serve", "test", "check", "bench", "lock", "clean"):
        assert f"\n  {target:13} " in done.stdout


def test_a_python_that_is_not_there_is_named() -> None:
    done = subprocess.run(
        ["make", "install", "PYTHON=python3.999"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "python3.999 is not there" in done.stderr


def test_ci_runs_the_checks_and_every_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("exec make check test")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`make serve` with a stand-in for corral that writes down the signal which ends it."""
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "install.py").write_text("")
    (tmp_path / "scripts" / "build_web.py").write_text("")
    corral = tmp_path / ".venv" / "bin" / "corral"
    corral.parent.mkdir(parents=True)
    corral.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, signal, sys, time\n"
        "def end(number, frame):\n"
        "    pathlib.Path('ended').write_text(signal.Signals(number).name)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "pathlib.Path('started').touch()\n"
        "time.sleep(60)\n"
    )
    corral.chmod(0o755)
    make = subprocess.Popen(
        ["make", "serve"], cwd=tmp_path, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(tmp_path / "started")
    yield make
    with contextlib.suppress(ProcessLookupError):
        os.killpg(make.pid, signal.SIGKILL)
    make.wait()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.02)


def test_ctrl_c_ends_the_server(served: subprocess.Popen[bytes], tmp_path: Path) -> None:
    os.killpg(served.pid, signal.SIGINT)  # as a terminal does
    served.wait(20)
    wait_for(tmp_path / "ended")
    assert (tmp_path / "ended").read_text() == "SIGINT"


def test_sigterm_to_make_ends_the_server(served: subprocess.Popen[bytes], tmp_path: Path) -> None:
    served.terminate()
    served.wait(20)
    wait_for(tmp_path / "ended")
    assert (tmp_path / "ended").read_text() == "SIGTERM"
    with pytest.raises(ProcessLookupError):
        os.killpg(served.pid, 0)  # nobody is left in its process group
