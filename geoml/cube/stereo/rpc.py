"""Ground to image and back by rational polynomials (RPC00B, NGA STDI-0002), float64, in numpy.

Rows and columns count from the *centre* of the first pixel of the sensor image (see `geoml.io.rpc`); heights are metres
above the ellipsoid. A `SensorModel` is such a model with a correction in the image (Fraser and Hanley 2003,
https://doi.org/10.14358/PERS.69.1.53), since RPC of two pictures disagree by some pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geoml.errors import DataError
from geoml.io.rpc import Floats, RpcCoefficients

STEPS = 20
"""Newton steps of the way back; it takes three or four."""
CLOSE = 1e-6
"""Pixels that the way back may miss."""


def _terms(x: Floats, y: Floats, z: Floats) -> Floats:
    """(20, n) monomials of normalised lon ``x``, lat ``y`` and height ``z`` in the order of RPC00B."""
    one = np.ones_like(x)
    return np.stack([
        one, x, y, z, x * y, x * z, y * z, x * x, y * y, z * z,
        x * y * z, x * x * x, x * y * y, x * z * z, x * x * y, y * y * y, y * z * z, x * x * z, y * y * z, z * z * z,
    ])  # fmt: skip


def _slopes(x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats]:
    """(20, n) derivatives of `_terms` by ``x`` and by ``y``."""
    o, i = np.zeros_like(x), np.ones_like(x)
    by_x = np.stack([
        o, i, o, o, y, z, o, 2 * x, o, o, y * z, 3 * x * x, y * y, z * z, 2 * x * y, o, o, 2 * x * z, o, o
    ])  # fmt: skip
    by_y = np.stack([
        o, o, i, o, x, o, z, o, 2 * y, o, x * z, o, 2 * x * y, o, x * x, 3 * y * y, z * z, o, 2 * y * z, o
    ])  # fmt: skip
    return by_x, by_y


@dataclass(frozen=True, eq=False)
class SensorModel:
    """Where a sensor image shows the ground.

    ``shift`` (2, 3) is added to (row, column) as a function of (1, row, column), the last two in half widths of the
    validity of the RPC: what a picture shows lies at the place of the RPC plus that. Raises DataError for an RPC whose
    denominators have zeros inside of its validity.
    """

    rpc: RpcCoefficients
    shift: Floats = field(default_factory=lambda: np.zeros((2, 3)))

    def __post_init__(self) -> None:
        sides = np.linspace(-1, 1, 5)
        for below in self._matrix[[1, 3]] @ _terms(*(a.ravel() for a in np.meshgrid(sides, sides, sides))):
            if not ((below > 0).all() or (below < 0).all()):
                raise DataError("RPC: a denominator has zeros where it should be valid")

    @cached_property
    def _matrix(self) -> Floats:
        return np.stack(self.rpc.polynomials)

    def _place(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """(2, n) normalised row and column of the RPC alone."""
        a, b, c, d = self._matrix @ _terms(x, y, z)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([a / b, c / d])

    def forward(self, lon: NDArray[np.floating], lat: NDArray[np.floating], h: NDArray[np.floating]) -> Floats:
        """(2, n) row and column of lon, lat in degrees and heights (n,) in metres above the ellipsoid."""
        off, scale = self.rpc.offsets[:, None], self.rpc.scales[:, None]
        normal = (np.stack([lat, lon, h]).astype(np.float64) - off[2:]) / scale[2:]
        raw = self._place(normal[1], normal[0], normal[2])
        return np.asarray(raw * scale[:2] + off[:2] + self.shift[:, :1] + self.shift[:, 1:] @ raw)

    def inverse(self, row: NDArray[np.floating], column: NDArray[np.floating], h: NDArray[np.floating]) -> Floats:
        """(2, n) lon and lat in degrees of what is seen at row, column (n,) if it has these heights; Newton's method.

        Raises DataError if that does not converge: the place or the height is beyond what the RPC is valid for.
        """
        off, scale = self.rpc.offsets, self.rpc.scales
        seen = np.stack([row, column]).astype(np.float64)
        z = (np.asarray(h, np.float64) - off[4]) / scale[4]
        x, y = np.zeros(seen.shape[1]), np.zeros(seen.shape[1])
        for _ in range(STEPS):
            terms = _terms(x, y, z)
            a, b, c, d = self._matrix @ terms
            with np.errstate(all="ignore"):
                raw = np.stack([a / b, c / d])
                # the shift is affine in the normalised place, so its slope is exact too
                miss = raw * scale[:2, None] + off[:2, None] + self.shift[:, :1] + self.shift[:, 1:] @ raw - seen
                if (np.abs(miss) < CLOSE).all():
                    return np.stack([x * scale[3] + off[3], y * scale[2] + off[2]])
                outer = np.diag(scale[:2]) + self.shift[:, 1:]
                columns = []
                for slope in _slopes(x, y, z):
                    da, db, dc, dd = self._matrix @ slope
                    columns.append(outer @ np.stack([(da * b - a * db) / b**2, (dc * d - c * dd) / d**2]))
                (xx, yx), (xy, yy) = columns
                det = xx * yy - xy * yx
                x = np.clip(x - (yy * miss[0] - xy * miss[1]) / det, -3, 3)
                y = np.clip(y - (xx * miss[1] - yx * miss[0]) / det, -3, 3)
        raise DataError("RPC: no ground is seen at these places; they or their heights are outside its validity")
