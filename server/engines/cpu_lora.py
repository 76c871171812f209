"""Adapters in the flat LLaMA step: what a row with one gets on top of the model's own product.

vLLM's way on a CPU copies an adapter's whole weights once for each token and multiplies in float32,
for rows without an adapter too. Here the rows of each adapter are picked out, go through two small
products with packed weights, and what comes out is added in their places. A row without an adapter
is not touched: it is bit for bit what it is in an engine without adapters.

Which adapter is in which slot, and which row belongs to which slot, is vLLM's to say: its manager
loads, activates and removes adapters as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from vllm.lora.layers import (
    MergedColumnParallelLinearWithLoRA,
    MergedQKVParallelLinearWithLoRA,
    RowParallelLinearWithLoRA,
)
from vllm.lora.model_manager import DEFAULT_LANGUAGE_WRAPPER_KEY
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

from server.engines.cpu_rows import paired

Linear = Callable[[torch.Tensor], torch.Tensor]
# Rows of a step: all of them, a piece, or numbers.
Rows: TypeAlias = "slice | torch.Tensor | None"

_LAYERS = (
    MergedQKVParallelLinearWithLoRA,
    MergedColumnParallelLinearWithLoRA,
    RowParallelLinearWithLoRA,
)


class CpuAdapters:
    """The adapters of one model, as its flat step uses them.

    Args:
        manager: vLLM's ``LoRAModelManager``.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._rows = manager.punica_wrapper_mapping[DEFAULT_LANGUAGE_WRAPPER_KEY]
        self._names = {id(module): name for name, module in manager.modules.items()}
        self._packed: list[tuple[str, Any, dict[int, Linear]]] = []
        self._slots: list[int | None] = [None] * len(manager.lora_index_to_id)
        self._groups: list[tuple[int, Rows]] = []

    @staticmethod
    def can_wrap(module: Any) -> bool:
        """Whether ``linear`` computes what this layer of vLLM's does."""
        return type(module) in _LAYERS and module.tp_size == 1

    def linear(self, module: Any, base: Linear) -> Linear:
        """``base``, and for rows of an adapter what that adds.

        Args:
            module: vLLM's layer for adapters around the linear layer.
            base: The linear layer itself, (T, in) -> (T, out).
        """
        additions: dict[int, Linear] = {}
        self._packed.append((self._names[id(module)], module, additions))

        def forward(x: torch.Tensor) -> torch.Tensor:
            y = base(x)
            for slot, rows in self._groups:
                addition = additions.get(slot)
                if addition is None:
                    continue
                if rows is None:
                    y += addition(x)
                elif type(rows) is slice:
                    y[rows] += addition(x[rows])
                else:
                    y.index_add_(0, rows, addition(x.index_select(0, rows)))
            return y

        return forward

    def begin(self, tokens: int) -> None:
        """Look at which rows of a step of so many tokens belong to which adapter."""
        if self._manager.lora_index_to_id != self._slots:
            self.refresh()
        # None before the first step; a step without adapters is told apart in one look.
        known = self._rows.indices_len[0] or 0
        slots = self._rows.token_lora_indices[:tokens] if known else None
        if slots is None or not len(slots) or int(slots.max()) < 0:
            self._groups = []
            return
        self._groups = [
            (slot, _rows_of(slots == slot, tokens)) for slot in slots.unique().tolist() if slot >= 0
        ]

    def refresh(self) -> None:
        """Pack the weights of adapters that have come into a slot, drop those that have gone."""
        now: list[int | None] = list(self._manager.lora_index_to_id)
        for slot, (before, number) in enumerate(zip(self._slots, now, strict=True)):
            if before != number:
                self._put(slot, number)
        self._slots = now

    def _put(self, slot: int, number: int | None) -> None:
        adapter = None if number is None else self._manager.get_adapter(number)
        for name, module, additions in self._packed:
            additions.pop(slot, None)
            if adapter is None:
                continue
            # Not the adapter's own look-up: in embedding models the names differ by a prefix.
            weights = self._manager._get_lora_layer_weights(adapter, name)
            if weights is not None:
                additions[slot] = _addition(module.output_slices, weights.lora_a, weights.lora_b)


def _rows_of(mask: torch.Tensor, tokens: int) -> Rows:
    rows = mask.nonzero().flatten()
    first, count = int(rows[0]), len(rows)
    if count == tokens:
        return None
    # One request's tokens stand together: a view of them costs nothing.
    return slice(first, first + count) if int(rows[-1]) == first + count - 1 else rows


def _addition(slices: Sequence[int], lora_a: Any, lora_b: Any) -> Linear:
    """x (T, in) -> (x A^T) B^T, (T, out), for the parts of a fused layer in two products.

    vLLM has merged the adapter's scale into B.

    Args:
        slices: Outputs of each part, in their order.
        lora_a: A of each part, (rank, in), or one for a layer that is not fused; None: not adapted.
        lora_b: B of each part, (outputs, rank).
    """
    downs = lora_a if isinstance(lora_a, list) else [lora_a]
    ups = lora_b if isinstance(lora_b, list) else [lora_b]
    there = [number for number, down in enumerate(downs) if down is not None]
    down = torch.cat([downs[number] for number in there])
    # The parts' own B's along the diagonal, so that each gets its own share of x A^T.
    up = down.new_zeros(sum(slices), down.shape[0])
    rank = 0
    for number in there:
        begin, part = sum(slices[:number]), ups[number]
        up[begin : begin + part.shape[0], rank : rank + part.shape[1]] = part
        rank += part.shape[1]
    shrink, expand = _product(down), _product(up)
    return paired(lambda x: expand(shrink(x)))


def _product(weight: torch.Tensor) -> Linear:
    """x -> x weight^T by the kernel that vLLM takes for a layer of this shape, weight packed."""
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(weight.contiguous(), requires_grad=False)
    dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    product, kept = layer.cpu_linear, layer.weight
    return lambda x: product(x, kept, None)
