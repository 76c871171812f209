"""`make serve` in a clean clone, with a new environment and empty caches, to the first answer."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.errors import BenchError
from benchmarks.machine import GIB, ROOT
from benchmarks.options import Session, say
from benchmarks.report import Report
from benchmarks.sampling import sampled
from benchmarks.servers import Server, System, process_tree
from benchmarks.stream_client import ask
from server.registry import load_registry

_SAMPLE_S = 0.25
# make is a parent of the installer and of the server; nothing else of this process's environment
# may show the clone where packages or models are already.
_PASSED_OVER = (
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"),
    *("PIP_CACHE_DIR", "CORRAL_CACHE_DIR", "CORRAL_REGISTRY", "HF_HOME", "VLLM_CACHE_ROOT"),
)


@dataclass(slots=True)
class Peak:
    """Most memory a process tree held at once, in bytes.

    Args:
        rss: Resident memory summed over processes; pages that they share count in each.
        pss: The same with shared pages divided among their holders.
    """

    rss: int = 0
    pss: int = 0

    def sample(self, pid: int) -> None:
        """Look at the tree of `pid` now."""
        rss = pss = 0
        for process in process_tree(pid):
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                rss, pss = rss + memory.rss, pss + memory.pss
        self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)


@dataclass(frozen=True, slots=True)
class First:
    """What the first serve took (seconds from `make serve`, bytes)."""

    accepted_s: float
    first_token_s: float
    again_s: float
    peak: Peak
    disk: int
    text: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this measurement."""
    parser.add_argument(
        "--clone", type=Path, help="a clean clone without .venv [one is made of this checkout]"
    )
    parser.add_argument("--make-args", default="", help="further words for make, such as BUILD=cpu")


def measure(session: Session) -> Report:
    """Time and memory of the first `make serve`, and of the second one after it."""
    clone_path: Path | None = session.options.clone
    with TemporaryDirectory(prefix="corral-first-") as folder:
        clone = clone_path.resolve() if clone_path else _clone(Path(folder) / "corral")
        if (clone / ".venv").exists():
            raise BenchError("the clone has a .venv already: a first serve cannot be measured")
        first = _serve_twice(session, clone, Path(folder))
    rows = [
        ["what", "value"],
        ["`make serve` to the port answering", f"{first.accepted_s:.0f} s"],
        ["`make serve` to the first token", f"{first.first_token_s:.0f} s"],
        ["a second `make serve` to the first token", f"{first.again_s:.1f} s"],
        ["peak memory, sum of resident sets", f"{first.peak.rss / GIB:.2f} GiB"],
        ["peak memory, shared pages counted once", f"{first.peak.pss / GIB:.2f} GiB"],
        ["disk: environment, pip cache and model", f"{first.disk / GIB:.2f} GiB"],
        ["the answer", f'"{first.text.strip()}"'],
    ]
    missed = [] if "Paris" in first.text else [f"the answer was {first.text!r}, without Paris"]
    return Report(
        section="first-serve",
        title="First serve",
        table=rows,
        runs=[asdict(first)],
        notes=[
            "A clean clone, no `.venv`, empty caches of pip, Corral and vLLM (`XDG_CACHE_HOME`). "
            f"Memory is that of the whole process tree from make down, every {_SAMPLE_S} s."
        ],
        missed=missed,
    )


def _clone(target: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)
    say("cloned the last commit; changes that are not committed are not in it")
    return target


def _serve_twice(session: Session, clone: Path, folder: Path) -> First:
    system = _system(session, clone, folder)
    model = session.options.model or load_registry(clone / "model_registry.yaml").models[0].id
    peak = Peak()
    with (
        _serving(session, system) as server,
        sampled(lambda: peak.sample(server.front_pid), _SAMPLE_S),
    ):
        accepted_s, first_token_s, text = _ask(session, server, model)
    say(f"first token after {first_token_s:.0f} s: {text!r}")
    disk = _bytes_below(clone / ".venv") + _bytes_below(folder / "cache")
    with _serving(session, system) as server:
        _, again_s, _ = _ask(session, server, model)
    return First(accepted_s, first_token_s, again_s, peak, disk, text)


def _system(session: Session, clone: Path, folder: Path) -> System:
    # sh, because Server adds `--port N` to a command and make wants PORT=N.
    words = session.options.make_args
    script = f'exec make serve PORT="$2" {words}'
    # Under `env -u`, so that make decides everything by itself.
    unset = [word for name in _PASSED_OVER for word in ("-u", name)]
    return System(
        "make serve",
        ("env", *unset, "sh", "-c", script, "sh"),
        cwd=clone,
        environment={"XDG_CACHE_HOME": str(folder / "cache"), "PATH": _system_path()},
    )


def _system_path() -> str:
    """PATH without an activated environment's programs."""
    venv = os.environ.get("VIRTUAL_ENV")
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    kept = [part for part in parts if not (venv and part.startswith(venv))]
    return os.pathsep.join(kept)


def _serving(session: Session, system: System) -> Server:
    return Server(system, session.logs, session.options.port)


def _ask(session: Session, server: Server, model: str) -> tuple[float, float, str]:
    try:
        answer = ask(
            server.port,
            model,
            timeout_s=session.options.timeout,
            check_alive=server.check_alive,
        )
    except BenchError as error:
        raise server.error(f"gave no answer: {error}") from error
    start = server.started_at
    return answer.accepted_at - start, answer.first_token_at - start, answer.text


def _bytes_below(folder: Path) -> int:
    if not folder.exists() or shutil.which("du") is None:
        return 0
    done = subprocess.run(
        ["du", "-sk", str(folder)], capture_output=True, text=True, check=True, timeout=600
    )
    return int(done.stdout.split()[0]) * 1024
