"""From the numbers of a file to physical values: missing, undetected, scaled, converted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoml.errors import DataError
from geoml.io.cubes.spec import CubeSpec
from geoml.io.units import convert

Numbers = NDArray[np.number]

HAIL = 53.0
"""dBZ; more is hail and not more rain (75 mm/h)."""


LARGEST = 1e30
"""No unit needs more, and single precision holds it."""


def rain_rate(dbz: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rain in mm/h of reflectivity in dBZ: Z = 200 R^1.6 (Marshall, Gunn and Palmer 1955), capped at `HAIL`."""
    return np.asarray((10.0 ** (np.minimum(dbz, HAIL) / 10) / 200) ** (1 / 1.6))


def physical(
    numbers: Numbers, valid: NDArray[np.bool_], spec: CubeSpec, scale: float = 1.0, offset: float = 0.0
) -> NDArray[np.float32]:
    """Values of ``spec.unit``, NaN where there are none.

    Args:
        numbers: as stored, any shape.
        valid: False where the file says that there is nothing.
        spec: tells what numbers mean.
        scale: of the file, where the spec is silent.
        offset: likewise.

    Raises DataError, saying how many there are, for values that are not plausible.
    """
    seen = valid & np.isfinite(numbers)
    for number in spec.missing:
        seen &= ~equal(numbers, number)
    dry = seen & equal(numbers, spec.undetected) if spec.undetected is not None else None
    scale = scale if spec.scale is None else spec.scale
    offset = offset if spec.offset is None else spec.offset
    with np.errstate(over="ignore"):
        values: NDArray[np.floating] = np.where(seen, numbers, np.nan).astype(np.float64) * scale + offset
    if count := int((np.abs(values) > LARGEST).sum()):  # NaN is not
        raise DataError(f"{count} values of {spec.name} are beyond {LARGEST:g}; is scale {scale:g} right?")
    if spec.conversion == "dbz":
        values = rain_rate(values)
    elif spec.conversion == "rate":
        values = convert(values.astype(np.float32), spec.file_unit, "mm") / spec.hours
    else:
        values = convert(values.astype(np.float32), spec.file_unit, spec.unit)
    made = np.asarray(values, np.float32)
    if dry is not None:
        made[dry] = spec.undetected_value
    made[~np.isfinite(made)] = np.nan
    _check(made, spec)
    return made


def equal(numbers: Numbers, number: float) -> NDArray[np.bool_]:
    """Where the numbers are this one, as their type has it."""
    if numbers.dtype.kind in "iub":
        return np.asarray(numbers == number) if float(number).is_integer() else np.zeros(numbers.shape, bool)
    with np.errstate(over="ignore"):
        return np.asarray((numbers == number) | (numbers.astype(np.float32) == np.float32(number)))


def _check(values: NDArray[np.float32], spec: CubeSpec) -> None:
    low, high = spec.plausible
    with np.errstate(invalid="ignore"):
        odd = (values < low) | (values > high)
    if count := int(odd.sum()):
        raise DataError(
            f"{count} of {int(np.isfinite(values).sum())} values of {spec.name} are not plausible, such as"
            f" {float(values[odd][0]):g} {spec.unit}; expected {low:g} to {high:g}, is {spec.file_unit} right?"
        )
