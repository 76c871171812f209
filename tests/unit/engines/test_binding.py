"""Where workers are bound: on machines made of numbers, and really, on this one."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from server.engines import vllm_process
from server.engines.binding import Binding, bind_workers, written
from server.engines.hardware import Hardware, Node, cpu_numbers
from server.engines.spec import EngineSpec
from server.engines.threads import bind
from server.errors import EngineDied
from server.registry import EngineSettings, registry_schema

GIB = 1 << 30
LEFT, RIGHT = Node(0, (0, 1, 2, 3), 30 * GIB), Node(1, (4, 5, 6, 7), 32 * GIB)


def spec(**fields: Any) -> EngineSpec:
    return EngineSpec(
        name="m",
        model_dir=Path("/m"),
        max_model_len=1,
        weight_bytes=1,
        kv_bytes_per_token=1,
        **fields,
    )


def machine(*nodes: Node, memory: int = 60 * GIB) -> Hardware:
    cores = tuple(cpu for node in nodes for cpu in node.cpus)
    return Hardware(
        cpu_model="",
        cores=len(cores),
        isa=(),
        memory_total=memory,
        memory_available=memory,
        compiler=None,
        gpus=(),
        # Each core has a second hyper-thread.
        cpus=tuple(sorted([*cores, *(cpu + 8 for cpu in cores)])),
        nodes=nodes,
    )


TWO = machine(LEFT, RIGHT)
NEAREST = "the cores of one NUMA node: nearest to memory"


@pytest.mark.parametrize(
    ("hardware", "workers", "need", "expected"),
    [
        (
            machine(LEFT),
            1,
            1,
            Binding((), 60 * GIB, "one NUMA node: threads may leave a core that others take"),
        ),
        (TWO, 1, 31 * GIB, Binding((RIGHT.cpus,), 32 * GIB, NEAREST)),
        (TWO, 1, 33 * GIB, Binding((), 60 * GIB, "too large for one NUMA node")),
        (TWO, 2, GIB, Binding((RIGHT.cpus, LEFT.cpus), 30 * GIB, NEAREST)),
        (TWO, 2, 31 * GIB, Binding((), 30 * GIB, "too large for one NUMA node")),
        # A cgroup may leave less than a node has.
        (machine(LEFT, RIGHT, memory=GIB), 1, GIB, Binding((RIGHT.cpus,), GIB, NEAREST)),
    ],
)
def test_what_the_machine_suggests(
    hardware: Hardware, workers: int, need: int, expected: Binding
) -> None:
    assert bind_workers(spec(), hardware, workers, need) == expected


def test_a_node_with_more_cores_is_better() -> None:
    large = Node(2, (8, 9, 10, 11, 12), GIB)
    assert bind_workers(spec(), machine(LEFT, RIGHT, large), 1, GIB).cpus == (large.cpus,)


def test_workers_on_other_machines_are_not_bound() -> None:
    found = bind_workers(spec(executor="ray"), TWO, 2, GIB)
    assert (found.cpus, found.reason) == ((), "workers may be on other machines")


@pytest.mark.parametrize(
    ("said", "workers", "cpus", "memory", "shown"),
    [
        ("none", 1, (), 60 * GIB, "none"),
        ("cores", 1, (RIGHT.cpus,), 32 * GIB, "4-7"),
        ("cores", 2, (RIGHT.cpus, LEFT.cpus), 30 * GIB, "4-7 | 0-3"),
        ("cores", 3, ((4, 5), LEFT.cpus, (6, 7)), 16 * GIB, "4-5 | 0-3 | 6-7"),
        ("0-2,9", 1, ((0, 1, 2, 9),), 30 * GIB, "0-2,9"),
        ("0-2,9", 2, ((0, 1), (2, 9)), 15 * GIB, "0-1 | 2,9"),
        ("3-4", 1, ((3, 4),), 60 * GIB, "3-4"),
    ],
)
def test_what_the_registry_says(
    said: str, workers: int, cpus: tuple[tuple[int, ...], ...], memory: int, shown: str
) -> None:
    found = bind_workers(spec(binding=said), TWO, workers, 50 * GIB)
    assert (found.cpus, found.reason, str(found)) == (cpus, "registry", shown)
    assert found.memory == min(memory, 60 * GIB // workers)


@pytest.mark.parametrize(
    ("said", "workers", "message"),
    [
        (
            "6-9,16-17,99",
            1,
            "'m' is bound to CPUs 16-17,99, which this process may not use; it may use 0-15. "
            "Correct engine.binding in the registry, or leave it out.",
        ),
        (
            "3-1",
            1,
            "'m' is bound to CPUs 3-1, which this process may not use; it may use 0-15. "
            "Correct engine.binding in the registry, or leave it out.",
        ),
        (
            "5",
            2,
            "'m' has 2 workers for CPUs 5. Name more in engine.binding in the registry, or leave "
            "it out.",
        ),
    ],
)
def test_what_cannot_be_used(said: str, workers: int, message: str) -> None:
    with pytest.raises(EngineDied) as caught:
        bind_workers(spec(binding=said), TWO, workers, GIB)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["0", "0-3", "0-1,4,6-8", ""])
def test_lists_are_written_as_they_are_read(text: str) -> None:
    assert written(cpu_numbers(text)) == text


def test_threads_started_afterwards_stay_on_the_same_cpus() -> None:
    """In a thread, so that this process keeps its own CPUs."""
    allowed = sorted(os.sched_getaffinity(0))
    seen: list[set[int]] = []

    def work() -> None:
        bind([], 0)
        seen.append(os.sched_getaffinity(0))
        bind([[allowed[0]], [allowed[-1]]], 1)
        below = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        below.start()
        below.join()

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert seen == [{*allowed}, {allowed[-1]}]
    assert sorted(os.sched_getaffinity(0)) == allowed


def test_vllm_binds_nothing_itself() -> None:
    """Its "auto" refuses more workers than NUMA nodes, and pins every thread to one core."""
    assert vllm_process._ENVIRONMENT["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


@pytest.mark.parametrize("said", ["none", "cores", "0", "0-3", "0,2-3,11", 5])
def test_what_may_stand_in_the_registry(said: str | int) -> None:
    assert EngineSettings(binding=said).binding == str(said)  # type: ignore[arg-type]
    assert _in_schema(said)


@pytest.mark.parametrize("said", ["", "all", "0-", "a-b", "0..3", "99999", -1, True, 1.5])
def test_what_may_not(said: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        EngineSettings(binding=said)
    (error,) = caught.value.errors()
    assert error["msg"] == (
        f"Value error, must be none, cores or CPU numbers such as 0-3,8, not '{said}'"
    )
    assert not _in_schema(said)


def _in_schema(said: Any) -> bool:
    validator = jsonschema.Draft202012Validator(registry_schema())
    entry = {"id": "a", "source": {"hub": "o/n"}, "engine": {"binding": said}}
    return validator.is_valid({"models": [entry]})
