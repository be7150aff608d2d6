"""The report of a map from few labels: where it applies, and its scores on held-out labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from markupsafe import Markup
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geoml.io.areas import PixelAreas
from geoml.io.cards.map_card import MapCard
from geoml.io.report import images
from geoml.io.report.canvas import Canvas
from geoml.io.report.part import Drawing, ReportLayer
from geoml.io.report.template import template
from geoml.outputs._class_report import ClassCounter, ClassReport
from geoml.texts import counted, percent

BEYOND = "#dc2626"
"""Colour of pixels beyond a limit, which is none of the scale."""


@dataclass(frozen=True)
class Beside:
    """A layer beside the class: its ``title`` on the page, ``what`` a message calls it, the ends of its scale of
    colours as stored and in words, the stored value above which a pixel is counted (None: its mean is said), and what
    those pixels are, where they have a colour of their own."""

    title: str
    what: str
    low: float
    high: float
    ends: tuple[str, str]
    above: int | None = None
    beyond: str = ""


def layers(made: Mapping[str, Any], classes: int, fine: int) -> dict[str, Beside]:
    """The layers that a card's ``made`` says, by key; ``fine`` is a dissimilarity of 1 as stored."""
    found = {}
    if made.get("limit") is not None:
        found["sets"] = Beside("Classes in the set", "prediction sets", 1.0, float(max(classes, 2)), ("one", "all"))
    if made.get("references"):
        ends, beyond = ("like a label", "at the limit"), "beyond it, outside of what was taught"
        found["dissimilarity"] = Beside(
            "Outside of what was taught", "dissimilarity", 0.0, float(fine), ends, fine, beyond
        )
    if made.get("other"):
        found["disagreement"] = Beside("Disagreement", "disagreement", 0.0, 1.0, ("both agree", "another class"), 0)
    return found


class LandCoverCounter(ClassCounter):
    """As of classes, and how many pixels have which value in the layers beside."""

    beside: Mapping[str, NDArray[np.int64]]

    def add(self, row: int, layers: Mapping[str, NDArray[np.number]]) -> None:
        super().add(row, layers)
        for key, counts in self.beside.items():
            if key in layers:
                counts += np.bincount(layers[key].astype(np.intp).ravel(), minlength=256)

    def result(self) -> dict[str, Any]:
        found = {}
        for key, counts in self.beside.items():
            values = np.flatnonzero(counts[:255])
            found[key] = {"values": values.tolist(), "pixels": counts[values].tolist()}
        return super().result() | {"beside": found}


@dataclass
class _View:
    places: int
    kind: str
    folds: int
    ground: float
    draws: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


class LandCoverReport(ClassReport):
    """`geoml.io.report.part.ReportPart` of maps from few labels."""

    def __init__(self, card: MapCard, beside: str, steps: int, nodata: int, fine: int) -> None:
        super().__init__(card, beside, steps, nodata)
        self.beside = layers(card.made, len(card.classes), fine)
        more = {k: ReportLayer(k, b.what, Resampling.nearest, nodata) for k, b in self.beside.items()}
        self.layers = {**self.layers, **more}
        self.counts = {k: np.zeros(256, np.int64) for k in self.beside}

    def counter(self, shape: tuple[int, int], grid: Affine, crs: str) -> LandCoverCounter:
        """Counts a block."""
        counter = LandCoverCounter(PixelAreas(shape, grid, crs), shape[0], self.steps, (self.card.nodata, self.nodata))
        counter.beside = {k: np.zeros(256, np.int64) for k in self.beside}
        return counter

    def add(self, counted: Mapping[str, Any]) -> None:
        """Take the counts of a block."""
        super().add(counted)
        for key, counts in self.counts.items():
            given = counted["beside"][key]
            counts[np.array(given["values"], np.intp)] += np.array(given["pixels"], np.int64)

    def facts(self) -> Sequence[tuple[str, str]]:
        """Those of classes, and the shares beside."""
        more = {"dissimilarity": "unlike the labels", "disagreement": "models disagree"}
        shares = [(more[k], percent(v)) for k in more if (v := self._share(k)) is not None]
        return *super().facts(), *shares

    def drawings(self, stored: Mapping[str, NDArray[np.number]], canvas: Canvas) -> Sequence[Drawing]:
        """Classes, confidence, and what stands beside them."""
        found = [*super().drawings(stored, canvas)]
        for key, beside in self.beside.items():
            if key not in stored:
                continue
            table = images.quantity_colours(beside.low, beside.high, self.nodata)
            if beside.beyond and beside.above is not None:
                table[beside.above + 1 : self.nodata] = (*images.rgb(BEYOND), 255)
            colours = table[stored[key].astype(np.intp)]
            ends = {"gradient": images.gradient(), "low": beside.ends[0], "high": beside.ends[1]}
            ends |= {"beyond": beside.beyond, "colour": BEYOND, "share": percent(self._share(key))}
            alt = f"{beside.title}: {self._said(key)}; {canvas.extent()}."
            found.append(Drawing(beside.title, colours, alt, self._html("legend", ends)))
        return tuple(found)

    def section(self, scores: Mapping[str, Any] | None) -> Markup:
        """Areas of the classes, and what held-out labels say."""
        learnt = self.card.scores.get("learnt")
        if not isinstance(learnt, Mapping):
            return super().section(scores)
        return super().section(scores) + self._html("section", self._learnt(learnt))

    def _learnt(self, learnt: Mapping[str, Any]) -> _View:
        view = _View(learnt["places"], learnt["kind"], learnt["folds"], learnt["ground"], 0)
        view.rows = sorted(
            ({**row, "chosen": row["name"] == learnt["chosen"]} for row in learnt["rows"]),
            key=lambda r: -r["mean"],
        )
        for row in learnt["curve"]:
            view.draws = row["draws"]
            view.methods = [cell["name"] for cell in row["macro_f1"]]
            view.curve.append({"labels": row["labels"], "cells": row["macro_f1"]})
        sets = learnt["sets"]
        if sets["limit"] is None:
            view.said.append(
                f"There are no prediction sets: {counted(sets['places'], 'place')} cannot calibrate"
                f" {100 * sets['level']:g} %;"
                f" expected {sets['least']} at least."
            )
        else:
            view.said.append(
                f"A prediction set contains the true class {100 * sets['level']:g} % of the time on ground like that"
                f" of the labels; it was calibrated on {counted(sets['places'], 'place')}."
            )
            if "coverage" in sets:
                view.said.append(
                    f"On held-out ground prediction sets contained the true class {percent(sets['coverage'])} of the"
                    f" time, and had {sets['size']:.2f} classes on average."
                )
        view.said += [f"{b.title}: {self._said(k)}." for k, b in self.beside.items()]
        if other := self.card.made.get("other"):
            view.said.append(f"The other model is {other}.")
        else:
            view.said.append(
                "No map of disagreement: the model is on bands alone, and there is no other kind of features."
            )
        view.said += [str(line) for line in learnt.get("said", ())]
        return view

    def _said(self, key: str) -> str:
        share = self._share(key)
        if share is not None:
            return f"{percent(share)} of the pixels"
        counts = self.counts[key][:255]
        total = int(counts.sum())
        return f"{float(counts @ np.arange(255)) / total:.2f} classes on average" if total else "no pixel"

    def _share(self, key: str) -> float | None:
        above = self.beside[key].above if key in self.beside else None
        counts = self.counts.get(key, np.zeros(256, np.int64))[:255]
        return None if above is None or not counts.sum() else float(counts[above + 1 :].sum() / counts.sum())

    def _html(self, name: str, *more: object) -> Markup:
        module = template(Path(__file__).with_name("_landcover_report.html.j2")).module
        return Markup(str(vars(module)[name](*more)).rstrip("\n"))
