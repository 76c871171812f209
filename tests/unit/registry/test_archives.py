"""Archives of model folders, honest ones and those that would write elsewhere."""

from __future__ import annotations

import io
import shutil
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import SourceError
from server.registry import archives
from server.registry.archives import unpack_folder
from server.registry.cache import NoSpaceError

FILES = {"config.json": b"{}", "1_Pooling/config.json": b"[1]", "model.bin": bytes(3_000_000)}


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def packed(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return memory.getvalue()


def unpack(tmp_path: Path, content: bytes, progress: Any) -> Path:
    path = tmp_path / "model.zip"
    path.write_bytes(content)
    target = tmp_path / "cache" / "model"
    unpack_folder(path, target, progress)
    return target


def written(tmp_path: Path) -> list[str]:
    return [p.name for p in tmp_path.rglob("*") if p.is_file() and p.name != "model.zip"]


def test_a_folder_comes_out_as_it_went_in(tmp_path: Path, recorder: Any) -> None:
    content = packed(("1_Pooling/", b""), *((entry(n), c) for n, c in FILES.items()))
    target = unpack(tmp_path, content, recorder)
    files = {p.relative_to(target).as_posix(): p for p in target.rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()} == FILES
    assert recorder.stages == [("unpack model.zip", 3_000_005, "B")]
    assert recorder.done == [3_000_005]
    # Nothing of an archive is made executable.
    assert {path.stat().st_mode & 0o111 for path in files.values()} == {0}


OUTSIDE = "would lie outside of the model's folder"
SPECIAL = "is a link or a special file"


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (entry("../evil"), OUTSIDE),
        (entry("a/../../evil"), OUTSIDE),
        (entry("/etc/evil"), OUTSIDE),
        (entry("C:/evil"), OUTSIDE),
        (entry("..\\evil"), OUTSIDE),
        (entry("../", stat.S_IFDIR | 0o755), OUTSIDE),
        (entry("."), OUTSIDE),
        (entry("link", stat.S_IFLNK | 0o777), SPECIAL),
        (entry("pipe", stat.S_IFIFO | 0o644), SPECIAL),
        (entry("disk", stat.S_IFBLK | 0o644), SPECIAL),
        (entry("./config.json"), "stands there twice"),
    ],
    ids=lambda value: value.filename if isinstance(value, zipfile.ZipInfo) else "",
)
def test_what_is_no_plain_file_refuses_the_archive(
    tmp_path: Path, recorder: Any, member: zipfile.ZipInfo, why: str
) -> None:
    content = packed((entry("config.json"), b"{}"), (member, b"/etc/passwd"))
    with pytest.raises(SourceError) as caught:
        unpack(tmp_path, content, recorder)
    assert str(caught.value) == (
        f"model.zip is not unpacked: {member.filename!r} in it {why}. Only plain files and "
        "folders are taken."
    )
    assert written(tmp_path) == []


def test_an_encrypted_file_refuses_the_archive(tmp_path: Path, recorder: Any) -> None:
    content = bytearray(packed((entry("config.json"), b"{}")))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(SourceError, match=r"'config\.json' in it is encrypted"):
        unpack(tmp_path, bytes(content), recorder)


def test_damaged_archives(tmp_path: Path, recorder: Any) -> None:
    content = packed((entry("config.json"), bytes(range(256)) * 500))
    flipped = bytearray(content)
    flipped[200] ^= 0xFF
    for wrong in (b"", b"PK", content[:-30], bytes(flipped)):
        with pytest.raises(SourceError, match=r"^model\.zip is damaged: .*\. Try again\.$"):
            unpack(tmp_path, wrong, recorder)


def test_a_file_that_is_longer_than_it_declares_is_cut_off(tmp_path: Path, recorder: Any) -> None:
    content = bytearray(packed((entry("config.json"), bytes(100_000))))
    # Its length in the table at the end, which is what readers believe.
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(SourceError):
        unpack(tmp_path, bytes(content), recorder)
    (left,) = (tmp_path / "cache" / "model").iterdir()
    assert left.stat().st_size <= 10


def test_the_disk_is_asked_before_the_first_byte(
    tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=99))
    with pytest.raises(NoSpaceError) as caught:
        unpack(tmp_path, packed((entry("model.bin"), bytes(100))), recorder)
    assert (caught.value.needed, caught.value.free) == (100, 99)
    assert written(tmp_path) == []


def test_an_archive_of_very_many_files_is_refused(
    tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST_FILES", 3)
    content = packed(*((entry(f"{number}.json"), b"") for number in range(4)))
    with pytest.raises(SourceError, match=r"model\.zip holds 4 files; no model has so many"):
        unpack(tmp_path, content, recorder)
