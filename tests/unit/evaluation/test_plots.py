"""Plots: where a value stands, and that names fit."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from evaluation.intervals import Interval
from evaluation.plots import Row, Scale, describe, dots, fitting, percent, rates


def centres(svg: str) -> list[float]:
    return [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]


def test_values_stand_where_the_axis_says() -> None:
    rows = [Row("a", [Interval(0.0, 0.0, 0.2, 5)]), Row("b", [Interval(1.0, 0.8, 1.0, 5)])]
    svg = dots("Title", ["s"], rows, rates())
    lines = re.findall(r'x="([\d.]+)" y="\d+" text-anchor="middle"[^>]*>([^<]+)<', svg)
    axis = {text: float(x) for x, text in lines}
    assert [*axis] == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    assert centres(svg) == [axis["0 %"], axis["100 %"]]
    (whisker, _) = re.findall(r'x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"[^>]*stroke-width="2"', svg)
    assert [*map(float, whisker)] == [axis["0 %"], axis["20 %"]]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.1, 0.9, [0.2, 0.4, 0.6, 0.8]),
        (1.8, 3.1, [2.0, 2.5, 3.0]),
        (100.0, 1000.0, [200.0, 400.0, 600.0, 800.0, 1000.0]),
        (2.0, 2.0, [1.6, 1.8, 2.0, 2.2, 2.4]),
    ],
)
def test_a_fitting_scale_has_round_lines(low: float, high: float, ticks: list[float]) -> None:
    scale = fitting([Row("a", [Interval((low + high) / 2, low, high, 3), None])], str)
    assert scale.low < low <= high < scale.high
    assert scale.ticks == pytest.approx(ticks)


def test_what_is_beyond_the_axis_stands_at_its_end() -> None:
    scale = Scale(0.0, 1.0, 0.5, percent)
    assert scale.place(7.0, 100.0) == scale.place(1.0, 100.0)


def test_long_names_get_room_and_lines_of_their_own() -> None:
    name = "a-model-with-quite-a-long-name"
    rows = [Row(name, [Interval(0.5, 0.4, 0.6, 9)] * 4)]
    svg = ET.fromstring(dots("T", [f"{name}-{n}" for n in range(4)], rows, rates()))
    texts = [text for text in svg.iter() if text.tag.endswith("text")]
    legend = [
        (text.text, text.get("y")) for text in texts if (text.text or "").startswith(name + "-")
    ]
    assert len(legend) == 4
    assert len({y for _, y in legend}) > 1
    (label,) = [text for text in texts if text.text == name]
    assert float(label.get("x") or 0) > 7 * len(name)


def test_each_series_has_a_shape_and_a_colour_of_its_own() -> None:
    rows = [Row("a", [Interval(0.5, 0.4, 0.6, 9)] * 4)]
    svg = dots("T", ["a", "b", "c", "d"], rows, rates())
    assert len({*re.findall(r'fill="(#[0-9a-f]{6})"', svg)}) == 4
    assert svg.count("<circle") == svg.count("<rect") == 2  # in the plot and in the legend


def test_describe() -> None:
    assert describe(Interval(0.375, 0.2, 0.61, 16), percent) == "38 % (20 % to 61 %), n 16"
