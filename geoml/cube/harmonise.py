"""Radiometric normalisation of a pair: the second date in the numbers of the first, band by band.

``histogram`` maps quantiles onto quantiles: any monotonic difference, but it takes wide change for a change of light.
``invariant`` fits a line through the pixels that did not change (pseudo-invariant features), found by IR-MAD:
Canty & Nielsen 2008, https://doi.org/10.1016/j.rse.2007.07.013.

Both are fitted on a sample of the whole region, once for a run, so that the answer does not depend on how work is cut.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from geoml.cube import irmad
from geoml.errors import DataError, InputError, unknown
from geoml.recipe import Frozen

How = Literal["histogram", "invariant"]

QUANTILES = np.concatenate([[0.001, 0.005], np.linspace(0.01, 0.99, 99), [0.995, 0.999]])
"""Knots of a histogram curve; beyond them a few outliers would decide."""
UNCHANGED = 0.9
"""Probability of no change above which a pixel is invariant."""
FEWEST = 50
"""Pixels that a fit needs, for each band."""
OUTLIER = 3.0
"""Robust standard deviations from the line beyond which a pixel is left out."""

Sample = NDArray[np.float64]


class Curve(Frozen):
    """Of one band: piecewise linear from ``x`` (second date) to ``y`` (first); beyond its ends with its mean slope."""

    model_config = ConfigDict(allow_inf_nan=False)

    x: tuple[float, ...] = Field(min_length=2, description="increasing")
    y: tuple[float, ...] = Field(min_length=2, description="as many as x")

    @model_validator(mode="after")
    def _is_a_function(self) -> Self:
        if len(self.x) != len(self.y) or any(a >= b for a, b in zip(self.x, self.x[1:], strict=False)):
            raise ValueError("x, y: expected equally many, x increasing")
        return self

    @property
    def gain(self) -> float:
        """Mean slope; of a line its gain."""
        return (self.y[-1] - self.y[0]) / (self.x[-1] - self.x[0])

    @property
    def offset(self) -> float:
        """Value at zero of the line through both ends."""
        return self.y[0] - self.gain * self.x[0]


class Transform(Frozen):
    """What brings the second date to the radiometry of the first; JSON through pydantic."""

    model_config = ConfigDict(allow_inf_nan=False)

    how: How
    bands: tuple[Curve, ...] = Field(min_length=1)
    used: float = Field(ge=0, le=1, description="share of the sample that was fitted; of 'invariant': did not change")

    def apply(self, data: NDArray[np.number]) -> NDArray[np.float32]:
        """(band, y, x) of the second date, in the numbers of the sample, as float32; NaN stays NaN.

        Raises InputError for another number of bands.
        """
        if data.ndim != 3 or len(data) != len(self.bands):
            raise InputError(f"data: shape {data.shape}; expected ({len(self.bands)}, y, x)")
        out = np.empty(data.shape, np.float32)
        for band, curve, values in zip(out, self.bands, data, strict=True):
            np.subtract(values, curve.x[0], out=band, casting="unsafe")  # first, so that a large offset costs no digits
            band *= np.float32(curve.gain)
            band += np.float32(curve.y[0])
            if len(curve.x) > 2:
                inside = (values >= curve.x[0]) & (values <= curve.x[-1])
                band[inside] = np.interp(values[inside], curve.x, curve.y)
        return out


def fit(first: NDArray[np.number], second: NDArray[np.number], how: How) -> Transform:
    """Fit on a sample of pixels (N, band) that are valid on both dates, the same pixels in the same order.

    Pixels that are not finite are left out. A band without contrast on the second date gets an offset only. Raises
    InputError for an unknown way or shapes that do not fit, DataError for too few pixels, or a band whose unchanged
    pixels do not rise with those of the other date.
    """
    if how not in get_args(How):
        raise unknown("normalise", how, get_args(How))
    if first.shape != second.shape or first.ndim != 2 or not first.shape[1]:
        raise InputError(f"first, second: shapes {first.shape}, {second.shape}; expected (N, band) twice")
    finite = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    x, y = second[finite].astype(np.float64), first[finite].astype(np.float64)
    _enough(len(x), x.shape[1])
    if how == "histogram":
        curves = [_matched(a, b) for a, b in zip(x.T, y.T, strict=True)]
        return Transform(how=how, bands=tuple(curves), used=len(x) / len(first))
    kept = no_change(y, x) > UNCHANGED
    _enough(int(kept.sum()), x.shape[1])
    lines = [_line(a, b, band) for band, (a, b) in enumerate(zip(x[kept].T, y[kept].T, strict=True))]
    return Transform(how=how, bands=tuple(lines), used=float(kept.sum() / len(first)))


def no_change(first: Sample, second: Sample) -> Sample:
    """(N,) probability that a pixel did not change, of two (N, band) samples, by IR-MAD (`geoml.cube.irmad`)."""
    both = np.hstack([first, second])
    both = (both - both.mean(axis=0)) / np.maximum(both.std(axis=0), np.finfo(float).tiny)
    return irmad.reweighted(both, first.shape[1], corrected=True).no_change(both)


def _enough(count: int, bands: int) -> None:
    if count < FEWEST * bands:
        expected = f"expected {FEWEST * bands} or more, or no normalisation"
        raise DataError(f"normalise: {count} pixels to fit {bands} bands on; {expected}")


def _matched(x: Sample, y: Sample) -> Curve:
    """Quantile on quantile; equal quantiles of ``x`` (integers, saturation) get the mean of theirs."""
    knots, index = np.unique(np.quantile(x, QUANTILES), return_inverse=True)
    values = np.bincount(index, np.quantile(y, QUANTILES)) / np.bincount(index)
    if len(knots) < 2:
        return _moved(x, y)
    return Curve(x=tuple(knots.tolist()), y=tuple(values.tolist()))


def _line(x: Sample, y: Sample, band: int) -> Curve:
    """Orthogonal regression, both dates in their own standard deviations since both have noise, without outliers.

    In standard deviations the orthogonal line is the diagonal: the gain is the ratio of the two, whatever the units.
    """
    kept = np.ones(len(x), bool)
    for _ in range(10):
        if np.ptp(x[kept]) == 0:
            return _moved(x[kept], y[kept])
        rise = np.corrcoef(x[kept], y[kept])[0, 1] if np.ptp(y[kept]) else 0.0
        if not rise > 0.3:
            said = f"correlate by {rise:.2f} only; expected 0.3 or more, or no normalisation"
            raise DataError(f"normalise: unchanged pixels of band {band + 1} {said}")
        gain = y[kept].std() / x[kept].std()
        rest = y - y[kept].mean() - gain * (x - x[kept].mean())
        size = 1.4826 * np.median(np.abs(rest[kept] - np.median(rest[kept])))
        fits = np.abs(rest - np.median(rest[kept])) <= max(OUTLIER * size, 1e-9 * np.abs(y).max())
        if (fits == kept).all():
            break
        kept = fits
    middle_x, middle_y = x[kept].mean(), y[kept].mean()
    low, high = float(x.min()), float(x.max())
    return Curve(x=(low, high), y=tuple(float(middle_y + gain * (v - middle_x)) for v in (low, high)))


def _moved(x: Sample, y: Sample) -> Curve:
    by = float(np.median(y) - np.median(x))
    at = float(np.median(x))
    return Curve(x=(at, at + 1), y=(at + by, at + 1 + by))
