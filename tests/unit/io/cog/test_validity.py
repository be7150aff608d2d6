"""Which pixels are data: the union of all who say no, against GDAL's masks of files in which each says it alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import reproject

from geoml.data import rasters
from geoml.errors import DataError
from geoml.io.cog import read as cog
from geoml.io.cog import validity
from geoml.io.cog.directories import mask_overviews
from geoml.io.stac.bands import BandSpec

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # masks beside rasters

UTM = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
SIDE, CELL = 128, 16
DATA, HIDDEN = 7, 99


def write(path: Path, data: np.ndarray, *, overviews: bool = False, alpha: bool = False, **options: Any) -> Path:
    """(band, y, x) as a tiled GeoTIFF, with averaged overviews of 2 and 4."""
    count, height, width = data.shape
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel"}
    profile = {"count": count, "height": height, "width": width, "dtype": data.dtype, "crs": "EPSG:32632"}
    with rasterio.open(path, "w", driver="GTiff", transform=UTM, **profile, **layout, **options) as file:
        if alpha:
            file.colorinterp = [*[ColorInterp.gray] * (count - 1), ColorInterp.alpha]
        file.write(data)
    if overviews:
        build(path)
    return path


def build(path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)


def hide(path: Path, mask: np.ndarray, *, inside: bool = True) -> None:
    """A mask (y, x), True where there are data: in the file, or beside it as NAME.msk."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as file:
        file.write_mask(mask)


def spec(path: Path, index: int = 1, **known: Any) -> BandSpec:
    return BandSpec("item", "asset", str(path), f"b{index}", index=index, remote=False, **known)


def box(res: float = 10.0, side: int = SIDE) -> GeoBox:
    return GeoBox((int(side * 10 / res), int(side * 10 / res)), UTM @ Affine.scale(res / 10), "EPSG:32632")


# ---- the property


VALUES: dict[str, tuple[float, float, float]] = {
    "uint8": (255, 0, 254),
    "uint16": (65535, 0, 1),
    "int16": (-9999, -32768, 0),
    "float32": (-9999.9, -3.4028234663852886e38, -1e30),
    "float64": (-3.4e38, -9999.9, 1e-3),
}
"""Nodata values of the file, the item and the YAML; the first of the floats are rounded on their way through text."""

CANNOT = {
    "u": (-9999.0, float("nan"), float("inf"), 70_000.0, 0.5),
    "i": (1e9, float("nan"), 0.5),
    "f": (float("nan"),),
}


@dataclass(frozen=True)
class Case:
    dtype: str
    tag: bool
    mask: str
    alpha: bool
    item: float | None
    yaml: float | None
    late: bool
    cells: tuple[int, ...]
    roll: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dtype = draw(st.sampled_from(sorted(VALUES)))
    _, item, yaml = VALUES[dtype]
    cannot = CANNOT[np.dtype(dtype).kind]
    return Case(
        dtype,
        draw(st.booleans()),
        draw(st.sampled_from(["none", "inside", "beside"])),
        draw(st.booleans()) and np.dtype(dtype).kind == "u",
        draw(st.sampled_from([None, item, *cannot])),
        draw(st.sampled_from([None, yaml, *cannot])),
        draw(st.booleans()),
        tuple(draw(st.lists(st.integers(0, 7), min_size=64, max_size=64))),
        draw(st.integers(0, 3)),
    )


def made(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (y, x), mask and opacity (y, x) bool; what is hidden by mask or alpha has another value."""
    dtype = np.dtype(case.dtype)
    tag, item, yaml = VALUES[case.dtype]
    kinds = np.kron(np.array(case.cells).reshape(8, 8), np.ones((CELL, CELL), int))
    kinds = np.roll(kinds, case.roll, (0, 1))
    values = np.full(kinds.shape, DATA, dtype)
    for kind, on, value in ((1, case.tag, tag), (2, case.item == item, item), (3, case.yaml == yaml, yaml)):
        values[(kinds == kind) & on] = value
    mask, opaque = kinds != 4, kinds != 5
    if case.mask != "none":
        values[~mask] = HIDDEN
    if case.alpha:
        values[~opaque] = HIDDEN
    if dtype.kind == "f":
        values[kinds == 6] = np.nan
        if case.tag:  # three units in the last place of float32 beside it
            values[kinds == 7] = dtype.type(tag) * dtype.type(1 + 3e-7)
    return values, mask, opaque


def pieces(case: Case, folder: Path) -> list[Path]:
    """A file for each who says no, in which GDAL hears it; with overviews that were made when all was known."""
    values, mask, opaque = made(case)
    dtype = np.dtype(case.dtype)
    said = [VALUES[case.dtype][0]] if case.tag else []
    said += [v for v in (case.item, case.yaml) if v is not None and validity.as_dtype(v, dtype) is not None]
    said += [float("nan")] if dtype.kind == "f" else []
    out = [write(folder / f"nodata{k}.tif", values[None], nodata=v, overviews=True) for k, v in enumerate(said)]
    if case.mask != "none":
        out.append(write(folder / "mask.tif", values[None]))
        hide(out[-1], mask)
        build(out[-1])
    if case.alpha:
        both = np.stack([values, np.where(opaque, np.iinfo(dtype).max, 0).astype(dtype)])
        out.append(write(folder / "alpha.tif", both, alpha=True, overviews=True))
    return out


def expected(files: list[Path], level: int | None) -> np.ndarray:
    """(y, x) True where GDAL calls the pixel valid in every file."""
    valid = np.ones((SIDE // (1 if level is None else 2 ** (level + 1)),) * 2, bool)
    for path in files:
        with rasterio.open(path, **({} if level is None else {"overview_level": level})) as file:
            valid &= file.read_masks(1) > 0
    return valid


def pure(valid: np.ndarray, factor: int) -> np.ndarray:
    """Where all pixels under one of an overview are alike; in the others it depends on how an overview is made."""
    cells = valid.reshape(SIDE // factor, factor, SIDE // factor, factor)
    found: np.ndarray = cells.all((1, 3)) | ~cells.any((1, 3))
    return found


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases())
def test_validity_is_the_union_of_all_who_say_no(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    folder = tmp_path_factory.mktemp("union")
    values, mask, opaque = made(case)
    bands = np.stack([values, np.where(opaque, np.iinfo(case.dtype).max, 0)]) if case.alpha else values[None]
    path = write(
        folder / "all.tif",
        bands.astype(case.dtype),
        nodata=VALUES[case.dtype][0] if case.tag else None,
        overviews=case.late,
        alpha=case.alpha,
    )
    if case.mask != "none":
        hide(path, mask, inside=case.mask == "inside")
    if not case.late:
        build(path)
    said = [v for v in (case.item, case.yaml) if v is not None]
    band = spec(path, nodata=next(iter(said), None), other_nodata=tuple(said[1:]))
    files = pieces(case, folder)
    full = expected(files, None)
    got, valid = cog.read([band], box())
    np.testing.assert_array_equal(valid[0], full)
    assert set(np.unique(got[0][valid[0]])) <= {np.dtype(case.dtype).type(DATA)}

    for level, factor in enumerate((2, 4)):
        got, valid = cog.read([band], box(10.0 * factor))
        one = np.logical_and.reduce([pure(expected([f], None), factor) for f in files]) if files else slice(None)
        np.testing.assert_array_equal(valid[0][one], expected(files, level)[one])
        assert np.abs(got[0][valid[0]].astype(float) - DATA).max(initial=0) < 1e-4

    other = GeoBox((150, 140), Affine(9, 0, 499_900, 0, -11, 5_000_200), "EPSG:32632")
    there = np.zeros(other.shape, np.uint8)
    reproject(
        full.astype(np.uint8), there, src_transform=UTM, dst_transform=other.affine,
        src_crs="EPSG:32632", dst_crs="EPSG:32632", resampling=Resampling.nearest,
    )  # fmt: skip
    got, valid = cog.read([band], other)
    assert (valid[0] == (there > 0)).mean() > 0.999  # ties
    assert np.abs(got[0][valid[0]].astype(float) - DATA).max(initial=0) < 1e-4

    if len(said) < 2:  # a training recipe knows one value
        data, known = rasters.read(path, [1], band.nodata)
        np.testing.assert_array_equal(known, full)
        assert set(np.unique(data[0][known])) <= {np.dtype(case.dtype).type(DATA)}
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("float32", -9999.0),
        ("float32", -3.4e38),
        ("float32", 0.1),
        ("float32", 1e-40),
        ("float64", 0.1),
        ("float64", -3.4e38),
    ],
)
def test_floats_are_compared_as_gdal_does(tmp_path: Path, dtype: str, nodata: float) -> None:
    kind = np.dtype(dtype)
    far = [100, 10**6, 10**8, 10**9] if abs(nodata) < 1e38 or dtype == "float64" else []  # their sum overflows in GDAL
    steps = np.array([0, 1, 2, 3, 4, 5, 8, *far], "i8")
    bits = np.array([nodata], kind).view(f"i{kind.itemsize}")
    values = np.concatenate(
        [(bits + steps).astype(bits.dtype).view(kind), (bits - steps).astype(bits.dtype).view(kind)]
    )
    values = values[np.isfinite(values)]
    path = write(tmp_path / "a.tif", np.pad(values, (0, 64 - len(values)))[None, None], nodata=nodata)
    with rasterio.open(path) as file:
        found = file.read_masks(1)[0] == 0
    np.testing.assert_array_equal(validity.equals(file_values(path), nodata), found)
    np.testing.assert_array_equal(~cog.read([spec(path)], GeoBox((1, 64), UTM, "EPSG:32632"))[1][0, 0], found)


def file_values(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)[0]


# ---- overviews that were made blind


def blind(path: Path, dtype: str = "int16", none: float = -9999, **options: Any) -> np.ndarray:
    """5000 with ``none`` in the first 63 columns, an odd number: an average over the edge is neither."""
    data = np.full((1, SIDE, SIDE), 5000, dtype)
    data[:, :, :63] = none
    write(path, data, overviews=True, **options)
    return data[0] != none


def read_at(path: Path, res: float, **known: Any) -> tuple[np.ndarray, np.ndarray]:
    values, valid = cog.read([spec(path, **known)], box(res))
    return values[0], valid[0]


@pytest.mark.parametrize("known", [{"nodata": -9999.0}, {"nodata": 0.0, "other_nodata": (-9999.0,)}])
@pytest.mark.parametrize("res", [20.0, 40.0, 27.0])
def test_overviews_that_did_not_know_nodata_are_not_read(tmp_path: Path, res: float, known: dict[str, Any]) -> None:
    blind(tmp_path / "a.tif")
    values, valid = read_at(tmp_path / "a.tif", res, **known)
    assert set(np.unique(values[valid])) == {5000}
    assert 0.45 < valid.mean() < 0.55


def test_overviews_that_knew_it_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tag knew it, or a value says nothing: then a coarse read stays as cheap as it was."""
    blind(tmp_path / "a.tif", nodata=-9999)
    opened: list[int | None] = []
    real = cog.open_path
    monkeypatch.setattr(cog, "open_path", lambda name, overview: opened.append(overview) or real(name, overview))
    for known in ({}, {"nodata": -9999.0}, {"nodata": float("nan")}, {"nodata": float("inf")}, {"nodata": 0.5}):
        values, valid = read_at(tmp_path / "a.tif", 20.0, **known)
        assert set(np.unique(values[valid])) == {5000}
    assert opened == [0] * 5
    read_at(tmp_path / "a.tif", 20.0, nodata=0.0)
    assert opened == [0] * 5


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside"])
@pytest.mark.parametrize("first", [True, False], ids=["mask first", "overviews first"])
@pytest.mark.parametrize("options", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}], ids=["", "BigTIFF", "big endian"])
def test_a_mask_that_overviews_do_not_have(tmp_path: Path, first: bool, inside: bool, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    known = np.ones((SIDE, SIDE), bool)
    known[:, :63] = False
    data = np.where(known, 5000, 100)[None].astype(np.uint16)
    write(path, data, overviews=not first, **options)
    hide(path, known, inside=inside)
    if first:
        build(path)
    assert mask_overviews(lambda start, count: path.read_bytes()[start : start + count]) == (
        2 if first and inside else 0
    )
    assert (tmp_path / "a.tif.msk").exists() is not inside
    for res in (10.0, 20.0, 40.0, 27.0):
        values, valid = read_at(path, res)
        assert set(np.unique(values[valid])) == {5000}
        assert 0.45 < valid.mean() < 0.55


def test_two_who_say_no_and_overviews_that_heard_one(tmp_path: Path) -> None:
    """GDAL averages with the mask and without the nodata value, or with the value and without alpha."""
    data = np.full((1, SIDE, SIDE), 5000, np.uint16)
    data[:, :, :33], data[:, :, 97:] = 65535, 9
    mask = np.ones((SIDE, SIDE), bool)
    mask[:, 97:] = False
    path = write(tmp_path / "mask.tif", data, nodata=65535)
    hide(path, mask)
    build(path)
    alpha = np.concatenate([data, np.where(mask, 65535, 0)[None].astype(np.uint16)])
    other = write(tmp_path / "alpha.tif", alpha, nodata=65535, alpha=True, overviews=True)
    for file in (path, other):
        for res in (20.0, 40.0):
            values, valid = read_at(file, res)
            assert set(np.unique(values[valid])) == {5000}
            assert 0.45 < valid.mean() < 0.55


def test_alpha_beside_five_bands(tmp_path: Path) -> None:
    """GDAL knows alpha in files of two and four bands only; orthomosaics have five bands and alpha."""
    data = np.full((6, 64, 64), 50, np.uint16)
    data[5, :, :5] = 0
    path = write(tmp_path / "a.tif", data, alpha=True, nodata=9)
    valid = cog.read([spec(path, 1), spec(path, 4)], box(side=64))[1]
    assert (~valid[:, :, :5]).all()
    assert valid[:, :, 5:].all()
    assert not rasters.read(path, [1, 4])[1][:, :5].any()


def test_a_mask_beside_the_raster_that_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.ones((1, 64, 64), np.uint8))
    (tmp_path / "a.tif.msk").write_bytes(b"<VRTDataset/>")
    with pytest.raises(DataError, match=r"item item, asset asset.*a\.tif\.msk"):
        cog.read([spec(path)], box(side=64))
    write(tmp_path / "a.tif.msk", np.ones((1, 32, 64), np.uint8))
    with pytest.raises(DataError, match=r"a\.tif\.msk beside it has \(32, 64\) pixels"):
        cog.read([spec(path)], box(side=64))
