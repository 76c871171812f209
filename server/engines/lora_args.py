"""What vLLM is told of adapters, and what memory they take."""

from __future__ import annotations

from typing import Any

from server.engines.spec import EngineSpec
from server.errors import EngineDied

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM can make room for (vllm/config/lora.py, MaxLoRARanks)."""

LEAST_RANK = 16
"""Room for this rank at least: it costs little, and most adapters have it or less."""

# The layers that adapters of these models can be for. vLLM would make room for the embeddings and
# the output layer too, which for a small model is more than its weights; such adapters are refused.
_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_WITH_THESE = frozenset(
    [
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "GemmaForCausalLM",
        "Gemma2ForCausalLM",
    ]
)
# On a CPU an adapter is held three times: as read, in vLLM's slot, and packed for the products.
_CPU_COPIES = 3


def room_for(rank: int) -> int:
    """The rank that vLLM is told to make room for, so that ``rank`` fits."""
    return next(most for most in RANKS if most >= max(rank, LEAST_RANK))


def lora_args(spec: EngineSpec, *, spare_slot: bool) -> dict[str, Any]:
    """Arguments for ``AsyncEngineArgs``; empty for an engine that takes no adapters.

    Args:
        spec: What to host.
        spare_slot: Add a slot, the last, that stays empty: vLLM's products on a CPU give rows
            without an adapter that of the last slot (index -1; vllm/lora/ops/torch_ops).
    """
    if not spec.max_adapters:
        return {}
    slots = spec.max_adapters + spare_slot
    args: dict[str, Any] = {
        "enable_lora": True,
        "max_loras": slots,
        "max_cpu_loras": slots,
        "max_lora_rank": room_for(spec.max_adapter_rank),
    }
    if spec.architecture in _WITH_THESE:
        args["lora_target_modules"] = list(_LINEARS)
    return args


def adapter_bytes(
    rank: int, *, linear_width: int, vocab_size: int, architecture: str, number_bytes: int
) -> int:
    """Memory of one adapter where there is room for ``rank``.

    Args:
        linear_width: Inputs and outputs of the model's linear layers, summed.
        vocab_size: Of the embeddings and the output layer.
        architecture: The model's class; of those not known here vLLM makes room in these two too.
        number_bytes: Of a weight.
    """
    others = 0 if architecture in _WITH_THESE else 2 * vocab_size
    return room_for(rank) * (linear_width + others) * number_bytes


def adapters_bytes(spec: EngineSpec, *, cpu: bool) -> int:
    """Memory that room for ``spec.max_adapters`` takes, on the device that computes."""
    if not spec.max_adapters:
        return 0
    slots = spec.max_adapters * (_CPU_COPIES if cpu else 1) + cpu
    return slots * spec.adapter_bytes


def refuse_compiled_adapters(spec: EngineSpec) -> None:
    """On a CPU vLLM turns compilation off beside adapters; not without a word.

    Raises:
        EngineDied: The registry asks for both.
    """
    if spec.compile and spec.max_adapters:
        raise EngineDied(
            f"'{spec.name}' has compile: true in its engine settings, and adapters cannot be "
            "compiled on a CPU. Leave compile out, or the adapters."
        )
