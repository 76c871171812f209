"""When a changed file is acted upon, and what happens then."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from server.errors import Problem, RegistryError
from server.generation.herd import Changes
from server.generation.watch import FileWatch, reload_when_told
from tests.support.ranch import until

NOTHING = Changes((), (), ())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.yaml"
    path.write_text("one")
    return path


def looks(watch: FileWatch, times: int) -> list[bool]:
    return [watch.look() for _ in range(times)]


def test_it_acts_once_a_change_has_settled(path: Path) -> None:
    watch = FileWatch(path)
    # First on what is there: it may have changed since it was read.
    assert looks(watch, 4) == [False, True, False, False]
    path.write_text("two")
    assert looks(watch, 4) == [False, True, False, False]


def test_a_file_that_is_being_written_is_left_alone(path: Path) -> None:
    watch = FileWatch(path)
    looks(watch, 2)
    for part in range(1, 6):
        path.write_text("half a registry " * part)
        assert watch.look() is False
    assert looks(watch, 2) == [True, False]


def test_editors_that_replace_the_file(path: Path) -> None:
    watch = FileWatch(path)
    looks(watch, 2)
    path.rename(path.with_suffix(".bak"))
    assert looks(watch, 3) == [False] * 3, "it is away: nothing to read"
    path.with_suffix(".new").write_text("two")
    path.with_suffix(".new").rename(path)
    assert looks(watch, 3) == [False, True, False]


def test_a_link_that_leads_elsewhere(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("two")
    link = tmp_path / "link"
    link.symlink_to(path)
    watch = FileWatch(link)
    looks(watch, 2)
    link.unlink()
    link.symlink_to(tmp_path / "other")
    assert looks(watch, 3) == [False, True, False]


def test_saving_the_same_again_is_no_change(path: Path) -> None:
    watch = FileWatch(path)
    looks(watch, 2)
    path.write_text("one")
    os.utime(path)
    assert looks(watch, 3) == [False] * 3


def test_a_change_of_the_same_length_and_time(path: Path) -> None:
    watch = FileWatch(path)
    before = path.stat()
    looks(watch, 2)
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert looks(watch, 2) == [False, True]


def test_a_file_that_may_not_be_read_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = FileWatch(path)
    with monkeypatch.context() as patch:

        def refuse(_: Path) -> bytes:
            raise PermissionError(13, "Permission denied")

        patch.setattr(Path, "read_bytes", refuse)
        assert looks(watch, 3) == [False] * 3
    assert looks(watch, 2) == [True, False]


def save(path: Path, text: str) -> None:
    path.write_text(text)


class Reloads:
    """Counts, and fails as told."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None

    async def __call__(self) -> Changes:
        self.count += 1
        if self.error is not None:
            raise self.error
        return NOTHING


async def test_it_reloads_when_the_file_changes_and_when_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reloads, told = Reloads(), asyncio.Event()
    task = asyncio.create_task(reload_when_told(reloads, told, path, every=0.01))
    await until(lambda: reloads.count == 1)
    reloads.error = RegistryError([Problem("f:1", "models", "is required")])
    save(path, "two")
    await until(lambda: reloads.count == 2)
    reloads.error = ValueError("not foreseen")
    save(path, "three")
    await until(lambda: reloads.count == 3)
    reloads.error = None
    told.set()
    await until(lambda: reloads.count == 4)
    await asyncio.sleep(0.05)
    assert (reloads.count, told.is_set()) == (4, False)
    task.cancel()
    said = capsys.readouterr().out
    assert "the registry is not taken over, it has mistakes" in said
    assert "f:1: models: is required" in said
    assert "ValueError: not foreseen" in said
    assert "the registry was read again, and says nothing new" in said


async def test_without_a_watch_only_when_told(path: Path) -> None:
    reloads, told = Reloads(), asyncio.Event()
    task = asyncio.create_task(reload_when_told(reloads, told, None, every=0.01))
    save(path, "two")
    await asyncio.sleep(0.05)
    assert reloads.count == 0
    told.set()
    await until(lambda: reloads.count == 1)
    task.cancel()
