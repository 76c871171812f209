"""A recipe: one YAML file that says what is trained, on what, and how.

The docstring under each field is its description in docs/training.md and in editors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from server.registry.schema import ModelName, Sampling, TemplateName
from server.registry.sources_schema import Source
from server.registry.values import Section
from training.data.sources import DataSource

Count = Annotated[StrictInt, Field(ge=1)]
Share = Annotated[StrictFloat, Field(gt=0, lt=1)]
PUBLISHED_TARGETS = ("q_proj", "v_proj")


def _model_kind(value: Any) -> str:
    return "id" if isinstance(value, str) else "source"


ModelRef = Annotated[
    Annotated[ModelName, Tag("id")] | Annotated[Source, Tag("source")], Discriminator(_model_kind)
]
"""An entry of the registry by its id, or a source as it stands in the registry."""


class Lora(Section):
    """A LoRA adapter: what is trained instead of the weights."""

    rank: Annotated[StrictInt, Field(ge=1, le=512)] = 8
    """Rank of each adapted layer."""
    alpha: Annotated[StrictFloat, Field(gt=0)] = 16
    """What the adapter adds is scaled by alpha / rank."""
    dropout: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.05
    """Share of the adapter's inputs left out in each step."""
    targets: list[str] = Field(default_factory=lambda: [*PUBLISHED_TARGETS], min_length=1)
    """Last names of the linear layers that are adapted."""

    @field_validator("targets")
    @classmethod
    def _are_served(cls, targets: list[str]) -> list[str]:
        refused = sorted({"lm_head", "embed_tokens"} & {*targets})
        if refused:
            raise PydanticCustomError(
                "targets",
                "{reason}",
                {"reason": f"{' and '.join(refused)} cannot be adapted: no engine serves it"},
            )
        return targets


class DataSet(Section):
    """One set of rows."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """What to call it in reports."""
    source: DataSource
    """Where its files come from: exactly one of directory, hub, package."""
    format: Literal["auto", "alpaca", "sharegpt", "messages", "text"] = "auto"
    """Shape of the rows; auto goes by the first one's fields."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Field of the format → what the rows call it, such as {output: answer}."""
    weight: Annotated[StrictFloat, Field(gt=0, le=100)] = 1.0
    """How often each row is seen in an epoch: 2 is twice, 0.5 takes half of the rows."""
    mistakes: Literal["refuse", "skip"] = "refuse"
    """What is done about rows that cannot be trained on: refuse names all of them and trains
    nothing, skip leaves them out and counts them. Published sets have some."""
    limit: Count | None = None
    """Takes only so many rows from the start."""
    licence: str = ""
    """Licence of the rows, for the model card."""


class Schedule(Section):
    """How the weights move."""

    epochs: Annotated[StrictFloat, Field(gt=0)] | None = None
    """Times that the data are gone through."""
    steps: Count | None = None
    """Steps of the optimiser, instead of epochs."""
    batch: Count = 128
    """Rows a step, over all processes."""
    micro_batch: Count = 4
    """Rows that one process computes at a time; memory decides."""
    learning_rate: Annotated[StrictFloat, Field(gt=0, lt=1)] = 2e-5
    """The highest learning rate."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.03
    """Share of the steps in which it rises."""
    weight_decay: Annotated[StrictFloat, Field(ge=0)] = 0.0
    """AdamW's."""
    clip: Annotated[StrictFloat, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Numbers of the forward pass. Trained weights and their optimiser are float32 always."""
    checkpoint_activations: StrictBool = False
    """Compute activations twice instead of keeping them: less memory, a third more time."""
    seed: Annotated[StrictInt, Field(ge=0, lt=2**31)] = 0
    """Of the order of rows, dropout, new weights and the held-out split."""
    log_every: Count = 1
    """Steps between two values of the loss."""
    evaluate_every: Count | None = None
    """Steps between two looks at the held-out rows. Left out: at the start and the end."""
    save_every: Count = 100
    """Steps between two checkpoints."""
    keep: Count = 2
    """Checkpoints that are kept."""

    @model_validator(mode="after")
    def _one_length(self) -> Schedule:
        if (self.epochs is None) == (self.steps is None):
            raise PydanticCustomError("one_length", "must have one of epochs and steps")
        return self


class Report(Section):
    """Where the run is to be seen, besides the terminal and the curves in its folder."""

    tensorboard: StrictBool = True
    """Write events for TensorBoard into the folder."""
    wandb: StrictBool = False
    """Send the run to Weights & Biases, which the package wandb has to be installed for."""


class Recipe(Section):
    """A recipe file."""

    version: Literal[1] = 1
    """Version of this file's format."""
    name: ModelName
    """Id of the trained model in the herd."""
    description: str = Field(default="", max_length=2000)
    """One sentence for people who choose a model."""
    model: ModelRef
    """What is trained: the id of an entry of the registry, or a source as it stands there."""
    template: TemplateName
    """Prompt format to train on, and to serve with."""
    history: Literal["turns", "fold", "none"] = "turns"
    """How earlier turns are put; see the registry."""
    system: str | None = None
    """System message for conversations that bring none."""
    lora: Lora | None = None
    """The adapter to train. Left out: all weights are trained."""
    data: list[DataSet] = Field(min_length=1)
    """What it is trained on."""
    held_out: Count | Share | None = 0.02
    """Rows kept back to be looked at: how many, or which share. They are chosen by their content,
    so that the same rows are kept back in whatever order they come."""
    deduplicate: StrictBool = True
    """Leave out conversations that have been seen already."""
    max_length: Annotated[StrictInt, Field(ge=8)] = 512
    """Tokens of a row."""
    too_long: Literal["truncate", "drop"] = "truncate"
    """What becomes of longer rows."""
    answers: Literal["all", "last"] = "all"
    """Which answers of a conversation are trained."""
    packing: StrictBool = False
    """Put several short rows into one, each seen by itself."""
    streaming: StrictBool = False
    """Read rows while training instead of before; for data that do not fit the disk twice. Needs
    steps, and a share as held_out."""
    new_tokens: list[str] = Field(default_factory=list)
    """Tokens to add to the vocabulary, such as "[PAD]"; their embeddings begin as the mean of the
    others. Not with lora: no engine serves adapted embeddings."""
    schedule: Schedule
    """How it is trained."""
    report: Report = Field(default_factory=Report)
    """Where the run is to be seen."""
    output: Path | None = None
    """Folder of the run. Left out: runs/NAME."""
    sampling: Sampling = Field(default_factory=Sampling)
    """Sampling values of the registry entry."""
    licence: str = ""
    """Licence of the result, for the model card."""

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.output or Path("runs") / self.name.replace("/", "--").replace(":", "-")

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        for wrong, reason in (
            (
                self.new_tokens and self.lora,
                "new_tokens cannot be trained with lora; leave one of them out",
            ),
            (
                self.streaming and self.schedule.steps is None,
                "streaming needs schedule.steps: nobody knows how long an epoch is",
            ),
            (
                self.streaming and isinstance(self.held_out, int),
                "streaming needs held_out as a share, such as 0.01",
            ),
            (
                self.streaming and self.packing,
                "streaming and packing exclude each other",
            ),
            (
                len({each.name for each in self.data}) < len(self.data),
                "data must have different names",
            ),
        ):
            if wrong:
                raise PydanticCustomError("together", "{reason}", {"reason": reason})
        return self
