"""The real hub client against a hub of our own, interruptions and refusals included."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from server.errors import SourceError
from server.registry import HubSource, ModelStore, fetch_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(__file__).parents[3]
TINY = HubSource(hub="org/tiny")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "cache")


def test_a_repository_is_fetched_once(hub: Any, store: ModelStore, recorder: Any) -> None:
    path = store.prepare(TINY, recorder)
    files = hub.repos["org/tiny"]
    assert {name: (path / name).read_bytes() for name in files} == files
    manifest = json.loads((path / "corral-manifest.json").read_text())
    assert manifest["resolved"] == {"commit": COMMIT}
    assert sorted(manifest["files"]) == sorted(files)
    assert store.check(TINY) == []
    title = "download org/tiny"
    assert recorder.stages[0] == (title, sum(map(len, files.values())), "B")
    assert recorder.done[0] == recorder.stages[0][1]
    downloads = len(hub.downloads)
    hub.close()  # from here on there is no hub: the cached copy is used
    assert store.prepare(TINY) == path
    assert len(hub.downloads) == downloads


def test_only_what_serving_needs_is_fetched(hub: Any, store: ModelStore) -> None:
    hub.repos["org/tiny"] |= dict.fromkeys(
        (
            "pytorch_model.bin",
            "original/consolidated.00.pth",
            "consolidated.safetensors",
            "onnx/config.json",
            "README.md",
            "picture.png",
            "code.py",
        ),
        b"x",
    )
    hub.repos["org/tiny"] |= {"tokenizer.model": b"x", "chat_template.jinja": b"x"}
    path = store.prepare(TINY)
    assert sorted(p.name for p in path.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "corral-manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer.model",
    ]


def test_how_an_embedding_model_pools_is_fetched_too(hub: Any, store: ModelStore) -> None:
    hub.lfs.add("2_Dense/model.safetensors")
    wanted = {
        "modules.json": b"[]",
        "1_Pooling/config.json": b"{}",
        "2_Dense/config.json": b"{}",
        "2_Dense/model.safetensors": b"layer",
    }
    hub.repos["org/tiny"] |= wanted | {"onnx/model.bin": b"x", "1_Pooling/README.md": b"x"}
    path = store.prepare(TINY)
    assert {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} == {
        *wanted,
        *("config.json", "model.safetensors", "tokenizer.json", "corral-manifest.json"),
    }
    assert store.check(TINY) == []
    store.remove(TINY)
    hub.broken_sums.add("2_Dense/model.safetensors")
    with pytest.raises(SourceError, match=r"2_Dense/model\.safetensors .* arrived damaged"):
        store.prepare(TINY)


def test_pickles_are_taken_where_there_is_nothing_better(hub: Any, store: ModelStore) -> None:
    del hub.repos["org/tiny"]["model.safetensors"]
    hub.repos["org/tiny"]["pytorch_model.bin"] = b"pickle"
    assert (store.prepare(TINY) / "pytorch_model.bin").read_bytes() == b"pickle"


def test_the_token_goes_along(hub: Any, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    store.prepare(TINY)
    assert set(hub.tokens) == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (
            403,
            "GatedRepo",
            (
                "org/tiny is gated: accept its licence at {url}/org/tiny, then set HF_TOKEN to a "
                "token of the account that did."
            ),
        ),
        (
            401,
            "RepoNotFound",
            (
                "org/tiny was not found on the hub. Check its name; if it is private, set HF_TOKEN "
                "to a token that may read it."
            ),
        ),
        (404, "RevisionNotFound", "org/tiny has no revision 'main'."),
        (
            403,
            "",
            (
                "The hub refuses access to org/tiny (403). Accept its licence on its page if it "
                "has one, and set HF_TOKEN to a token that may read it."
            ),
        ),
        (418, "", "The hub answered 418 for org/tiny. Try again later."),
    ],
)
def test_refusals(hub: Any, store: ModelStore, status: int, code: str, message: str) -> None:
    hub.refusals["org/tiny"] = (status, code)
    with pytest.raises(SourceError) as caught:
        store.prepare(TINY)
    assert str(caught.value).startswith(message.format(url=hub.url))
    assert store.path_if_ready(TINY) is None


def test_a_listing_that_is_open_and_files_that_are_gated(hub: Any, store: ModelStore) -> None:
    hub.files_are_gated = True
    with pytest.raises(SourceError, match="org/tiny is gated: accept its licence"):
        store.prepare(TINY)
    assert store.path_if_ready(TINY) is None


def test_no_network(hub: Any, store: ModelStore) -> None:
    hub.close()
    with pytest.raises(SourceError) as caught:
        store.prepare(TINY)
    message = str(caught.value)
    assert message.startswith(f"org/tiny is not in the cache, and {hub.url} cannot be reached (")
    assert "Check the network, or use a directory or package source." in message


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["config.json", "README.md"], "org/tiny holds no safetensors weights at its top."),
        (
            ["config.json", "model.Q4_1.gguf"],
            (
                "org/tiny holds no safetensors weights at its top. It has GGUF files; download one "
                "into a folder and use a directory source."
            ),
        ),
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            "org/tiny holds no config.json, so it is no whole model. It is an adapter: "
            "give it an entry with 'base' and 'adapter' instead of 'source'.",
        ),
    ],
)
def test_repositories_that_are_no_model(
    hub: Any, store: ModelStore, files: list[str], message: str
) -> None:
    hub.repos["org/tiny"] = dict.fromkeys(files, b"{}")
    with pytest.raises(SourceError) as caught:
        store.prepare(TINY)
    assert str(caught.value) == message


def test_weights_that_differ_from_their_checksum_are_refused(hub: Any, store: ModelStore) -> None:
    hub.broken_sums.add("model.safetensors")
    with pytest.raises(SourceError, match=r"model\.safetensors of org/tiny arrived damaged"):
        store.prepare(TINY)
    hub.broken_sums.clear()
    store.prepare(TINY)
    assert store.check(TINY) == []


def test_a_full_disk_is_the_disks_error(
    hub: Any, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(SourceError, match=r"Not enough disk space in .* for org/tiny"):
        store.prepare(TINY)


def test_mistakes_of_our_own_are_not_dressed_up(
    hub: Any, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    with pytest.raises(ZeroDivisionError):
        store.prepare(TINY)


def test_names_are_no_patterns() -> None:
    assert fetch_hub._literal("a[1]*.json") == "a[[]1][*].json"


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from server.registry import HubSource, ModelStore
print(ModelStore(Path(sys.argv[2])).prepare(HubSource(hub="org/tiny")))
"""


def test_a_killed_download_is_no_model_and_keeps_its_whole_files(
    hub: Any, store: ModelStore
) -> None:
    header = b'{"w":{"dtype":"U8","shape":[9000000],"data_offsets":[0,9000000]}}'
    content = len(header).to_bytes(8, "little") + header + bytes(9_000_000)
    hub.repos["org/tiny"]["model.safetensors"] = content
    hub.stall_at["model.safetensors"] = 8_000_000
    arguments = [str(ROOT), str(store.cache_dir)]
    process = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE)
    download = store.cache_dir / "models" / f".download-{TINY.key}"
    assert hub.stalled.wait(60)
    deadline = time.monotonic() + 30
    while not all((download / name).exists() for name in ("config.json", "tokenizer.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert list(download.rglob("*.incomplete"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert store.path_if_ready(TINY) is None
    assert store.check(TINY) == ["org/tiny (main) has not been fetched"]
    hub.release.set()
    hub.downloads.clear()
    path = store.prepare(TINY)
    assert (path / "model.safetensors").read_bytes() == content
    assert store.check(TINY) == []
    assert [name for name, _ in hub.downloads] == ["model.safetensors"]
    assert not download.exists()
    assert not list(path.rglob("*.incomplete"))
