"""A recipe's run: TRL's SFTTrainer over rows that are rendered already."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PrinterCallback
from transformers.utils import logging as transformers_logging
from trl import SFTConfig, SFTTrainer

from server.console import board
from server.prompts.catalog import get_format
from server.prompts.formatter import Formatter
from server.prompts.tokenizer import PromptTokenizer
from training.base_model import BaseModel
from training.callbacks import Screen, Stopper
from training.data.sets import Located
from training.errors import Interrupted, TrainingError
from training.model import (
    add_embeddings,
    load_model,
    load_tokenizer,
    lora_config,
    require_targets,
)
from training.prepare import prepare_rows, streamed_rows
from training.recipe import Recipe
from training.results import save_results
from training.run_folder import RunFolder

_TOKENIZER = "tokenizer"


def run(
    recipe: Recipe,
    base: BaseModel,
    sets: list[Located],
    *,
    resume: bool = False,
    fresh: bool = False,
) -> RunFolder | None:
    """Train, and write the result.

    Args:
        recipe: What to do.
        base: The model to start from.
        sets: The recipe's data.
        resume: Go on with the run that is in the recipe's folder.
        fresh: Delete that one first.

    Raises:
        TrainingError: The run cannot be begun.
        DataError: Rows are wrong.
        Interrupted: Somebody stopped it; it can be resumed.
    """
    transformers_logging.disable_progress_bar()
    state = PartialState(cpu=not torch.cuda.is_available())
    _require_launch(state.num_processes)
    folder = RunFolder(recipe.folder)
    checkpoint = None
    if state.is_main_process:
        checkpoint = folder.begin(recipe, resume=resume, fresh=fresh)
    state.wait_for_everyone()
    if resume and not state.is_main_process:
        checkpoint = folder.last_checkpoint()
    tokenizer = load_tokenizer(base.directory, recipe.new_tokens)
    formatter = _formatter(recipe, base, tokenizer, folder, state)
    train_rows, held_out = _rows(recipe, sets, formatter, folder, state)
    trainer, stopper = _trainer(recipe, base, tokenizer, folder, (train_rows, held_out), state)
    _train(trainer, stopper, folder, checkpoint, held_out is not None)
    save_results(trainer, tokenizer, recipe, base, folder)
    return folder if state.is_main_process else None


def _require_launch(processes: int) -> None:
    """Several GPUs take a process each; which of both is meant, one process cannot know."""
    gpus = torch.cuda.device_count()
    if processes == 1 and gpus > 1:
        raise TrainingError(
            f"This machine has {gpus} GPUs. Train on all of them: accelerate launch --config_file "
            f"recipes/accelerate/fsdp2.yaml --num_processes {gpus} -m training RECIPE; or on one: "
            "set CUDA_VISIBLE_DEVICES=0"
        )


def leave_group() -> None:
    """Say good-bye to the other processes, where there are any: one that just ends may crash."""
    state = PartialState()
    if state.num_processes > 1:
        state.wait_for_everyone()
        state.destroy_process_group()


def _formatter(
    recipe: Recipe, base: BaseModel, tokenizer: Any, folder: RunFolder, state: Any
) -> Formatter:
    directory = base.directory
    if recipe.new_tokens:
        directory = folder.path / _TOKENIZER
        if state.is_main_process:
            tokenizer.save_pretrained(str(directory))
        state.wait_for_everyone()
    return Formatter(
        get_format(recipe.template),
        PromptTokenizer.from_directory(directory),
        history=recipe.history,
        default_system=recipe.system,
    )


def _rows(
    recipe: Recipe, sets: list[Located], formatter: Formatter, folder: RunFolder, state: Any
) -> tuple[Any, Any]:
    if recipe.streaming:
        return streamed_rows(sets, recipe, formatter, folder, main=state.is_main_process)
    with state.main_process_first():
        return prepare_rows(sets, recipe, formatter, folder, main=state.is_main_process)


def _trainer(
    recipe: Recipe,
    base: BaseModel,
    tokenizer: Any,
    folder: RunFolder,
    rows: tuple[Any, Any],
    state: Any,
) -> tuple[Any, Stopper]:
    model = load_model(base.directory, recipe)
    if recipe.new_tokens:
        add_embeddings(model, len(tokenizer))
    if recipe.lora is not None:
        require_targets(model, recipe.lora)
    train_rows, held_out = rows
    stopper = Stopper()
    trainer = SFTTrainer(
        model=model,
        args=_arguments(recipe, folder, state.num_processes, held_out is not None),
        train_dataset=train_rows,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=None if recipe.lora is None else lora_config(recipe.lora),
        callbacks=[Screen(recipe.name), stopper],
    )
    trainer.remove_callback(PrinterCallback)  # Screen says it in fewer words
    return trainer, stopper


def _arguments(recipe: Recipe, folder: RunFolder, processes: int, evaluates: bool) -> SFTConfig:
    plan = recipe.schedule
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.path / "tensorboard")
    reports = [name for name in ("tensorboard", "wandb") if getattr(recipe.report, name)]
    if "wandb" in reports and find_spec("wandb") is None:
        raise TrainingError("report.wandb needs the package wandb: pip install wandb")
    return SFTConfig(
        output_dir=str(folder.checkpoints),
        run_name=recipe.name,
        num_train_epochs=plan.epochs or 1.0,
        max_steps=plan.steps or -1,
        per_device_train_batch_size=plan.micro_batch,
        per_device_eval_batch_size=plan.micro_batch,
        gradient_accumulation_steps=_accumulation(recipe, processes),
        learning_rate=plan.learning_rate,
        lr_scheduler_type="constant_with_warmup" if plan.decay == "constant" else plan.decay,
        warmup_steps=plan.warmup,
        weight_decay=plan.weight_decay,
        max_grad_norm=plan.clip,
        bf16=plan.precision == "bfloat16",
        gradient_checkpointing=plan.checkpoint_activations,
        seed=plan.seed,
        data_seed=plan.seed,
        logging_steps=plan.log_every,
        eval_strategy="steps" if evaluates and plan.evaluate_every else "no",
        eval_steps=plan.evaluate_every,
        save_steps=plan.save_every,
        save_total_limit=plan.keep,
        use_cpu=not torch.cuda.is_available(),
        report_to=reports,
        disable_tqdm=True,
        prediction_loss_only=True,
        max_length=recipe.max_length,
        packing=recipe.packing,
        eval_packing=False,
        # Rows are token ids already, of the right length; only packing is left to TRL.
        dataset_kwargs=None if recipe.packing else {"skip_prepare_dataset": True},
    )


def _accumulation(recipe: Recipe, processes: int) -> int:
    plan = recipe.schedule
    at_once = plan.micro_batch * processes
    if plan.batch % at_once:
        raise TrainingError(
            f"schedule.batch is {plan.batch}, which {processes} process(es) with micro_batch "
            f"{plan.micro_batch} cannot divide. Choose a multiple of {at_once}."
        )
    return plan.batch // at_once


def _train(
    trainer: Any, stopper: Stopper, folder: RunFolder, checkpoint: Path | None, evaluates: bool
) -> None:
    began = time.monotonic()
    trainer.args.eval_on_start = evaluates and checkpoint is None
    with stopper.listening():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.is_world_process_zero():
        first = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        seconds = time.monotonic() - began
        processes = trainer.args.world_size
        folder.add_part(first, trainer.state.global_step, seconds, processes)
    if trainer.state.global_step < trainer.state.max_steps:
        board.close()
        raise Interrupted(
            f"Stopped after step {trainer.state.global_step} of {trainer.state.max_steps}. Go on "
            "with --resume."
        )
    if evaluates:
        trainer.evaluate()
