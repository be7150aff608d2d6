"""`geoml.apply`: run a model on an existing array or file, with results in xarray."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import odc.geo.xr
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError

from geoml.engine.contract import Layer, Rows, output_of
from geoml.engine.inference.choice import asked_of_machine, choose_backend
from geoml.engine.inference.lattice import grid_of
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages import cards
from geoml.engine.packages.package import load
from geoml.engine.results.layers import described, flags
from geoml.engine.stream.answers import joined, one_date, pixels_alone
from geoml.engine.stream.frames import Frame, chosen, read, scalings
from geoml.engine.stream.recipe import ImageRecipe
from geoml.engine.stream.run import compared
from geoml.engine.stream.write import unlike_pixels
from geoml.errors import DataError, InputError, ModelError, limits
from geoml.grid.ellipsoid import pixel_metres
from geoml.grid.plane import Window
from geoml.io.cards.domain import describe, verdict
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.each_band import of_each
from geoml.recipe import parse
from geoml.texts import in_python

log = logging.getLogger(__name__)

NEAR = 1.25
"""How many times larger or smaller than the model's gsd pixels may be."""
NEAR_EDGE = 0.1
"""Of a pixel: so little before the edge of a pixel of the plane is on it."""


@limits("apply")
def apply(model: str | Path, image: xr.DataArray | str | PathLike[str], **options: Any) -> xr.Dataset:
    """Run a model on ``image``. Returns one variable (y, x) for each layer, such as ``class`` and ``confidence``, with
    the scaling and attributes of `geoml.Run.layer` and the coordinates of the image.

    ``image`` is (band, y, x), or (y, x) for one band, in memory or dask, or a file that rasterio can open. Bands are
    matched by the names in its band coordinate or ``long_name``. Without names, they are taken in the order of the card
    if the number is the same. ``scale_factor``, ``add_offset``, ``nodata`` and a CRS are used if present. ``options``
    are the other fields of `ImageRecipe`: ``bands``, ``scale``, ``offset``, ``out_of_domain``.

    The answer is that of a run: chips lie on the grid of the CRS and are joined as there, so that it does not hang on
    the corner of the array. Nothing is seen beyond the array: pixels within the model's receptive field of an edge that
    is not the scene's (where chips are blended, within a chip of it) may have another answer than in a larger array.
    Without coordinates chips start at the first pixel.

    Raises InputError for wrong bands, a different pixel size or a model that does not take a single image, ModelError
    if the unit of the values differs from that of the training data, DataError for a file that cannot be read,
    TransientError if memory runs out, MissingExtra if the library of the back end is missing.
    """
    if not isinstance(image, xr.DataArray | str | PathLike):
        raise InputError(f"image: a {type(image).__name__}; expected an xarray.DataArray (band, y, x), or a path")
    recipe = parse(ImageRecipe, {**options, "model": str(model)}, "apply")
    card = cards.read(recipe.model, MapCard)
    output = output_of(card)
    one_date(card)
    if output.joiner == "owner":
        raise InputError(f"model: {card.name} finds things; expected one that answers every pixel, or geoml.predict")
    frame = _frame(image, card, recipe)
    if frame.geobox is not None and recipe.out_of_domain != "allow":
        _check_gsd(frame.geobox, card)
    try:
        compared(frame, card, recipe.out_of_domain)
    except ModelError as err:
        raise ModelError(in_python(str(err))) from err
    package = load(recipe.model)
    backend = choose_backend(package, grid_of(card, output).size, asked_of_machine()).backend
    rows = _rows(Predictor(package, output, backend=backend), frame)
    like = _like(image, frame.geobox)
    layers = {layer.key: _layer(layer, rows[layer.key], like) for layer in output.layers if not layer.extra}
    return xr.Dataset(layers, attrs={"model": f"{card.name}/{card.version}", **_fit(card, frame)})


def _frame(image: xr.DataArray | str | PathLike[str], card: MapCard, recipe: ImageRecipe) -> Frame:
    """The model's bands of a file or an array, with what it says of itself."""
    if not isinstance(image, xr.DataArray):
        try:
            return read(Path(image), 0, 0.0, card, recipe)
        except DataError as err:
            raise DataError(in_python(str(err))) from err
    dims = image.odc.spatial_dims or tuple(map(str, image.dims[-2:]))
    others = [str(d) for d in image.dims if d not in dims]
    if len(others) > 1 or image.ndim < 2:
        raise InputError(f"image: dimensions {' '.join(map(str, image.dims))}; expected (band, y, x) or (y, x)")
    whole = image.transpose(*others, *dims) if others else image.expand_dims("band")
    try:
        where = chosen(card, recipe, len(whole), _band_names(whole, (*others, "band")[0]), "image")
    except DataError as err:  # not of a file, but of what was passed
        raise InputError(in_python(str(err))) from err
    data = np.asarray(whole.isel({whole.dims[0]: where}).values)
    if data.dtype.kind not in "uif":
        raise InputError(f"image: numbers of type {data.dtype}; expected integers or floats")
    valid = np.isfinite(data).all(axis=0)
    if (nodata := image.odc.nodata) is not None and np.isfinite(nodata):
        valid &= (data != nodata).all(axis=0)
    scales, offsets = _said(image, "scale", len(whole), recipe), _said(image, "offset", len(whole), recipe)
    scale, offset = scalings(recipe, [(scales[k], offsets[k]) for k in where])
    return Frame(0, "image", 0.0, data, valid, scale, offset, image.odc.geobox)


def _rows(predictor: Predictor, frame: Frame) -> Rows:
    """What a run says of the frame, by the chips of a run. Raises as `Predictor.rows`."""
    pixels_alone(predictor)
    here = _window(frame, predictor.card.anchor)
    needed = predictor.needed(here)
    pixels = replace(frame.pixels(needed.moved(-here.y0, -here.x0)), origin=needed)
    return joined(here, list(predictor.rows(pixels, here)), predictor.output.joiner)


def _window(frame: Frame, anchor: float) -> Window:
    """The frame among all pixels of its CRS, as those of a plane are counted; without a place it starts at (0, 0).

    Pixels of a grid that runs do not have, such as a turned one, are counted along its own rows and columns.
    """
    height, width = frame.shape
    if frame.geobox is None:
        return Window(0, 0, height, width)
    col, row = ~frame.geobox.affine * (0.0, 0.0)  # of the origin of the CRS
    y0, x0 = (math.floor(-k - anchor + NEAR_EDGE) for k in (row, col))
    return Window(y0, x0, y0 + height, x0 + width)


def _said(image: xr.DataArray, what: Literal["scale", "offset"], count: int, recipe: ImageRecipe) -> Sequence[float]:
    """The scale or offset of each band; rioxarray has one attribute for all of them, and another where they differ.

    Raises InputError for numbers of other bands than these, unless the recipe has one.
    """
    one, each, default = {"scale": ("scale_factor", "scales", 1.0), "offset": ("add_offset", "offsets", 0.0)}[what]
    found = np.atleast_1d(np.asarray(image.attrs.get(one, image.attrs.get(each, default)), np.float64))
    if len(found) not in (1, count) and getattr(recipe, what) is None:
        raise InputError(f"image: {each} has {len(found)} numbers for {count} bands; expected one each, or {what}=")
    return [float(found[min(k, len(found) - 1)]) for k in range(count)]


def _band_names(image: xr.DataArray, dim: str) -> Sequence[str | None]:
    if dim in image.coords and image[dim].dtype.kind in "UO":
        return [str(name) for name in image[dim].values]
    long = image.attrs.get("long_name", ())
    return [str(name) for name in long] if isinstance(long, tuple | list) and len(long) == len(image) else []


def _check_gsd(geobox: GeoBox, card: MapCard) -> None:
    if geobox.crs is None:
        return
    try:
        sides = pixel_metres(geobox.affine, (int(geobox.shape[0]), int(geobox.shape[1])), str(geobox.crs))
    except ProjError:  # of no place on the Earth
        return
    if not all(card.gsd / NEAR <= side <= card.gsd * NEAR for side in sides):
        size = " x ".join(dict.fromkeys(f"{side:.3g}" for side in sides))
        raise InputError(
            f"image: pixels of {size} m; {card.name} takes {card.gsd:g} m: resample it first, or out_of_domain='allow'"
        )


def _like(image: object, geobox: GeoBox | None) -> xr.DataArray:
    """Nothing, on the grid of an image: its dimensions and coordinates (y, x)."""
    if isinstance(image, xr.DataArray):
        dims = image.odc.spatial_dims or tuple(map(str, image.dims[-2:]))
        return (
            image.isel({d: 0 for d in image.dims if d not in dims}, drop=True).transpose(*dims).drop_attrs(deep=False)
        )
    if geobox is None:
        return xr.DataArray(dims=("y", "x"))
    return xr.DataArray(coords=odc.geo.xr.xr_coords(geobox), dims=geobox.dimensions)


def _layer(layer: Layer, values: NDArray[np.number], like: xr.DataArray) -> xr.DataArray:
    """Stored values (band, y, x) as `described`, one band as (y, x)."""
    scales, offsets = (of_each(v, len(layer.names)) for v in (layer.scale, layer.offset))
    each = []
    for stored, scale, offset in zip(values, scales, offsets, strict=True):
        band: dict[str, Any] = {"nodata": layer.nodata, "unit": layer.unit}
        if (scale, offset) != (1.0, 0.0):
            band |= {"raster:scale": scale, "raster:offset": offset}
        each.append(described(xr.DataArray(stored, like.coords, like.dims), band))
    found = each[0] if len(each) == 1 else xr.concat(each, dim="band").assign_coords(band=list(layer.names))
    return found.assign_attrs(long_name=layer.title, **flags(layer.fields))


def _fit(card: MapCard, frame: Frame) -> dict[str, Any]:
    """How much of the image is unlike the training data, which is said in the log too; empty if it is not known."""
    if card.domain is None:
        return {}
    known, unlike = unlike_pixels(card, frame)
    if not known:
        return {}
    domain = {"outside": round(unlike / known, 6), "verdict": verdict(unlike / known)}
    if domain["verdict"] != "inside":
        log.warning("%s: %s", card.name, describe(domain))
    return {f"domain_{key}": value for key, value in domain.items()}
