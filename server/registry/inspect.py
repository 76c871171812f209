"""What a model's own files say about it, read without torch: config.json, safetensors headers."""

from __future__ import annotations

import json
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from server.errors import SourceError
from server.registry.cache import read_json
from server.registry.schema import ModelEntry

_MAX_HEADER = 100_000_000  # bytes; the format's own limit
# Bytes of one number, of formats that are turned into the engine's own when they are loaded.
_PLAIN = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F8_E4M3": "float8_e4m3fn"}
_LENGTH_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
# With these the stated length is the scaled one already; with others (linear, dynamic) the factor
# comes on top. The same reading as vLLM's, which refuses a longer context than it derives.
_LENGTH_IS_SCALED = frozenset(
    {"default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "mrope"}
)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Numbers that planning needs."""

    context_length: int
    """The model's own maximum, in tokens."""
    num_layers: int
    num_kv_heads: int
    head_dim: int
    weight_bytes: int
    """Bytes of all weights as they are stored."""
    dtype: str
    """Number format of the weights: bfloat16, float16, float32."""
    architecture: str
    """Class name in config.json, such as LlamaForCausalLM."""
    vocab_size: int
    hidden_size: int = 0
    """Width of the layers."""
    inner_size: int = 0
    """Width inside the feed-forward part."""
    num_heads: int = 0
    """Query heads."""
    parameters: int | None = None
    """Number of weights; None where they are quantised, or not in safetensors."""
    read_bytes: int = 0
    """Bytes of the largest file that has to be read whole: safetensors are read piece by piece."""
    sliding_window: bool = False
    """Some layers only keep the last tokens: their KV cache is smaller than is counted here."""

    def loaded_bytes(self, dtype_bytes: int = 2) -> int:
        """Bytes of the weights in memory; quantised ones stay as they are stored.

        Args:
            dtype_bytes: Bytes of one number there (2 for bfloat16 and float16). vLLM's ``auto``
                takes 2 for float32 weights too.
        """
        return self.weight_bytes if self.parameters is None else self.parameters * dtype_bytes

    linear_width: int = 0
    """Inputs and outputs of every linear layer, summed: an adapter of rank r on all of them has r
    times as many numbers. 0 where the files do not tell."""

    def kv_bytes_per_token(self, dtype_bytes: int = 2) -> int:
        """Bytes of KV cache for one token: keys and values of every layer.

        Args:
            dtype_bytes: Bytes of one number in the cache (2 for bfloat16 and float16).
        """
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * dtype_bytes


def describe_model(directory: Path) -> ModelInfo:
    """Read a model folder.

    Args:
        directory: Holds config.json and weights.

    Raises:
        SourceError: A file is missing or damaged, or config.json lacks a number that is needed.
    """
    config = read_json(directory / "config.json")
    text = config.get("text_config")  # multimodal wrappers keep the language model's numbers here
    config = config | text if isinstance(text, dict) else config
    tensors = stored_tensors(directory)
    weights = _weights(directory, tensors)
    heads = _number(config, directory, "num_attention_heads", "n_head")
    hidden = _number(config, directory, "hidden_size", "n_embd")
    architectures = config.get("architectures") or ["unknown"]
    dtype = config.get("dtype") or config.get("torch_dtype") or weights.dtype
    return ModelInfo(
        context_length=_context_length(config, directory),
        num_layers=_number(config, directory, "num_hidden_layers", "n_layer"),
        num_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        weight_bytes=weights.size,
        dtype=str(dtype).removeprefix("torch."),
        architecture=str(architectures[0]),
        vocab_size=_number(config, directory, "vocab_size"),
        hidden_size=hidden,
        inner_size=int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden),
        num_heads=heads,
        parameters=None if config.get("quantization_config") else weights.parameters,
        read_bytes=weights.largest,
        sliding_window=_slides(config),
        linear_width=sum(
            sum(tensor["shape"]) for name, tensor in tensors if _is_linear(name, tensor)
        ),
    )


def resolve_context_length(entry: ModelEntry, info: ModelInfo) -> int:
    """The context an entry is served with, in tokens: the model's maximum unless it says less.

    Raises:
        SourceError: The entry asks for more than the model has.
    """
    wanted = entry.context.length
    if wanted is None:
        return info.context_length
    if wanted > info.context_length:
        raise SourceError(
            f"{entry.id}: context.length is {wanted} tokens, but the model's own maximum is "
            f"{info.context_length}. Lower it, or leave it out to use the maximum."
        )
    return wanted


def check_model_files(directory: Path) -> list[str]:
    """Look for what would keep a folder from being served.

    Returns:
        One sentence for each thing that is wrong; empty when all is well.
    """
    problems = []
    try:
        describe_model(directory)
    except SourceError as error:
        problems.append(str(error).rstrip("."))
    index = directory / "model.safetensors.index.json"
    if index.exists():
        listed = read_json(index).get("weight_map", {}).values()
        absent = sorted({str(name) for name in listed if not (directory / str(name)).is_file()})
        problems += [f"{name} is listed in {index.name} but missing" for name in absent]
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
    if not any((directory / name).is_file() for name in names):
        problems.append(f"{directory} holds no tokenizer ({', '.join(names[:2])})")
    return problems


def _context_length(config: dict[str, Any], directory: Path) -> int:
    length = float(_number(config, directory, *_LENGTH_KEYS))
    limit = _tokenizer_limit(directory)
    if limit is not None:
        length = min(length, limit)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    factor = rope.get("factor")
    if kind == "longrope" and config.get("original_max_position_embeddings"):
        # vLLM serves these at their original length unless told otherwise; short prompts are
        # answered worse beyond it.
        return int(config["original_max_position_embeddings"])
    if kind not in _LENGTH_IS_SCALED and isinstance(factor, int | float):
        length *= factor
    trained = _sentence_limit(directory)
    return int(length if trained is None else min(length, trained))


def _tokenizer_limit(directory: Path) -> float | None:
    path = directory / "tokenizer_config.json"
    value = read_json(path).get("model_max_length") if path.is_file() else None
    # Tokenizers without a limit say 1e30.
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _sentence_limit(directory: Path) -> int | None:
    """What sentence-transformers cuts texts to, which vLLM takes for the model's maximum."""
    for path in sorted(directory.glob("sentence_*_config.json")):
        value = read_json(path).get("max_seq_length")
        if isinstance(value, int) and value > 0:
            return value
    return None


def _number(config: dict[str, Any], directory: Path, *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    raise SourceError(f"{directory / 'config.json'} states no {names[0]}.")


class _Weights(NamedTuple):
    """Bytes, commonest number format, how many numbers where no format packs them, and bytes of the
    largest file that has to be read whole."""

    size: int
    dtype: str
    parameters: int | None = None
    largest: int = 0


def stored_tensors(directory: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and header (dtype, shape, data_offsets) of every tensor in a folder's safetensors.

    Raises:
        SourceError: A file is damaged.
    """
    paths = sorted(directory.glob("*.safetensors"))
    return [item for path in paths for item in safetensors_header(path).items()]


def _is_linear(name: str, tensor: dict[str, Any]) -> bool:
    """Whether it is the weight of a layer that adapters can be for."""
    embeds = name.endswith(("lm_head.weight", "embed_tokens.weight"))
    return name.endswith(".weight") and len(tensor["shape"]) == 2 and not embeds


def _weights(directory: Path, tensors: list[tuple[str, dict[str, Any]]]) -> _Weights:
    sizes: Counter[str] = Counter()
    for _, tensor in tensors:
        start, end = tensor["data_offsets"]
        sizes[tensor["dtype"]] += end - start
    if total := sizes.total():
        kind = sizes.most_common(1)[0][0]
        plain = {*sizes} <= {*_PLAIN}
        count = sum(size // _PLAIN[kind] for kind, size in sizes.items()) if plain else None
        return _Weights(total, _DTYPES.get(kind, kind.lower()), count)
    pickles = [path.stat().st_size for path in (*directory.glob("*.bin"), *directory.glob("*.pth"))]
    if not sum(pickles):
        raise SourceError(f"{directory} holds no weights.")
    return _Weights(sum(pickles), "float16", largest=max(pickles))


def _slides(config: dict[str, Any]) -> bool:
    """Whether some layer has a sliding window; Qwen states one and says that it is not used."""
    return bool(config.get("sliding_window")) and config.get("use_sliding_window") is not False


def safetensors_header(path: Path) -> dict[str, Any]:
    """Name → dtype, shape, data_offsets; the file's length is compared with what they promise.

    Raises:
        SourceError: It is no such file, or not a whole one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _MAX_HEADER + 1
        if length > min(_MAX_HEADER, size - 8):
            raise SourceError(f"{path} is not a safetensors file, or only a part of one.")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise SourceError(f"{path} has a damaged safetensors header: {error!r}") from error
    if size != 8 + length + end:
        raise SourceError(f"{path} has {size} bytes; its header promises {8 + length + end}.")
    return header
