"""Code of a model is run, and kept in: each attack here is really tried."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from evaluation.items import CodeRule
from evaluation.sandbox import Limits, Sandbox, SandboxFailed, run_cases, same

SQUARE = CodeRule.model_validate({"function": "f", "cases": [{"args": [2], "returns": 4}]})
FAST = Limits(seconds=2.0, cpu_seconds=2)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    made = Sandbox(FAST)
    asyncio.run(made.prepare())
    if made.why_not:
        pytest.skip(made.why_not)
    return made


async def value(sandbox: Sandbox, body: str) -> object:
    """What ``f`` returns, or the text of its error."""
    ran = await sandbox.run(body, "f", [[2]])
    line = ran.lines[0]
    return line.get("value", line.get("error"))


async def test_right_and_wrong_code(sandbox: Sandbox) -> None:
    assert await run_cases(sandbox, "def f(x):\n    return x * x", SQUARE) == []
    assert await run_cases(sandbox, "def f(x):\n    return x + 3", SQUARE) == ["f(2) is 5, not 4"]
    wrong = await run_cases(sandbox, "def f(x):\n    return x / 0", SQUARE)
    assert wrong == ["f(2): ZeroDivisionError: division by zero"]
    assert await run_cases(sandbox, "def f(x:", SQUARE) == [
        "f(2): SyntaxError: '(' was never closed (<answer>, line 1)"
    ]


async def test_what_it_prints_is_no_result(sandbox: Sandbox) -> None:
    code = "def f(x):\n    print('{\"value\": 4}')\n    return 5"
    assert await run_cases(sandbox, code, SQUARE) == ["f(2) is 5, not 4"]
    assert (await sandbox.run(code, "f", [[2]])).output == '{"value": 4}\n'


async def test_leaving_early_is_no_success(sandbox: Sandbox) -> None:
    code = "import os\nos._exit(0)"
    assert await run_cases(sandbox, code, SQUARE) == ["its code ended early"]


async def test_the_expected_values_never_come_in(sandbox: Sandbox) -> None:
    # It finds its arguments in the frames above it, and nothing of what is expected.
    code = "import sys\ndef f(x):\n    return repr(sys._getframe(1).f_globals)"
    secret = CodeRule.model_validate(
        {"function": "f", "cases": [{"args": [2], "returns": "a secret"}]}
    )
    wrong = await run_cases(sandbox, code, secret)
    seen = await value(sandbox, code)
    assert isinstance(seen, str)
    assert "function" in seen
    assert "a secret" not in seen
    assert wrong[0].startswith("f(2) is ")


async def test_loops_end(sandbox: Sandbox) -> None:
    begun = time.monotonic()
    wrong = await run_cases(sandbox, "def f(x):\n    while True: pass", SQUARE)
    assert wrong == ["its code did not end in time"]
    assert time.monotonic() - begun < 15


async def test_the_processors_time_is_limited_too(sandbox: Sandbox) -> None:
    patient = Sandbox(Limits(seconds=20.0, cpu_seconds=1))
    begun = time.monotonic()
    wrong = await run_cases(patient, "def f(x):\n    while True: pass", SQUARE)
    assert wrong == ["its code did not end in time"]
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    "escape",
    [
        "import os, time\ndef f(x):\n    os.fork() or os.setsid()\n    time.sleep(9)",
        "import ctypes, time\ndef f(x):\n    ctypes.CDLL(None).prctl(1, 0)\n    time.sleep(9)",
        "import signal as s, time\ndef f(x):\n    s.signal(15, s.SIG_IGN)\n    time.sleep(60)",
    ],
    ids=["session", "death-signal", "ignored-signal"],
)
async def test_nothing_outlives_it(sandbox: Sandbox, escape: str) -> None:
    before = {process.pid for process in psutil.process_iter()}
    quick = Sandbox(Limits(seconds=0.7))
    assert await run_cases(quick, escape, SQUARE) == ["its code did not end in time"]
    left = [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.pid not in before
        and "-B" in (process.info["cmdline"] or ())
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
    assert left == []


async def test_fork_bombs_are_small(sandbox: Sandbox) -> None:
    code = (
        "import os, time\ndef f(x):\n    made = 0\n    try:\n        for _ in range(1000):\n"
        "            if os.fork() == 0:\n                time.sleep(60)\n            made += 1\n"
        "    except OSError:\n        return made\n    return made"
    )
    made = await value(sandbox, code)
    assert isinstance(made, int)
    assert made < FAST.processes


async def test_memory_is_bounded(sandbox: Sandbox) -> None:
    assert await value(sandbox, "def f(x):\n    return len(bytes(1 << 31))") == "MemoryError: "


async def test_the_disk_is_bounded(sandbox: Sandbox) -> None:
    code = "def f(x):\n    with open('/tmp/a', 'wb') as file:\n        file.write(bytes(1 << 26))"
    assert str(await value(sandbox, code)).startswith("OSError: [Errno 27] File too large")
    many = (
        "def f(x):\n    for n in range(9):\n"
        "        open(f'/tmp/{n}', 'wb').write(bytes(1 << 20) * 4)"
    )
    assert str(await value(sandbox, many)).startswith("OSError: [Errno 28] No space left")


async def test_files_of_the_machine_are_not_there(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    for path in (secret, "/etc/passwd", "/proc/1/environ", "/root/.bashrc", Path.home()):
        code = f"def f(x):\n    return open({str(path)!r}).read()"
        assert str(await value(sandbox, code)).startswith(
            ("FileNotFoundError", "PermissionError", "IsADirectoryError")
        )
    listed = await value(sandbox, "import os\ndef f(x):\n    return os.listdir('/tmp')")
    assert listed == []


async def test_what_is_there_cannot_be_written(sandbox: Sandbox) -> None:
    for path in ("/usr/x", "/x", "/dev/x"):
        code = f"def f(x):\n    open({path!r}, 'w')"
        assert str(await value(sandbox, code)).startswith(
            ("OSError: [Errno 30]", "PermissionError")
        )


async def test_there_is_no_network(sandbox: Sandbox) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        code = (
            "import socket\ndef f(x):\n"
            f"    return str(socket.create_connection(('127.0.0.1', {port}), 1))"
        )
        assert str(await value(sandbox, code)).startswith("OSError: [Errno 101]")
    names = "import socket\ndef f(x):\n    return socket.gethostbyname('example.com')"
    assert str(await value(sandbox, names)).startswith("gaierror")


async def test_it_is_nobody_and_sees_nobody(sandbox: Sandbox) -> None:
    code = "import os\ndef f(x):\n    return [os.getuid(), os.getgid(), os.getgroups()]"
    uid, gid, groups = await value(sandbox, code)  # type: ignore[misc]
    assert (uid, gid, [group for group in groups if group != 65534]) == (65534, 65534, [])
    kills = "import os\ndef f(x):\n    os.kill(-1, 9)"
    assert await value(sandbox, kills) == "ProcessLookupError: [Errno 3] No such process"


async def test_its_environment_is_empty(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    code = "import os\ndef f(x):\n    return sorted(os.environ)"
    assert await value(sandbox, code) == ["HOME", "LANG", "PYTHONUTF8"]


async def test_a_cancelled_run_leaves_nothing(sandbox: Sandbox) -> None:
    before = {process.pid for process in psutil.process_iter()}
    task = asyncio.create_task(run_cases(sandbox, "def f(x):\n    while True: pass", SQUARE))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    after = [p for p in psutil.process_iter() if p.pid not in before and p.ppid() == os.getpid()]
    assert [p for p in after if p.status() != psutil.STATUS_ZOMBIE] == []


async def test_where_no_namespace_can_be_made_nothing_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object) -> dict[str, str]:
        return {"why_not": "unshare: Operation not permitted"}

    monkeypatch.setattr(Sandbox, "_ask_warden", refuse)
    closed = Sandbox()
    await closed.prepare()
    assert closed.why_not == "no sandbox could be made (unshare: Operation not permitted)"
    with pytest.raises(SandboxFailed):
        await closed.run("def f(): pass", "f", [[]])


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, True),
        (True, 1, False),
        ([1, "a"], [1, "a"], True),
        ([1], [1, 2], False),
        ({"a": [1]}, {"a": [1]}, True),
        ("1", 1, False),
        (None, None, True),
        (float("nan"), 0, False),
    ],
)
def test_same(value: object, expected: object, equal: bool) -> None:
    assert same(value, expected) is equal
