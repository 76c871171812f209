"""What may stand in ``model_registry.yaml``, as pydantic models; the docstrings reach editors.

Every field's docstring is its description in ``corral models schema``. Optional engine and
sampling values are None when the file leaves them open: the machine or the request decides then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from server.errors import ModelNotFound
from server.registry.bases import INHERITED, base_mistakes, inherit
from server.registry.names import name_clashes, suggestion
from server.registry.sources_schema import AdapterSource, Source
from server.registry.values import DeviceMemory, Duration, KvCacheSize, Section, StopString

TEMPLATES_CONTEXT = "known_templates"
"""Key of the validation context under which the ids of the prompt formats are handed in."""

ModelName = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")
]
Penalty = Annotated[StrictFloat, Field(ge=-2, le=2)]
Count = Annotated[StrictInt, Field(ge=1)]
_BINDING = r"^(none|cores|\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*)$"


def _binding(value: Any) -> str:
    # YAML reads a single number as one.
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(_BINDING, text):
        raise ValueError(f"must be none, cores or CPU numbers such as 0-3,8, not '{value}'")
    return text


CpuBinding = Annotated[
    str,
    BeforeValidator(_binding),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _BINDING},
                {"type": "integer", "minimum": 0, "maximum": 9999},
            ],
            "examples": ["none", "cores", "0-3"],
        }
    ),
]
"""Where an engine's workers run, as text."""


def _known_template(template: str, info: ValidationInfo) -> str:
    known: Collection[str] | None = (info.context or {}).get(TEMPLATES_CONTEXT)
    if known is not None and template not in known:
        raise PydanticCustomError(
            "template_unknown",
            "{reason}",
            {"reason": f"unknown template '{template}'{suggestion(template, known)}"},
        )
    return template


TemplateName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_known_template)]
"""Id of a prompt format; checked where the formats are handed in."""

ParserName = Annotated[str, Field(min_length=1, max_length=50, pattern="^[a-z0-9_.-]+$")]


class EngineKey(NamedTuple):
    """Names one engine: entries with equal keys share weights, KV cache and process."""

    source: str
    """The source's key."""
    settings: str
    """The engine settings, and what else an engine is built for, as canonical JSON."""


class Context(Section):
    """How much of a conversation the model sees."""

    length: Count | None = None
    """Tokens of prompt and answer together. Left out: the model's own maximum. Never more."""
    overflow: Literal["error", "drop_oldest"] = "error"
    """What happens to a conversation that does not fit: error refuses it as OpenAI does,
    drop_oldest leaves out the oldest turns and says so in the response."""


class Sampling(Section):
    """Values used where a request leaves its own out."""

    temperature: Annotated[StrictFloat, Field(ge=0, le=2)] | None = None
    """Randomness from 0 (always the likeliest token) to 2."""
    top_p: Annotated[StrictFloat, Field(gt=0, le=1)] | None = None
    """Sample from the likeliest tokens that together hold this probability."""
    top_k: Annotated[StrictInt, Field(ge=-1)] | None = None
    """Sample from this many of the likeliest tokens; -1 for all."""
    min_p: Annotated[StrictFloat, Field(ge=0, le=1)] | None = None
    """Leave out tokens less likely than this share of the likeliest one's probability."""
    max_tokens: Count | None = None
    """Longest answer, in tokens. Left out: whatever the context still holds."""
    repetition_penalty: Annotated[StrictFloat, Field(gt=0, le=10)] | None = None
    """Above 1 makes tokens of prompt and answer less likely to come again."""
    presence_penalty: Penalty | None = None
    """OpenAI's presence penalty, -2 to 2."""
    frequency_penalty: Penalty | None = None
    """OpenAI's frequency penalty, -2 to 2."""
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] | None = None
    """Seed for repeatable sampling."""

    @field_validator("top_k")
    @classmethod
    def _top_k_is_not_zero(cls, top_k: int | None) -> int | None:
        if top_k == 0:
            raise PydanticCustomError("top_k", "must be -1 (all tokens) or at least 1")
        return top_k


class EngineSettings(Section):
    """How the model runs. What is left out is chosen at load by what the machine is."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = None
    """Number format of the weights; auto takes the one they are stored in."""
    quantization: str | None = Field(default=None, min_length=1, max_length=50)
    """vLLM's quantization method, such as awq, gptq or fp8, where the weights need it said."""
    kv_cache: KvCacheSize | None = None
    """Memory for the KV cache, such as 512MiB or 8GB, on each GPU where several share a model; or
    how many tokens it holds, such as 16384 tokens."""
    max_num_seqs: Count | None = None
    """Most requests computed at the same time."""
    max_num_batched_tokens: Count | None = None
    """Most tokens computed in one step."""
    tensor_parallel_size: Count = 1
    """GPUs that share each layer."""
    pipeline_parallel_size: Count = 1
    """Groups of GPUs that share the layers, one group after another."""
    gpu_memory_utilization: Annotated[StrictFloat, Field(gt=0, le=1)] | None = None
    """Share of each GPU's memory this model may use, weights and KV cache together. With kv_cache
    set: what must be free at the start."""
    compile: StrictBool | None = None
    """Compile the model for speed (a longer start) or not."""
    threads: Count | None = None
    """CPU threads for the computation, in each worker (CPU engine only)."""
    binding: CpuBinding | None = None
    """CPUs that the computation runs on (CPU engine only): none leaves it to the scheduler, cores
    takes one hardware thread of each core of one NUMA node, numbers such as 0-3,8 name them.
    Several workers divide them."""
    executor: Literal["uni", "mp", "ray"] | None = None
    """Where the model's workers run: uni in the engine's own process, mp one process for each,
    ray on a Ray cluster."""
    start_method: Literal["forkserver", "fork", "spawn"] | None = None
    """How the engine's process is started."""
    prefix_caching: StrictBool | None = None
    """Keep the KV cache of common prompt beginnings."""
    sleeps: StrictBool | None = None
    """On a GPU: whether the model can sleep, and wake up sooner than it could be loaded. Left out:
    it can, where the GPU has memory of its own."""
    replicas: Annotated[StrictInt, Field(ge=1, le=64)] = 1
    """Engines of this model, each on devices of its own where there are several. A request goes to
    the least busy one, or to one that knows the beginning of its prompt."""
    max_adapters: Annotated[StrictInt, Field(ge=1, le=256)] | None = None
    """Most adapters held beside the weights at the same time. Left out: as many as the registry
    has for this model when it is loaded, at least 2 and at most 8."""
    max_adapter_rank: Annotated[StrictInt, Field(ge=1, le=512)] | None = None
    """Largest rank of an adapter. Left out: the largest that the registry's adapters have."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments of vLLM's AsyncEngineArgs by name, handed over as they are and not
    checked here. The escape hatch: prefer the named settings above."""


def _no_source() -> Any:
    """Until the registry has put in that of the entry's base."""


def _one_origin(schema: dict[str, Any]) -> None:
    """An entry has files of its own, or those of its base with an adapter on them."""

    def with_and_without(some: Collection[str], others: Collection[str]) -> dict[str, Any]:
        return {"required": [*some], "not": {"anyOf": [{"required": [field]} for field in others]}}

    own = ("base", "adapter")
    schema["oneOf"] = [with_and_without(["source"], own), with_and_without(own, INHERITED)]


class ModelEntry(Section):
    """One model as clients see it."""

    model_config = ConfigDict(json_schema_extra=_one_origin)

    id: ModelName
    """Name that clients ask for: letters, digits and . _ : / - , beginning with one of the
    first two."""
    description: str = Field(default="", max_length=2000)
    """One sentence for people who choose a model."""
    aliases: list[ModelName] = Field(default_factory=list)
    """Further names for the same entry."""
    source: Source = Field(default_factory=_no_source)
    """Where the files come from: exactly one of directory, hub, package."""
    base: ModelName | None = None
    """For an adapter: id of the entry that it was trained on. Source, engine, kind and
    reasoning_parser are that entry's."""
    adapter: AdapterSource | None = None
    """For an adapter: where its files come from, exactly one of directory, hub, package."""
    template: TemplateName = "auto"
    """Prompt format the model was trained on; auto is the chat template in its own files."""
    history: Literal["turns", "fold", "none"] = "turns"
    """How earlier turns are put to a model trained on single turns: turns repeats the format,
    fold writes them as text into one instruction, none leaves them out."""
    system: str | None = None
    """System message for conversations that bring none."""
    context: Context = Field(default_factory=Context)
    """Context length and what happens beyond it."""
    sampling: Sampling = Field(default_factory=Sampling)
    """Sampling values for requests that leave them out."""
    stop: list[StopString] = Field(default_factory=list, max_length=16)
    """Strings that end an answer, beside those of the prompt format."""
    kind: Literal["generate", "embedding"] = "generate"
    """What the model does: generate continues text, embedding turns it into vectors."""
    tool_parser: ParserName | None = None
    """How the model writes tool calls, by vLLM's name for it (hermes, llama3_json, mistral and
    others). Left out: the prompt tells the model how, and a grammar holds it to that."""
    reasoning_parser: ParserName | None = None
    """How the model writes its reasoning, by vLLM's name for it (deepseek_r1, qwen3 and others).
    Left out: all it writes is its answer."""
    engine: EngineSettings = Field(default_factory=EngineSettings)
    """How the model runs."""
    load: Literal["startup", "on_demand"] = "startup"
    """Load when the server starts, as far as there is room, or at the first request."""
    pin: StrictBool = False
    """Never unload the model to make room for another one."""
    idle_timeout: Duration | None = None
    """Unload the model after so long without a request, such as 15m. Left out: it stays until its
    room is needed."""
    sleep_after: Duration | None = None
    """On a GPU: after so long without a request the model gives the GPU's memory back, and takes it
    again at the next request, much sooner than it could be loaded. Left out: it does so only when
    its room is needed."""
    sleep_level: Literal[1, 2] = 1
    """How it sleeps: 1 keeps its weights in RAM, 2 reads them from disk again."""

    @property
    def engine_key(self) -> EngineKey:
        """Equal for entries that can share one engine: same source, same engine settings."""
        own = {"kind": self.kind, "reasoning_parser": self.reasoning_parser}
        settings = json.dumps(self.engine.model_dump(mode="json") | own, sort_keys=True)
        return EngineKey(self.source.key, settings)


class HerdSettings(Section):
    """How the models share the machine. Engines are loaded one at a time; one that does not fit
    displaces others, idle ones first."""

    memory: DeviceMemory | None = None
    """Memory that all engines together may hold, such as 16GiB: of the RAM or, on a machine with
    GPUs, of each GPU. Or device by device, such as {gpu0: 70GiB, gpu1: 40GiB}. Left out: what is
    free when the server starts, less a reserve."""
    max_wait: Duration = 30.0
    """How long a busy model may keep another one waiting for its room, such as 30s."""
    min_residency: Duration = 10.0
    """How long a model stays at least once it is loaded and in use."""
    drain: Duration = 30.0
    """How long requests may go on in a model that has to go. Those that have streamed nothing by
    then are repeated, the others end with an error."""


class Registry(Section):
    """The models of one server."""

    version: Literal[1] = 1
    """Version of this file's format."""
    herd: HerdSettings = Field(default_factory=HerdSettings)
    """How the models below share the machine."""
    models: list[ModelEntry] = Field(min_length=1)
    """The models, the first being the one shown first."""

    @field_validator("models")
    @classmethod
    def _adapters_have_bases(cls, models: list[ModelEntry]) -> list[ModelEntry]:
        said = [model.model_dump(exclude_unset=True) for model in models]
        mistakes = [f"models.{m.model}.{m.field}: {m.message}" for m in base_mistakes(said)]
        if mistakes:
            reason = {"reason": "; ".join(mistakes)}
            raise PydanticCustomError("bases", "{reason}", reason)
        return inherit(models)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Registry:
        names = [[entry.id, *entry.aliases] for entry in self.models]
        clashes = [clash.message for clash in name_clashes(names)]
        if clashes:
            reason = {"reason": "; ".join(clashes)}
            raise PydanticCustomError("duplicate_names", "{reason}", reason)
        return self

    def resolve(self, name: str) -> ModelEntry:
        """Find an entry by id or alias (exact, case-sensitive).

        Raises:
            ModelNotFound: No entry has this name.
        """
        for entry in self.models:
            if name == entry.id or name in entry.aliases:
                return entry
        raise ModelNotFound(name)

    def engine_groups(self) -> dict[EngineKey, list[ModelEntry]]:
        """Entries that share one engine, in the file's order, adapters behind the others."""
        groups: dict[EngineKey, list[ModelEntry]] = {}
        for entry in self.models:
            groups.setdefault(entry.engine_key, []).append(entry)
        for group in groups.values():
            group.sort(key=lambda entry: entry.base is not None)
        return groups
