"""What vLLM is told of adapters, what they take, and what a plan makes of it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from server.engines import vllm_adapters
from server.engines.hardware import Gpu, Hardware, Node
from server.engines.lora_args import RANKS, adapter_bytes, adapters_bytes, lora_args, room_for
from server.engines.need import GIB
from server.engines.plan import plan_engine
from server.engines.spec import Adapter, EngineSpec
from server.engines.vllm_adapters import VllmAdapters, engine_id
from server.errors import AdapterFailed, EngineDied, GenerationFailed

MIB = 1 << 20


def spec(**fields: Any) -> EngineSpec:
    basics = {"name": "m", "model_dir": Path("/m"), "max_model_len": 8064, "weight_bytes": GIB}
    basics |= {"kv_bytes_per_token": 1 << 14, "architecture": "LlamaForCausalLM"}
    adapters = {"max_adapters": 3, "max_adapter_rank": 20, "adapter_bytes": 10 * MIB}
    return EngineSpec(**basics | adapters | fields)


def machine(memory: int = 16 * GIB, gpus: tuple[Gpu, ...] = ()) -> Hardware:
    return Hardware(
        cpu_model="",
        cores=2,
        isa=(),
        memory_total=memory,
        memory_available=memory,
        compiler=None,
        gpus=gpus,
        cpus=(0, 1),
        nodes=(Node(0, (0, 1), memory),),
    )


def test_ranks_are_those_that_vllm_knows() -> None:
    lora = pytest.importorskip("vllm.config.lora")
    assert lora.MaxLoRARanks.__args__ == RANKS
    assert [room_for(rank) for rank in (1, 16, 17, 64, 65, 257, 512)] == [
        16, 16, 32, 64, 128, 320, 512
    ]  # fmt: skip


def test_on_a_cpu_one_slot_stays_empty() -> None:
    linears = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    expected: dict[str, Any] = {
        "enable_lora": True,
        "max_loras": 4,
        "max_cpu_loras": 4,
        "max_lora_rank": 32,
        "lora_target_modules": linears,
    }
    assert lora_args(spec(), spare_slot=True) == expected
    assert lora_args(spec(), spare_slot=False) == expected | {"max_loras": 3, "max_cpu_loras": 3}
    assert "lora_target_modules" not in lora_args(
        spec(architecture="GPTNeoXForCausalLM"), spare_slot=True
    )
    assert lora_args(spec(max_adapters=0), spare_slot=True) == {}


def test_plans_make_room() -> None:
    plan = plan_engine(spec(), machine())
    assert plan.engine_args["max_loras"] == 4
    (choice,) = [choice for choice in plan.choices if choice.name == "adapters"]
    assert choice.value == "3 of rank 32"
    gpu = Gpu(0, "NVIDIA H100", 80 * GIB, 79 * GIB)
    plan = plan_engine(spec(), machine(gpus=(gpu,)))
    assert plan.engine_args["max_loras"] == 3
    plain = plan_engine(spec(max_adapters=0), machine())
    assert "enable_lora" not in plain.engine_args
    assert "adapters" not in {choice.name for choice in plain.choices}


def test_what_adapters_take_counts() -> None:
    # Three times each, and the empty slot.
    assert adapters_bytes(spec(), cpu=True) == 10 * 10 * MIB
    assert adapters_bytes(spec(), cpu=False) == 3 * 10 * MIB
    assert adapters_bytes(spec(max_adapters=0), cpu=True) == 0
    assert plan_engine(spec(), machine()).need.adapters == 100 * MIB
    assert plan_engine(spec(max_adapters=0), machine()).need.adapters == 0
    gpu = Gpu(0, "NVIDIA H100", 80 * GIB, 79 * GIB)
    shares = [
        plan_engine(spec(kv_cache_bytes=GIB, adapter_bytes=size), machine(gpus=(gpu,))).engine_args[
            "gpu_memory_utilization"
        ]
        for size in (0, GIB)
    ]
    assert shares == [0.05, 0.09]


def test_what_one_adapter_takes() -> None:
    known = {"linear_width": 1000, "vocab_size": 300, "number_bytes": 2}
    assert adapter_bytes(20, architecture="LlamaForCausalLM", **known) == 32 * 1000 * 2
    assert adapter_bytes(8, architecture="GPTNeoXForCausalLM", **known) == 16 * 1600 * 2


def test_adapters_are_not_compiled_on_a_cpu_and_that_is_said() -> None:
    with pytest.raises(EngineDied, match="adapters cannot be compiled on a CPU"):
        plan_engine(spec(compile=True), machine())
    assert plan_engine(spec(compile=True, max_adapters=0), machine()).compile


def test_an_adapters_number_is_its_digests_and_nobody_elses() -> None:
    digest = hashlib.sha256(b"a").hexdigest()
    number = engine_id(digest, ())
    assert number == engine_id(digest, {5}) == int(digest[:8], 16) & 0x7FFF_FFFF
    other = engine_id(digest, {number})
    assert other != number
    assert 0 < other < 2**31
    assert engine_id("00000000" + digest[8:], ()) > 0


class Silent:
    """An ``AsyncLLM`` that never answers a call, and has ended."""

    errored = False

    async def remove_lora(self, _: int) -> bool:
        self.errored = True
        await asyncio.Event().wait()
        return True


async def test_a_call_that_a_dead_engine_owes_is_not_waited_for() -> None:
    exceptions = pytest.importorskip("vllm.v1.engine.exceptions")
    llm: Any = Silent()
    with pytest.raises(exceptions.EngineDeadError):
        await asyncio.wait_for(vllm_adapters._while_alive(llm, llm.remove_lora(1)), 5)


async def test_an_engine_is_never_asked_for_what_it_does_not_hold() -> None:
    adapters = VllmAdapters(spec())
    assert adapters.request(None) is None
    with pytest.raises(GenerationFailed, match="does not hold the adapter of 'a'"):
        adapters.request(Adapter("a", Path("/a"), "0" * 64, rank=8, bytes=0))
    with pytest.raises(AdapterFailed) as caught:
        await adapters.load(Silent(), Adapter("a", Path("/a"), "1" * 64, rank=64, bytes=0))
    assert str(caught.value) == (
        "The adapter of 'a' has rank 64, and its engine was started for ranks up to 20. Set "
        "engine.max_adapter_rank: 64 in the entry of its base model, and have that loaded again."
    )
