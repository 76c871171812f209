"""The models a server has: ``model_registry.yaml``, and the files behind each entry.

``load_registry`` reads the file into a ``Registry`` and reports every mistake with its line.
``ModelStore`` brings the files of a source (a directory, a Hugging Face repository, a GGUF file
inside a Python package) to this machine, whole or not at all, in a form that vLLM serves.
``describe_model`` reads from those files what planning needs: context length, bytes, layers.

What this package must not know: HTTP, prompts (the ids of prompt formats are handed in), engines
and how they are started. torch and transformers are imported in a child process alone: a server
that has run tensor work can no longer fork its engines safely.
"""

from server.registry.inspect import ModelInfo, describe_model, resolve_context_length
from server.registry.loader import load_registry, registry_schema
from server.registry.progress import NullProgress, Progress
from server.registry.schema import (
    Context,
    EngineKey,
    EngineSettings,
    HerdSettings,
    ModelEntry,
    Registry,
    Sampling,
)
from server.registry.sources import ModelStore, default_cache_dir
from server.registry.sources_schema import DirectorySource, HubSource, PackageSource, Source
from server.registry.values import ByteSize, CacheSize, format_bytes, parse_byte_size

__all__ = [
    "ByteSize",
    "CacheSize",
    "Context",
    "DirectorySource",
    "EngineKey",
    "EngineSettings",
    "HerdSettings",
    "HubSource",
    "ModelEntry",
    "ModelInfo",
    "ModelStore",
    "NullProgress",
    "PackageSource",
    "Progress",
    "Registry",
    "Sampling",
    "Source",
    "default_cache_dir",
    "describe_model",
    "format_bytes",
    "load_registry",
    "parse_byte_size",
    "registry_schema",
    "resolve_context_length",
]
