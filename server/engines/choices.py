"""What every plan of an engine is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from server.engines.ledger import Need
from server.engines.lora_args import room_for
from server.engines.spec import EngineSpec
from server.errors import EngineDied

T = TypeVar("T")
StartMethod = Literal["forkserver", "fork", "spawn"]
FORKS = ("fork", "forkserver")
UNIPROC = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting: its name, its value as text, and why (``registry`` when the user said so)."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """Settings of one engine, decided.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: OpenMP threads of each worker (0 on a GPU: left to vLLM).
        compile: True when torch.compile is used.
        start_method: How the engine's process is made.
        engine_args: Keyword arguments for vLLM's ``AsyncEngineArgs``.
        choices: The same, for people.
        need: Bytes it takes: of the RAM on a CPU, of each of its GPUs on GPUs.
        kv_tokens: Tokens that its KV cache holds; None where that is vLLM's to decide.
        free: Bytes that could be taken when it was planned, of the RAM or of each of its GPUs.
        place: Where those are, in words.
        devices: The GPUs that it was planned for; None: not decided yet.
        visible: What the engine's process is to find in CUDA_VISIBLE_DEVICES; None: what is there.
    """

    device: str
    threads: int
    compile: bool
    start_method: str
    engine_args: Mapping[str, Any]
    choices: tuple[Choice, ...]
    need: Need
    kv_tokens: int | None
    free: int
    place: str
    devices: tuple[str, ...] | None = None
    visible: str | None = None


class Choices:
    """Collects the choices made."""

    def __init__(self) -> None:
        self.made: list[Choice] = []

    def choose(self, name: str, said: T | None, default: T, reason: str) -> T:
        """What the registry said, else ``default`` for ``reason``."""
        value = default if said is None else said
        self.made.append(Choice(name, str(value), reason if said is None else "registry"))
        return value

    def note_adapters(self, spec: EngineSpec) -> None:
        """Room for adapters, where there is to be some."""
        if spec.max_adapters:
            room = f"{spec.max_adapters} of rank {room_for(spec.max_adapter_rank)}"
            self.made.append(Choice("adapters", room, "room for so many at the same time"))


def start_method(spec: EngineSpec, compiled: bool) -> StartMethod | None:
    """What the registry says of it, unless it would turn compilation off without a word.

    Raises:
        EngineDied: A process that is forked, by the server or its helper, has torch as it was
            imported there: ``TORCH_COMPILE_DISABLE`` was read long ago.
    """
    if compiled and spec.start_method in FORKS:
        raise EngineDied(
            f"'{spec.name}' has compile: true and start_method: {spec.start_method} in its engine "
            "settings, and a forked process cannot compile. Leave start_method out of the "
            "registry or set it to spawn, or set compile: false."
        )
    return spec.start_method


def common_args(spec: EngineSpec) -> dict[str, Any]:
    """Arguments for vLLM that are the same on every device."""
    args: dict[str, Any] = {
        "model": str(spec.model_dir),
        "served_model_name": spec.name,
        "dtype": spec.dtype or "auto",
        "max_model_len": spec.max_model_len,
        "tensor_parallel_size": spec.tensor_parallel_size,
        "pipeline_parallel_size": spec.pipeline_parallel_size,
        "disable_log_stats": True,
        "shutdown_timeout": 0,
        # Requests of equal priority come in the order of their arrival, as without.
        "scheduling_policy": "priority",
    }
    if spec.embeds:
        args |= {"runner": "pooling", "convert": "embed"}
    # Whether an embedding model can share prefixes depends on how it pools, which vLLM knows.
    if spec.prefix_caching is not None or not spec.embeds:
        args["enable_prefix_caching"] = spec.prefix_caching is not False
    if spec.reasoning_parser is not None:
        # The engine must know where reasoning ends, because no constraint holds before.
        args["reasoning_parser"] = spec.reasoning_parser
    if spec.max_num_seqs is not None:
        args["max_num_seqs"] = spec.max_num_seqs
    if spec.max_num_batched_tokens is not None:
        args["max_num_batched_tokens"] = spec.max_num_batched_tokens
    if spec.quantization is not None:
        args["quantization"] = spec.quantization
    return args
