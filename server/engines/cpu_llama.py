"""A decode step of a LLaMA on a CPU without the cost of walking its modules.

In eager mode a step of SmolLM2-135M spends 12 ms in matrix products and as long again in Python: 30
layers of nested ``nn.Module`` calls, norms in separate elementwise kernels, a dispatcher round trip
for each attention call. `bind` replaces ``LlamaModel.forward`` by one flat loop over the same vLLM
kernels (fused norm, activation, rotary embedding, oneDNN product, paged attention), which takes the
step from 27 to 18 ms here (benchmarks/RESULTS.md) without a compiler and without warm-up time.

Weights, kernels and KV cache are vLLM's own, and `cpu_lora` adds what adapters do. Whatever is no
plain LLaMA decoder (quantised weights, pipeline stages, speculative heads) is left as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from vllm.config import CompilationMode, VllmConfig
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding
from vllm.model_executor.models.llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaMLP,
    LlamaModel,
)
from vllm.v1.attention.backend import AttentionType
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from server.engines.cpu_lora import CpuAdapters, Linear


@dataclass(frozen=True, slots=True)
class _Layer:
    """One decoder layer, every attribute look-up done.

    Shapes, with T tokens, E hidden, Q query, K key and I inner width: qkv (T, E) -> (T, Q + 2 K);
    out (T, Q) -> (T, E); up (T, E) -> (T, 2 I); down (T, I) -> (T, E).
    """

    input_norm: torch.Tensor
    post_norm: torch.Tensor
    qkv: Linear
    out: Linear
    up: Linear
    down: Linear
    attention: Any


def bind(model: Any, config: VllmConfig) -> bool:
    """Give ``model`` the flat forward where that is exact; return whether it was done."""
    if not _is_plain(model, config):
        return False
    decoder = model.model
    adapters = None if config.lora_config is None else CpuAdapters(model.lora_manager)
    decoder.forward = _forward(decoder, adapters)
    # The class's __call__ is torch.compile's hook; with compilation off it only forwards.
    decoder.do_not_compile = True
    return True


def _is_plain(model: Any, config: VllmConfig) -> bool:
    parallel = config.parallel_config
    return (
        _is_llama(model)
        and config.compilation_config.mode == CompilationMode.NONE
        and config.speculative_config is None
        and parallel.tensor_parallel_size == parallel.pipeline_parallel_size == 1
        and all(_is_plain_layer(layer) for layer in model.model.layers)
    )


def _is_llama(model: Any) -> bool:
    """LLaMA itself, or vLLM's embedding model made of it, which only adds a pooler behind it."""
    return type(model) is LlamaForCausalLM or (
        isinstance(model, LlamaForCausalLM)
        and type(model).__name__ == "LlamaForEmbedding"
        and type(model).forward is LlamaForCausalLM.forward
        and type(model.model) is LlamaModel
    )


def _is_plain_layer(layer: Any) -> bool:
    attention, mlp = layer.self_attn, layer.mlp
    if (type(layer), type(attention), type(mlp)) != (LlamaDecoderLayer, LlamaAttention, LlamaMLP):
        return False
    linears = (attention.qkv_proj, attention.o_proj, mlp.gate_up_proj, mlp.down_proj)
    return (
        all(map(_is_plain_linear, linears))
        and isinstance(attention.rotary_emb, RotaryEmbedding)
        and type(attention.rotary_emb).forward_cpu is RotaryEmbedding.forward_cpu
        and type(attention.attn.impl) is CPUAttentionBackendImpl
        and attention.attn.attn_type == AttentionType.DECODER
        and attention.attn.query_quant is None
        and attention.attn.kv_sharing_target_layer_name is None
        and type(mlp.act_fn) is SiluAndMul
        and type(layer.input_layernorm) is RMSNorm
        and layer.input_layernorm.variance_size_override is None
    )


def _is_plain_linear(module: Any) -> bool:
    """A layer with its own weight, packed, or vLLM's layer for adapters around one."""
    plain = getattr(module, "base_layer", module)
    return (
        type(plain.quant_method) is UnquantizedLinearMethod
        and hasattr(plain, "cpu_linear")
        and (plain is module or CpuAdapters.can_wrap(module))
    )


def _linear(module: Any, adapters: CpuAdapters | None) -> Linear:
    """``module``'s product with its packed weight, bias included, and what adapters add."""
    plain = getattr(module, "base_layer", module)
    product, bias = plain.cpu_linear, plain.bias

    def base(x: torch.Tensor) -> torch.Tensor:
        return product(x, None, bias)

    return base if adapters is None or plain is module else adapters.linear(module, base)


def _flatten(layer: Any, adapters: CpuAdapters | None) -> _Layer:
    return _Layer(
        input_norm=layer.input_layernorm.weight.data,
        post_norm=layer.post_attention_layernorm.weight.data,
        qkv=_linear(layer.self_attn.qkv_proj, adapters),
        out=_linear(layer.self_attn.o_proj, adapters),
        up=_linear(layer.mlp.gate_up_proj, adapters),
        down=_linear(layer.mlp.down_proj, adapters),
        attention=layer.self_attn.attn,
    )


def _forward(decoder: Any, adapters: CpuAdapters | None) -> Callable[..., torch.Tensor]:
    """Build the flat forward of ``decoder`` (a ``LlamaModel`` whose weights are loaded)."""
    kernels = torch.ops._C
    rms_norm = kernels.rms_norm.default
    add_rms_norm = kernels.fused_add_rms_norm.default
    silu = torch.nn.functional.silu
    rotate = kernels.rotary_embedding.default
    empty = torch.empty

    layers = [_flatten(layer, adapters) for layer in decoder.layers]
    first = decoder.layers[0]
    eps: float = first.input_layernorm.variance_epsilon
    heads: int = first.self_attn.num_heads
    kv_heads: int = first.self_attn.num_kv_heads
    head_size: int = first.self_attn.head_dim
    widths = [first.self_attn.q_size, first.self_attn.kv_size, first.self_attn.kv_size]
    inner: int = first.mlp.gate_up_proj.output_size // 2
    rotary = first.self_attn.rotary_emb
    neox: bool = rotary.is_neox_style
    cos_sin = rotary._match_cos_sin_cache_dtype(layers[0].input_norm)
    final_norm = decoder.norm.weight.data

    def attend(
        attention: Any, qkv: torch.Tensor, positions: torch.Tensor, metadata: Any, slots: Any
    ) -> torch.Tensor:
        """(T, Q + 2 K) -> (T, Q): rotate, write keys and values to the paged cache, attend."""
        query, key, value = qkv.split(widths, dim=-1)
        rotate(positions, query, key, head_size, cos_sin, neox)
        tokens = qkv.shape[0]
        output = empty((tokens, heads, head_size), dtype=qkv.dtype)
        if metadata is None:  # a profiling run: there is no cache yet
            return output.view(tokens, -1)
        name, impl = attention.layer_name, attention.impl
        key = key.view(tokens, kv_heads, head_size)
        value = value.view(tokens, kv_heads, head_size)
        cache = attention.kv_cache
        impl.do_kv_cache_update(attention, key, value, cache, slots[name])
        impl.forward(
            attention,
            query.view(tokens, heads, head_size),
            key,
            value,
            cache,
            metadata[name],
            output,
        )
        return output.view(tokens, -1)

    def forward(
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: object = None,  # noqa: ARG001  # vLLM passes it; pipelines only
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Token ids (T,) or embeddings (T, E), positions (T,) -> hidden states (T, E)."""
        context = get_forward_context()
        metadata, slots = context.attn_metadata, context.slot_mapping
        if adapters is not None:
            adapters.begin(positions.shape[-1])
        # The fused norm adds into the residual: a caller's embeddings must not change under it.
        residual = (
            decoder.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds.clone()
        )
        hidden = torch.empty_like(residual)
        rms_norm(hidden, residual, layers[0].input_norm, eps)
        for index, layer in enumerate(layers):
            if index:
                add_rms_norm(hidden, residual, layer.input_norm, eps)
            qkv = layer.qkv(hidden)
            hidden = layer.out(attend(layer.attention, qkv, positions, metadata, slots))
            add_rms_norm(hidden, residual, layer.post_norm, eps)
            gate_up = layer.up(hidden)
            hidden = layer.down(silu(gate_up[:, :inner]).mul_(gate_up[:, inner:]))
        add_rms_norm(hidden, residual, final_norm, eps)
        return hidden

    return forward
