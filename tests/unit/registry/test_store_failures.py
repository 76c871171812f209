"""``ModelStore``: a failure leaves nothing behind and says what to do.

The GGUF converter is replaced by one that copies a tiny model; ``test_convert`` has the real one.
"""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from server.errors import SourceError
from server.registry import DirectorySource, HubSource, ModelStore, sources
from tests.unit.registry.support_store import leftovers

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space"),
            "Not enough disk space in {root} for {source}. Free some, or ",
        ),
        (OSError(errno.EROFS, "Read-only"), "is on a read-only file system, so {source} cannot"),
        (OSError(errno.EIO, "I/O error"), "Preparing {source} in "),
        (PermissionError(errno.EACCES, "No"), "No permission to use "),
        (SourceError("its own words"), "its own words"),
    ],
)
def test_a_failure_leaves_nothing(
    gguf: DirectorySource,
    store: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    message: str,
) -> None:
    def fail(_source: Path, target: Path, *_rest: Any) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise failure

    monkeypatch.setattr(sources, "convert_gguf", fail)
    with pytest.raises(SourceError) as caught:
        store.prepare(gguf)
    assert message.format(source=gguf, root=store.cache_dir / "models") in str(caught.value)
    assert store.path_if_ready(gguf) is None
    assert leftovers(store) == []
    assert not (store.cache_dir / "models" / gguf.key).exists()


def test_a_result_that_cannot_be_served_is_not_kept(
    gguf: DirectorySource, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "convert_gguf", lambda _source, target, *_rest: target.mkdir())
    with pytest.raises(SourceError, match=r"cannot be served: .*config\.json does not exist"):
        store.prepare(gguf)
    assert store.path_if_ready(gguf) is None


def test_too_little_space_is_seen_beforehand(
    hub: Any, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 10**9, 1000))
    with pytest.raises(SourceError) as caught:
        store.prepare(HubSource(hub="org/tiny"))
    needed = sum(map(len, hub.repos["org/tiny"].values()))
    assert str(caught.value) == (
        f"Not enough disk space in {store.cache_dir / 'models'} for org/tiny (main). It needs "
        f"{needed / 1000:.1f} kB ({needed} bytes); 1.0 kB are free. Free some, or point "
        "CORRAL_CACHE_DIR at a larger disk."
    )
    assert hub.downloads == []
