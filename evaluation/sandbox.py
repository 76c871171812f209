"""Runs code that a model wrote, as far from this machine as an ordinary user can put it.

Namespaces of Linux give the code no network, no processes but its own, and a root that holds the
system's programs to be read and an empty ``/tmp``; limits bound its time, memory, processes and
files. `sandbox_cell` is the program that does it. What that does not keep in: docs/evaluation.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.items import CodeRule

_HERE = Path(__file__).parent
_GUEST = (_HERE / "sandbox_guest.py").read_text("utf-8")
# How long a namespace may take to make, on a busy machine, beyond the guest's own time.
_GRACE_S = 20.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the code may use.

    Args:
        seconds: By the clock.
        cpu_seconds: Of processor time, each process.
        memory_bytes: Address space of each process.
        processes: Most at the same time, threads included.
        disk_bytes: In its ``/tmp``.
    """

    seconds: float = 10.0
    cpu_seconds: int = 5
    memory_bytes: int = 512 << 20
    processes: int = 8
    disk_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of it.

    Args:
        lines: What the guest wrote for each call, as JSON.
        output: The beginning of what the code printed.
        status: Exit code, negative for a signal.
    """

    lines: tuple[Any, ...]
    output: str
    timed_out: bool
    status: int


class SandboxFailed(Exception):
    """This machine lets no such namespaces be made."""


@dataclass(slots=True)
class Sandbox:
    """Where code runs.

    Args:
        limits: Of every run.
        why_not: Set where nothing may be run; `prepare` finds out.
    """

    limits: Limits = Limits()
    why_not: str | None = None

    async def prepare(self) -> None:
        """Try whether code can be run here; sets ``why_not`` if not."""
        probe = CodeRule.model_validate({"function": "f", "cases": [{"args": [], "returns": 1}]})
        try:
            wrong = await run_cases(self, "def f():\n    return 1", probe)
        except SandboxFailed as error:
            self.why_not = f"no sandbox could be made ({error})"
            return
        if wrong:
            self.why_not = f"the sandbox does not work ({wrong[0]})"

    async def run(self, code: str, function: str, cases: list[list[Any]]) -> Ran:
        """Call a function of the code with each list of arguments.

        Raises:
            SandboxFailed: It could not be run at all.
        """
        with tempfile.TemporaryDirectory(prefix="corral-sandbox-") as root:
            request = {
                "root": root,
                "guest": _GUEST,
                "payload": {"code": code, "function": function, "cases": cases},
                "seconds": self.limits.seconds,
                "cpu_seconds": self.limits.cpu_seconds,
                "memory_bytes": self.limits.memory_bytes,
                "processes": self.limits.processes,
                "disk_bytes": self.limits.disk_bytes,
            }
            report = await self._ask_warden(json.dumps(request).encode() + b"\n")
        if why_not := report.get("why_not"):
            raise SandboxFailed(why_not)
        return Ran(
            lines=tuple(_lines(report["results"])),
            output=report["output"],
            timed_out=report["timed_out"],
            status=report["status"],
        )

    async def _ask_warden(self, request: bytes) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(_HERE / "sandbox_cell.py"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request)
            await process.stdin.drain()
            # Its stdin stays open: the warden ends with us.
            async with asyncio.timeout(self.limits.seconds + _GRACE_S):
                said = await process.stdout.read()
            report: dict[str, Any] = json.loads(said)
        except (OSError, ValueError, TimeoutError) as error:
            raise SandboxFailed(f"its program failed: {error!r}") from None
        finally:
            # The warden kills its guest and ends; a kill of ours would race with its own end.
            process.stdin.close()
            await process.wait()
        return report


async def run_cases(sandbox: Sandbox, code: str, rule: CodeRule) -> list[str]:
    """What is wrong with code: [] if its function returns what it should for every case.

    Raises:
        SandboxFailed: It could not be run at all.
    """
    ran = await sandbox.run(code, rule.function, [case.args for case in rule.cases])
    if not ran.lines or len(ran.lines) < len(rule.cases):
        error = ran.lines[0].get("error") if ran.lines and "error" in ran.lines[0] else None
        return [error or _why_ended(ran)]
    wrong = []
    for case, line in zip(rule.cases, ran.lines, strict=False):
        call = f"{rule.function}({', '.join(map(repr, case.args))})"
        if "value" not in line:
            wrong.append(f"{call}: {line.get('error', 'nothing')}")
        elif not same(line["value"], case.returns):
            wrong.append(f"{call} is {line['value']!r}, not {case.returns!r}"[:300])
    return wrong


def _why_ended(ran: Ran) -> str:
    if ran.timed_out:
        return "its code did not end in time"
    if ran.status:
        return (
            f"its code was ended by signal {-ran.status}" if ran.status < 0 else "its code failed"
        )
    return "its code ended early"


def _lines(text: str) -> list[Any]:
    lines = []
    for line in text.splitlines():
        # Whatever the code wrote between them, or a line that was cut off.
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(value := json.loads(line), dict):
                lines.append(value)
    return lines


def same(value: Any, expected: Any) -> bool:
    """Equal as JSON is; numbers within rounding, and True is not 1."""
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, int | float) and isinstance(expected, int | float):
        return value == expected or math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same(value[k], expected[k]) for k in value)
    return type(value) is type(expected) and bool(value == expected)
