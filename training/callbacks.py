"""What a run says while it goes on, and how it is stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from rich.progress import TaskID
from transformers import TrainerCallback

from server.console import board, err


class Screen(TrainerCallback):
    """A bar with the loss; where there is no terminal, a line every few steps.

    Args:
        name: What is trained.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: TaskID | None = None
        self._step = 0
        self._began: float | None = None
        self._said = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the bar."""
        self._step = state.global_step
        if state.is_world_process_zero and err.is_terminal:
            self._task = board.add(self._name, "training", state.max_steps, "steps")
            board.advance(self._task, state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the clock: a first look at the held-out rows may have come before."""
        self._began = self._began or time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it on."""
        board.advance(self._task, 1)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say the loss; where lines are printed, at most every ten seconds."""
        logs: dict[str, Any] = kwargs.get("logs") or {}
        if not state.is_world_process_zero:
            return
        if "eval_loss" in logs:
            self._print(state, f"held-out loss {logs['eval_loss']:.4f}")
        elif "loss" in logs:
            now = time.monotonic()
            if err.is_terminal or now - self._said >= 10 or state.global_step == state.max_steps:
                self._said = now
                self._print(state, f"loss {float(logs['loss']):.4f}{self._left(state, now)}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take it away."""
        board.remove(self._task)
        self._task = None

    def _print(self, state: Any, text: str) -> None:
        board.line(self._name, f"step {state.global_step} of {state.max_steps}: {text}")

    def _left(self, state: Any, now: float) -> str:
        done = state.global_step - self._step
        if done <= 0 or self._began is None:
            return ""
        left = (now - self._began) / done * (state.max_steps - state.global_step)
        return f", {left / 60:.0f} min left"


class Stopper(TrainerCallback):
    """Ends a run after the present step, with a checkpoint, when somebody asks for it.

    Attributes:
        asked: Whether somebody has.
    """

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM ask; a second Ctrl-C ends at once."""
        before = {
            number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Have the checkpoint written."""
        if state.global_step < state.max_steps and _anybody(self.asked):
            control.should_save = True
            control.should_training_stop = True

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        board.line("training", "stopping after this step; a checkpoint will be there")


def _anybody(asked: bool) -> bool:
    """Whether any process was asked to stop: all stop after the same step, or none can go on."""
    state = PartialState()
    if state.num_processes == 1:
        return asked
    return bool(reduce(torch.tensor(int(asked), device=state.device), "sum").item())
