"""Which CPUs each worker of a CPU engine may run on.

vLLM's CPU worker keeps all its memory on one NUMA node, that of the first CPU it may use
(``init_cpu_memory_env`` in vllm/v1/worker/cpu_worker.py), and threads on another node read every
weight over the link between the sockets. So where there are several nodes and one has room for a
worker, the worker is bound to that node's cores. On a machine of one node binding gains nothing:
threads must be free to move off a core, or a hyper-thread, that another process takes.

A binding is a mask, set before vLLM looks at the CPUs (`threads.bind`); within it the scheduler
moves threads as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.engines.hardware import Hardware, Node, cpu_numbers
from server.engines.spec import EngineSpec
from server.errors import EngineDied


@dataclass(frozen=True, slots=True)
class Binding:
    """Where an engine's workers run.

    Args:
        cpus: The CPUs of each worker; empty: wherever the scheduler puts them.
        memory: Bytes that each worker can take now.
        reason: Why; ``registry`` when the user said so.
    """

    cpus: tuple[tuple[int, ...], ...]
    memory: int
    reason: str

    def __str__(self) -> str:
        return " | ".join(map(written, self.cpus)) or "none"


def bind_workers(spec: EngineSpec, hardware: Hardware, workers: int, need: int) -> Binding:
    """Decide it.

    Args:
        workers: Processes that share the model.
        need: Bytes that each of them takes at the least.

    Raises:
        EngineDied: The registry names CPUs that cannot be used, or too few.
    """
    share = hardware.memory_available // workers
    if spec.binding == "none":
        return Binding((), share, "registry")
    if spec.binding == "cores":
        return _to_nodes(spec, hardware.nodes, workers, share, "registry")
    if spec.binding is not None:
        return _to_list(spec, spec.binding, hardware, workers)
    if spec.executor == "ray":
        return Binding((), share, "workers may be on other machines")
    if len(hardware.nodes) < 2:
        return Binding((), share, "one NUMA node: threads may leave a core that others take")
    roomy = [node for node in hardware.nodes if node.memory_available >= need]
    if len(roomy) < workers:
        return Binding((), share, "too large for one NUMA node")
    return _to_nodes(spec, roomy, workers, share, "the cores of one NUMA node: nearest to memory")


def _to_nodes(
    spec: EngineSpec, nodes: Sequence[Node], workers: int, share: int, reason: str
) -> Binding:
    """A node for each worker, the best ones first; too few nodes are divided among them."""
    best = sorted(nodes, key=lambda node: (len(node.cpus), node.memory_available), reverse=True)
    chosen = best[:workers]
    cpus: list[tuple[int, ...]] = []
    for number in range(workers):
        node = chosen[number % len(chosen)]
        tenants = len(range(number % len(chosen), workers, len(chosen)))
        cpus.append(_share(spec, node.cpus, number // len(chosen), tenants))
        share = min(share, node.memory_available // tenants)
    return Binding(tuple(cpus), share, reason)


def _to_list(spec: EngineSpec, said: str, hardware: Hardware, workers: int) -> Binding:
    cpus = cpu_numbers(said)
    barred = set(cpus) - set(hardware.cpus)
    if barred or not cpus:
        raise EngineDied(
            f"'{spec.name}' is bound to CPUs {written(barred) or said}, which this process may not "
            f"use; it may use {written(hardware.cpus)}. Correct engine.binding in the registry, or "
            "leave it out."
        )
    memory = hardware.memory_available
    beside = [node.memory_available for node in hardware.nodes if {*node.cpus} & {*cpus}]
    memory = min(memory, sum(beside)) if beside else memory
    pieces = tuple(_share(spec, cpus, number, workers) for number in range(workers))
    return Binding(pieces, memory // workers, "registry")


def _share(spec: EngineSpec, cpus: tuple[int, ...], number: int, count: int) -> tuple[int, ...]:
    """Piece ``number`` of ``count`` equal ones, neighbours together."""
    if len(cpus) < count:
        raise EngineDied(
            f"'{spec.name}' has {count} workers for CPUs {written(cpus)}. Name more in "
            "engine.binding in the registry, or leave it out."
        )
    return cpus[number * len(cpus) // count : (number + 1) * len(cpus) // count]


def written(cpus: Iterable[int]) -> str:
    """As the kernel writes such lists: ``0-2,5``."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)
