"""What a LoRA adapter's files say, and whether they fit the model they are for; without torch."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.errors import SourceError
from server.registry.cache import read_json
from server.registry.inspect import safetensors_header, stored_tensors
from server.registry.sources_schema import ADAPTER_CONFIG, ADAPTER_WEIGHTS

PICKLES = ("adapter_model.bin", "adapter_model.pt")
# How PEFT names what it trains: base_model.model.<module>.lora_A.weight
_TENSOR = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_FLOATS = frozenset(["F32", "F16", "BF16"])
# Fields of adapter_config.json that change what the adapter computes in ways no engine here knows,
# each with what it stands for.
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "lora_bias": "biases of its own (lora_bias)",
    "modules_to_save": "whole trained modules (modules_to_save)",
    "trainable_token_indices": "trained tokens (trainable_token_indices)",
    "alora_invocation_tokens": "an activated LoRA (alora_invocation_tokens)",
    "layer_replication": "replicated layers (layer_replication)",
    "use_qalora": "QALoRA",
    "use_bdlora": "a block-diagonal LoRA (use_bdlora)",
}
_NOT_LINEAR = ("lm_head", "embed_tokens")
# Names in `rank_pattern` and `alpha_pattern`. PEFT takes them as expressions, and an engine that is
# caught in one answers nobody.
_PLAIN_NAME = re.compile(r"\^?(\w|\\?\.)+")
ADAPTER_HINT = "give it an entry with 'base' and 'adapter' instead of 'source'"
"""What to do with an adapter that stands where a model should."""


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What is known of an adapter from its files."""

    rank: int
    """The largest rank of its layers."""
    alpha: float
    """Numerator of the factor on its product; the rank, or its root, is the denominator."""
    targets: tuple[str, ...]
    """Last names of the modules it changes, such as ``q_proj``, sorted."""
    weight_bytes: int
    """Bytes of its tensors as they are stored."""
    shapes: Mapping[str, tuple[int, int]]
    """Module → inputs and outputs, by the module's whole name without PEFT's prefix."""


def describe_adapter(directory: Path, name: str) -> AdapterInfo:
    """Read an adapter's folder.

    Args:
        directory: Holds adapter_config.json and adapter_model.safetensors.
        name: What to call it in errors.

    Raises:
        SourceError: A file is missing or damaged, or the adapter is of a kind that is not served.
    """
    require_adapter_files(directory, name)
    config = read_json(directory / ADAPTER_CONFIG)
    _refuse_unsupported(config, name)
    ranks = _ranks(config, name)
    tensors = safetensors_header(directory / ADAPTER_WEIGHTS)
    halves = dict(_halves(tensors, name))
    modules = sorted({module for module, _ in halves})
    if not modules:
        raise SourceError(f"{name} holds no tensors.")
    shapes = {module: _shape(module, halves, ranks, name) for module in modules}
    return AdapterInfo(
        rank=max(ranks),
        alpha=_alpha(config, name),
        targets=tuple(sorted({module.rpartition(".")[2] for module in modules})),
        weight_bytes=sum(t["data_offsets"][1] - t["data_offsets"][0] for t in tensors.values()),
        shapes=shapes,
    )


def require_numbers(directory: Path, name: str) -> None:
    """Look for what is no number in an adapter's weights; reads all of them.

    Raises:
        SourceError: There is some, as training that went astray leaves it.
    """
    path = directory / ADAPTER_WEIGHTS
    tensors = safetensors_header(path)
    with path.open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        for tensor, header in tensors.items():
            first, end = header["data_offsets"]
            file.seek(begin + first)
            if not _all_finite(header["dtype"], file.read(end - first)):
                raise SourceError(f"{name} holds what is no number (NaN, infinity) in {tensor}.")


def _all_finite(dtype: str, data: bytes) -> bool:
    """Whether no exponent has all bits set, which is what tells numbers from the rest."""
    if dtype == "F16":
        return re.search(rb"[\x7c-\x7f\xfc-\xff]", data[1::2]) is None
    # The exponent's last bit is the next byte's first. Numbers with the others set are rare.
    size = {"BF16": 2, "F32": 4}[dtype]
    high, next_ = data[size - 1 :: size], data[size - 2 :: size]
    return all(next_[match.start()] < 0x80 for match in re.finditer(rb"[\x7f\xff]", high))


def require_adapter_files(directory: Path, name: str) -> None:
    """Check that a folder holds an adapter's two files.

    Raises:
        SourceError: It does not; says what it holds instead and what to do.
    """
    if not directory.is_dir():
        what = "is not a folder" if directory.exists() else "does not exist"
        raise SourceError(f"The adapter folder {directory} {what}.")
    problem = missing_adapter_files({path.name for path in directory.iterdir()})
    if problem:
        raise SourceError(f"{name} {problem}")


def missing_adapter_files(names: set[str]) -> str:
    """Why files of these names are no adapter that can be served, as the end of a sentence."""
    if ADAPTER_CONFIG not in names:
        hint = " It is a whole model; give it an entry with 'source'." * ("config.json" in names)
        return f"holds no {ADAPTER_CONFIG}, so it is no LoRA adapter.{hint}"
    if ADAPTER_WEIGHTS in names:
        return ""
    pickle = next((pickle for pickle in PICKLES if pickle in names), None)
    if pickle is None:
        return f"holds no {ADAPTER_WEIGHTS}."
    return (
        f"holds its weights as a pickle ({pickle}), which can run code when it is read. Have them "
        f"saved as {ADAPTER_WEIGHTS}: PEFT's save_pretrained writes it, and so does "
        f'\'safetensors.torch.save_file(torch.load("{pickle}", weights_only=True), '
        f'"{ADAPTER_WEIGHTS}")\'.'
    )


def find_misfits(info: AdapterInfo, model_dir: Path) -> list[str]:
    """Compare an adapter with the model it is to be used on.

    Args:
        info: What the adapter's files say.
        model_dir: The model's files. Of pickled weights only the number of layers is known.

    Returns:
        The first few things that do not fit, one phrase each; empty when all does.
    """
    weights = dict(stored_tensors(model_dir))
    misfits = _misfits(info, weights) if weights else _missing_layers(info, model_dir)
    return [misfit for misfit, _ in zip(misfits, range(3), strict=False)]


def digest_of(directory: Path) -> str:
    """What makes the adapter this one and no other: a SHA-256 over both files, in hex."""
    digest = hashlib.sha256()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        with (directory / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _refuse_unsupported(config: Mapping[str, Any], name: str) -> None:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise SourceError(f"{name} is a PEFT adapter of the kind {kind}; only LORA is served.")
    found = [words for field, words in _UNSUPPORTED.items() if config.get(field)]
    if config.get("bias", "none") != "none":
        found.append(f"trained biases (bias: {config['bias']})")
    if found:
        raise SourceError(
            f"{name} uses {', '.join(found)}, which the engine does not know. Train it without, or "
            "merge it into its base model and serve the result as a model of its own."
        )


def _ranks(config: Mapping[str, Any], name: str) -> set[int]:
    patterns = config.get("rank_pattern") or {}
    for field in ("rank_pattern", "alpha_pattern"):
        for key in config.get(field) or {}:
            if not _PLAIN_NAME.fullmatch(str(key)):
                raise SourceError(
                    f"{name}: {field} of {ADAPTER_CONFIG} names layers by the expression '{key}'. "
                    "Write their names."
                )
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else [None])]
    if not all(type(rank) is int and rank > 0 for rank in ranks):
        raise SourceError(f"{name}: {ADAPTER_CONFIG} states no rank ('r', 'rank_pattern').")
    return set(ranks)


def _alpha(config: Mapping[str, Any], name: str) -> float:
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise SourceError(f"{name}: {ADAPTER_CONFIG} states no 'lora_alpha'.")
    return float(alpha)


def _halves(
    tensors: Mapping[str, Any], name: str
) -> Iterator[tuple[tuple[str, str], tuple[int, ...]]]:
    """Module and half (A or B) with its shape."""
    for tensor, header in tensors.items():
        match = _TENSOR.fullmatch(tensor)
        if match is None:
            raise SourceError(
                f"{name} holds the tensor {tensor}, which is no LoRA weight of a linear layer. "
                "Adapters of embeddings and trained heads are not served."
            )
        module = match["module"]
        if module.rpartition(".")[2] in _NOT_LINEAR:
            raise SourceError(
                f"{name} changes {module}. Adapters of embeddings and of the output layer are not "
                "served: train without it, or merge the adapter into its base model."
            )
        if header["dtype"] not in _FLOATS:
            raise SourceError(f"{name} holds {tensor} as {header['dtype']}, not as numbers to add.")
        yield (module, match["half"]), tuple(header["shape"])


def _shape(
    module: str, halves: Mapping[tuple[str, str], tuple[int, ...]], ranks: set[int], name: str
) -> tuple[int, int]:
    """Inputs and outputs of a module, if its two halves belong together."""
    down, up = halves.get((module, "A"), ()), halves.get((module, "B"), ())
    if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
        raise SourceError(
            f"{name}: lora_A and lora_B of {module} do not belong together "
            f"({list(down) or 'missing'} and {list(up) or 'missing'})."
        )
    if down[0] not in ranks:
        raise SourceError(f"{name}: {module} has rank {down[0]}, which {ADAPTER_CONFIG} lacks.")
    return down[1], up[0]


def _misfits(info: AdapterInfo, weights: Mapping[str, Any]) -> Iterator[str]:
    for module, (inputs, outputs) in info.shapes.items():
        found = _weight_of(module, weights)
        if found is None:
            yield f"the model has no layer {module}"
            continue
        shape = found["shape"]
        # Quantised weights are packed: their shape tells nothing.
        if len(shape) == 2 and found["dtype"] in _FLOATS and shape != [outputs, inputs]:
            yield (
                f"{module} takes {inputs} numbers and gives {outputs}, in the model {shape[1]} and "
                f"{shape[0]}"
            )


def _weight_of(module: str, weights: Mapping[str, Any]) -> Any:
    """The model's own weight of a module; checkpoints differ in what stands before the layers."""
    for name in (module, module.removeprefix("model."), f"model.{module}"):
        for suffix in ("weight", "qweight", "weight_packed"):
            if f"{name}.{suffix}" in weights:
                return weights[f"{name}.{suffix}"]
    return None


def _missing_layers(info: AdapterInfo, model_dir: Path) -> Iterator[str]:
    layers = read_json(model_dir / "config.json").get("num_hidden_layers")
    for module in info.shapes:
        number = re.search(r"\.layers\.(\d+)\.", module)
        if number and isinstance(layers, int) and int(number[1]) >= layers:
            yield f"the model has no layer {module}"
