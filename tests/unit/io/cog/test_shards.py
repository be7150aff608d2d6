"""Shards of an export of Earth Engine: put together as they were cut, and refused by name where they were not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine

from geoml import testing
from geoml.errors import InputError
from geoml.io.cog.read import header
from geoml.io.cog.read import read as read_pixels
from geoml.io.cog.scene_fields import SceneFields
from geoml.io.cog.scene_files import scenes_of
from geoml.io.cog.scene_items import write_scenes
from geoml.io.stac.bands import BandSpec

DATA = testing.smooth((2, 70, 90), seed=5)
TOLD = SceneFields()


def export(
    folder: Path, data: np.ndarray = DATA, height: int = 32, width: int = 64, name: str = "s2_20240601", **more: Any
) -> list[Path]:
    """A folder of shards as Earth Engine writes them: row and column of the first pixel in the name."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = range(0, data.shape[1], height), range(0, data.shape[2], width)
    return [
        shard(folder / f"{name}-{r:010d}-{c:010d}.tif", data[:, r : r + height, c : c + width], r, c, **more)
        for r in rows
        for c in columns
    ]


def shard(
    path: Path, data: np.ndarray, row: int, column: int, names: tuple[str, ...] = ("red", "nir"), **more: Any
) -> Path:
    place = {"crs": "EPSG:32621", "transform": Affine(10, 0, 600_000 + 10 * column, 0, -10, 7_000_000 - 10 * row)}
    size = {"count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **{**place, **more}) as file:
        file.write(data)
        for number, band in enumerate(names, 1):
            file.set_band_description(number, band)
    return path


def read(folder: Path) -> rasterio.DatasetReader:
    (place,) = (folder / "mosaics").glob("*.vrt")
    return rasterio.open(place)


def test_all_shards_of_an_export_are_one_scene_and_another_file_is_its_own(tmp_path: Path) -> None:
    export(tmp_path / "a")
    shard(tmp_path / "a" / "other_20240701.tif", DATA[:, :5, :5], 0, 0)
    scenes = scenes_of([str(tmp_path / "a")], TOLD)
    assert [(s.name, s.files[0].box.shape, f"{s.when:%Y-%m-%d}") for s in scenes] == [
        ("other_20240701", (5, 5), "2024-07-01"),
        ("s2_20240601", (70, 90), "2024-06-01"),
    ]
    write_scenes(scenes[1:], TOLD, tmp_path / "a", "an export")
    with read(tmp_path / "a") as file:  # GDAL is the oracle of our VRT
        assert np.array_equal(file.read(), DATA)
        assert file.descriptions == ("red", "nir")
        assert file.transform == Affine(10, 0, 600_000, 0, -10, 7_000_000)
    text = next((tmp_path / "a" / "mosaics").iterdir()).read_text()
    assert '<SourceFilename relativeToVRT="1" shared="0">../s2_20240601-0000000032-0000000064.tif' in text


def test_numbers_of_another_kind_make_no_shard_and_a_file_counts_once(tmp_path: Path) -> None:
    lone = shard(tmp_path / "frame_20240601-1717236000-1717239600.tif", DATA, 0, 0)
    (scene,) = scenes_of([str(lone)], TOLD)
    assert scene.files[0].href == str(lone)
    with pytest.raises(InputError, match=r"frame_20240601.*given twice"):
        scenes_of([str(tmp_path), str(lone)], TOLD)


def test_an_export_may_begin_with_any_shard_and_have_degrees_and_floats(tmp_path: Path) -> None:
    data = (DATA / 7).astype(np.float64)
    res = 8.983152841195215e-05
    for k, path in enumerate(export(tmp_path / "a", data)):
        row, column = k // 2 * 32, k % 2 * 64
        moved = Affine(res, 0, 11.2 + res * column, 0, -res, 48.1 - res * row)
        shard(path, data[:, row : row + 32, column : column + 64], row, column, crs="EPSG:4326", transform=moved)
    files = sorted(map(str, (tmp_path / "a").iterdir()), reverse=True)
    scenes = scenes_of(files, TOLD)
    write_scenes(scenes, TOLD, tmp_path / "made", "an export")
    with read(tmp_path / "made") as file:
        assert np.array_equal(file.read(), data)


def test_what_earth_engine_says_of_the_time_counts(tmp_path: Path) -> None:
    for path in export(tmp_path / "a", name="mosaic"):
        with rasterio.open(path, "r+") as file:
            file.update_tags(**{"system:time_start": "1717236000000"})
    (scene,) = scenes_of([str(tmp_path / "a")], TOLD)
    assert f"{scene.when:%Y-%m-%dT%H:%M:%S}" == "2024-06-01T10:00:00"


def broken(folder: Path) -> Iterator[tuple[str, str]]:
    """Exports with one fault, and what is said of it."""
    last = "s2_20240601-0000000032-0000000064.tif"

    def one(name: str) -> Path:
        export(folder / name)
        return folder / name

    part = DATA[:, 32:64, 64:]
    (one("gone") / last).unlink()
    yield "gone", f"s2_20240601 lacks {last}; expected all shards of the export"
    for path in one("row").glob("*-0000000032-*"):
        path.unlink()
    yield "row", "s2_20240601 lacks rows 32 to 63"
    for path in one("first").glob("*-0000000000.tif"):
        path.unlink()
    yield "first", "s2_20240601 lacks s2_20240601-0000000000-0000000000.tif"
    shard(one("bands") / last, part, 32, 64, names=("nir", "red"))
    yield "bands", f"{last} and s2_20240601-0000000000-0000000000.tif differ in bands"
    shard(one("dtype") / last, part.astype(np.float32), 32, 64)
    yield "dtype", f"{last} and .* differ in bands"
    shard(one("crs") / last, part, 32, 64, crs="EPSG:32622")
    yield "crs", f"{last} and .* differ in CRS"
    shard(one("nodata") / last, part, 32, 64, nodata=0)
    yield "nodata", f"{last} and .* differ in nodata"
    shard(one("moved") / last, part, 32, 64.4)  # type: ignore[arg-type]
    yield "moved", f"{last} is not on the grid of .* where its name says .off by 0.4 pixels"
    shard(one("coarse") / last, part, 32, 64, transform=Affine(20, 0, 600_640, 0, -20, 6_999_680))
    yield "coarse", f"{last} is not on the grid of "
    shard(one("large") / last, DATA[:, 32:70, 64:], 32, 64)
    yield "large", "shards of s2_20240601 that start at 32 have 32 and 38 pixels"
    for path in one("over").glob("*-0000000032-*"):
        left = 64 * path.name.endswith("64.tif")
        shard(path, DATA[:, 32:70, left : left + 64], 32, left)
    yield "over", "shards of s2_20240601 overlap: 32 to 70 and from 64"


def test_shards_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    for name, says in broken(tmp_path):
        with pytest.raises(InputError, match=says):
            scenes_of([str(tmp_path / name)], TOLD)


@pytest.mark.parametrize(
    ("dtype", "nodata", "told", "hole"),
    [
        ("float32", None, None, np.nan),
        ("uint16", 7, None, 7),
        ("uint16", None, 0.0, 0),
        ("uint16", 7, 0.0, 7),
        ("uint16", 7, -9999.0, 7),
        ("float32", -1, 0.0, -1),
        ("float32", np.nan, -9999.0, np.nan),
    ],
)
def test_shards_that_were_empty_may_be_left_out(
    tmp_path: Path, dtype: str, nodata: float | None, told: float | None, hole: float
) -> None:
    data = DATA.astype(dtype)
    export(tmp_path / "a", data, **({} if nodata is None else {"nodata": nodata}))[1].unlink()
    asked = SceneFields(nodata=told)
    scenes = scenes_of([str(tmp_path / "a")], asked, skipped=True)
    write_scenes(scenes, asked, tmp_path / "made", "an export")
    data[:, :32, 64:] = hole
    with read(tmp_path / "made") as file:
        assert np.array_equal(file.read(), data, equal_nan=True)
        assert (file.read_masks(1)[:32, 64:] == 0).all()
    (item,) = (pystac.Item.from_file(p) for p in (tmp_path / "made").glob("items/*.json"))
    band = item.assets["image"].extra_fields["bands"][0]
    said = None if band.get("nodata") is None else float(band["nodata"])
    spec = BandSpec(
        "one", "image", str(next((tmp_path / "made" / "mosaics").iterdir())), "red", nodata=said, remote=False
    )
    _, valid = read_pixels([spec], header(spec).geobox)
    none = [v for v in (nodata, told) if v is not None]
    assert np.array_equal(valid[0], np.isfinite(data[0]) & ~np.isin(data[0], none)), "of file and option, both count"


def test_whole_numbers_without_nodata_cannot_say_what_is_empty(tmp_path: Path) -> None:
    export(tmp_path / "a")[1].unlink()
    with pytest.raises(InputError, match="nodata: s2_20240601 says none for the shards that were left out"):
        scenes_of([str(tmp_path / "a")], TOLD, skipped=True)


@pytest.mark.parametrize("told", [-9999.0, 65536.0, 0.5, np.nan])
def test_what_the_numbers_cannot_hold_marks_no_shard(tmp_path: Path, told: float) -> None:
    export(tmp_path / "a")[1].unlink()
    with pytest.raises(InputError, match=r"nodata: .* for s2_20240601; expected a value of uint16"):
        scenes_of([str(tmp_path / "a")], SceneFields(nodata=told), skipped=True)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.tif"):
        scenes_of([str(tmp_path)], TOLD)
