"""The loss of a run, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

Points = Sequence[tuple[int, float]]

_SMOOTH: Final = 0.9


def draw_curves(folder: Path, title: str, trained: Points, held_out: Points) -> None:
    """Write ``loss.png`` and ``loss.svg``.

    Args:
        folder: Where to.
        title: What was trained.
        trained: Step and loss of each step.
        held_out: Step and loss of each look at the held-out rows.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Without a date or random ids the same run draws the same file.
    with mpl.rc_context({"svg.hashsalt": "corral", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if trained:
            axes.plot(*_columns(trained), color="#b0b7c3", linewidth=0.8, label="each step")
            axes.plot(*_columns(smoothed(trained)), color="#2b6cb0", label="smoothed")
        if held_out:
            axes.plot(*_columns(held_out), "o-", color="#c05621", label="held-out rows")
        axes.set(title=title, xlabel="step", ylabel="loss (nats a trained token)")
        axes.grid(visible=True, alpha=0.3)
        if trained or held_out:
            axes.legend()
        figure.savefig(folder / "loss.png")
        figure.savefig(folder / "loss.svg", metadata={"Date": None})


def smoothed(points: Points) -> Points:
    """An exponential mean that starts where the points do."""
    mean, weight, out = 0.0, 0.0, []
    for step, value in points:
        mean = _SMOOTH * mean + (1 - _SMOOTH) * value
        weight = _SMOOTH * weight + (1 - _SMOOTH)
        out.append((step, mean / weight))
    return out


def _columns(points: Points) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
