"""pip, quietly: a counter or pip's own bars on a terminal, and an error that says what to do.

Run by the machine's own python3 like install.py: standard library only, no new syntax.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


class SetupError(Exception):
    """Something the person at the terminal can mend; the text says how."""


def explain(log: str) -> str:
    """What went wrong, in a line that says what to do where that is known."""
    known = {
        r"No space left on device|Disk quota exceeded": "the disk is full. Free some room"
        " (pip unpacks under TMPDIR, or /tmp) and run the command again.",
        r"ensurepip is not available": "Python's venv module is missing."
        " Run: apt-get install python3-venv",
        r"CERTIFICATE_VERIFY_FAILED": "the package index shows a certificate that this machine"
        " does not trust. Run: apt-get install ca-certificates, or set PIP_CERT.",
        r"NewConnectionError|NameResolutionError|name resolution|Network is unreachable|"
        r"ProxyError|Timeout|Connection (refused|reset|broken)|RemoteDisconnected": "the package"
        " index did not answer. Check the network (and HTTPS_PROXY), then run the command again:"
        " what was downloaded is kept.",
    }
    tail = "\n".join(log.strip().splitlines()[-8:])
    for pattern, advice in known.items():
        if re.search(pattern, log):
            return f"{advice}\n{tail}"
    return f"pip failed:\n{tail}"


def show(line: str, seen: list[str], total: int) -> None:
    """One line on the terminal, rewritten for each package that pip turns to."""
    new = "Collecting|Processing|Requirement already satisfied:"
    what = re.match(rf"\s*(?:{new}|Downloading|Using cached|Installing) (\S+)(.*)", line)
    if not what:
        return
    name = what.group(1)
    if re.match(new, line):
        seen.append(name)
    if line.startswith("Installing"):
        name = f"unpacking {len(seen)} packages"
    size = re.search(r"\([\d.]+ [kM]B\)", what.group(2))
    text = f"  [{len(seen)}/{total}] {name} {size.group(0) if size else ''}"
    print(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)


def pip(venv: Path, *arguments: str, total: int = 0) -> None:
    """Run the pip of an environment, see `pip_of`."""
    pip_of(venv / "bin" / "python", *arguments, total=total)


def pip_of(python: Path, *arguments: str, total: int = 0) -> None:
    """Run pip install; on a terminal with its own progress bars, or with a counter for `total`."""
    command = [str(python), "-Im", "pip", "install"]
    command += ["--disable-pip-version-check", "--no-input", "--no-deps", *arguments]
    terminal = sys.stdout.isatty()
    with tempfile.TemporaryFile("w+") as errors:
        stream = None if terminal and not total else subprocess.PIPE
        child = subprocess.Popen(command, stdout=stream, stderr=errors, text=True)
        seen: list[str] = []
        for line in child.stdout or []:
            if terminal:
                show(line, seen, total)
        print("\r\033[K" if seen else "", end="", flush=True)
        if child.wait() != 0:
            errors.seek(0)
            raise SetupError(explain(errors.read()))
