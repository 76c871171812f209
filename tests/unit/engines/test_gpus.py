"""What ``nvidia-smi`` prints and ``CUDA_VISIBLE_DEVICES`` says, turned into GPUs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from server.engines import gpus
from server.engines.gpus import Found, Gpu, find, users, visible

GIB = 1 << 30
SYSTEM = (128 * GIB, 100 * GIB)
UUIDS = ("GPU-5d5ba0d6-d33d", "GPU-77aa0000-1111", "GPU-9c000000-2222")
QUERY = "\n".join(f"{n}, {uuid}, NVIDIA H100, 81559, 81000" for n, uuid in enumerate(UUIDS))
# As `nvidia-smi -L` prints it where the first GPU is divided.
PARTS = f"""\
GPU 0: NVIDIA H100 (UUID: {UUIDS[0]})
  MIG 1g.10gb     Device  0: (UUID: MIG-c6d4f1ef-42e4)
  MIG 3g.40gb     Device  1: (UUID: MIG-cba663e8-9bed)
GPU 1: NVIDIA H100 (UUID: {UUIDS[1]})
  MIG 2g.20gb     Device  0: (UUID: MIG-00000000-0000)"""


@pytest.fixture(autouse=True)
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a nvidia-smi of our own, and no other."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "nvidia-smi"


def answer(smi: Path, query: str = QUERY, parts: str = PARTS) -> None:
    """Have it print the GPUs, or their parts with ``-L``."""
    smi.write_text(f"#!/bin/sh\nif [ \"$1\" = -L ]; then echo '{parts}'; else echo '{query}'; fi\n")
    smi.chmod(0o755)


def whole(index: int) -> Gpu:
    return Gpu(index, "NVIDIA H100", 81559 << 20, 81000 << 20, UUIDS[index])


def test_all_of_them(smi: Path) -> None:
    answer(smi)
    assert find(*SYSTEM) == Found((whole(0), whole(1), whole(2)))


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        ("0,1,2", [0, 1, 2]),
        ("2", [2]),
        (" 2 , 0 ", [2, 0]),
        (UUIDS[1], [1]),
        ("GPU-77aa,GPU-5d", [1, 0]),
        # CUDA stops at the first name that is no GPU's.
        ("1,7,0", [1]),
        ("1,-1,0", [1]),
        ("0,,1", [0]),
        ("GPU-none", []),
        ("NoDevFiles", []),
        ("-1", []),
        ("", []),
    ],
)
def test_those_that_may_be_used(
    wanted: str, indexes: list[int], smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(smi)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    found = find(*SYSTEM)
    assert [replace(gpu, called="") for gpu in found.gpus] == [*map(whole, indexes)]
    names = [name.strip() for name in wanted.split(",")]
    # A process that is to see some of them gets the user's own words.
    assert [visible([gpu]) for gpu in found.gpus] == names[: len(indexes)]
    assert found.none == ("" if indexes else f"CUDA_VISIBLE_DEVICES={wanted!r} shows none")


@pytest.mark.parametrize("wanted", ["MIG-cba663e8-9bed", "MIG-cba663", "MIG-cba663e8-9bed,MIG-no"])
def test_a_part_of_one(wanted: str, smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(smi)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    name = wanted.split(",", maxsplit=1)[0]
    part = Gpu(0, "NVIDIA H100 MIG 3g.40gb", 40 * GIB, 40 * GIB, "MIG-cba663e8-9bed", called=name)
    assert find(*SYSTEM).gpus == (part,)
    assert visible([part]) == name


def test_gpus_are_called_by_their_numbers_where_nobody_calls_them() -> None:
    assert visible([whole(2), whole(0)]) == "2,0"


def test_who_uses_a_gpu(smi: Path) -> None:
    lines = [f"{UUIDS[1]}, 17, 500", f"{UUIDS[0]}, 18, 600", f"{UUIDS[1]}, 19, [N/A]", "", "x"]
    answer(smi, "\n".join([*lines, f"{UUIDS[1]}, 20, 1"]))
    assert users(whole(1)) == [(17, 500 << 20), (20, 1 << 20)]
    assert users(whole(2)) == []


@pytest.mark.parametrize("memory", ["[N/A], [N/A]", "[Not Supported], [Not Supported]", "131072, "])
def test_memory_that_is_the_systems(memory: str, smi: Path) -> None:
    answer(smi, f"0, GPU-1, NVIDIA GB10, {memory}")
    assert find(*SYSTEM).gpus == (Gpu(0, "NVIDIA GB10", *SYSTEM, "GPU-1", unified=True),)


def test_a_name_with_a_comma(smi: Path) -> None:
    answer(smi, "0, GPU-1, NVIDIA X, rev. 2, 1, 1")
    assert [gpu.name for gpu in find(*SYSTEM).gpus] == ["NVIDIA X, rev. 2"]


def test_no_driver() -> None:
    assert find(*SYSTEM) == Found((), "nvidia-smi is not there")


def test_a_driver_that_answers_later(smi: Path) -> None:
    smi.write_text("#!/bin/sh\nexit 9\n")
    smi.chmod(0o755)
    assert find(*SYSTEM) == Found((), "nvidia-smi does not answer")
    answer(smi, "No devices were found")
    assert find(*SYSTEM).gpus == ()
    answer(smi)
    assert len(find(*SYSTEM).gpus) == 3, "a failure is not remembered"


def test_a_driver_that_hangs(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus._TIMEOUT_S == 10
    monkeypatch.setattr(gpus, "_TIMEOUT_S", 0.2)
    sleep = shutil.which("sleep", path="/usr/bin:/bin")
    smi.write_text(f"#!/bin/sh\nexec {sleep} 5\n")
    smi.chmod(0o755)
    assert find(*SYSTEM).none == "nvidia-smi does not answer"
