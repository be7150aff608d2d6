"""A VRT over blocks against the blocks themselves, as GDAL reads both."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image

from geoml.grid.plane import Block, Plane
from geoml.io.cog.write import CogWriter
from geoml.io.desktop.map_layer import MapClass, MapLayer, Mosaic
from geoml.io.desktop.vrt import write_vrt

PLANE = Plane("EPSG:32621", 30.0, 0.5)
SIZE = 64
PLACES = ((0, 0), (0, 1), (1, 1))
"""Rows and columns of blocks; the fourth corner is not done."""
CLASSES = (MapClass(1, "water & ice", "#2b6fb3"), MapClass(3, "tree", "#1f6b35"))


def mosaic(at: tuple[int, int] = (-46, 11)) -> Mosaic:
    blocks = [Block(PLANE, SIZE, at[0] + y, at[1] + x) for y, x in PLACES]
    return Mosaic(PLANE, "", [b.id for b in blocks], [b.window for b in blocks])


def blocks_of(folder: Path, layer: MapLayer, values: NDArray[np.generic]) -> Mosaic:
    """Files of the blocks that hold ``values`` (band, y, x) of the whole mosaic."""
    made = mosaic()
    for key, window in zip(made.ids, made.windows, strict=True):
        path = folder / "cogs" / key / layer.file
        box = PLANE.geobox(window)
        options = {"nodata": layer.nodata, "scale": layer.scales, "tile": layer.tile, "bands": len(layer.bands)}
        with CogWriter(path, box, layer.dtype, **options) as cog:
            cog.write(values[(slice(None), *window.slices(made.window))])
    return made


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_pixels_place_nodata_and_scale_are_those_of_the_blocks(tmp_path: Path, dtype: str) -> None:
    nodata = {"uint8": 255, "int16": -32768, "float32": float("nan")}[dtype]
    values = (np.arange(2 * 128 * 128).reshape(2, 128, 128) % 250).astype(dtype)
    layer = MapLayer(
        key="value", title="value", group="map", file="value.tif", dtype=dtype, nodata=nodata, bands=("low", "high"),
        scales=(0.5, 0.25), offsets=(0.0, 0.0), tile=32, unit="m",
    )  # fmt: skip
    made = blocks_of(tmp_path, layer, values)
    write_vrt(layer, made, tmp_path / "layers" / "value.vrt")
    (tmp_path / "moved").mkdir()
    for name in ("layers", "cogs"):  # names are relative
        (tmp_path / name).rename(tmp_path / "moved" / name)
    expected = values.copy()
    expected[:, 64:, :64] = nodata
    with rasterio.open(tmp_path / "moved" / "layers" / "value.vrt") as vrt:
        np.testing.assert_array_equal(vrt.read(), expected)
        assert vrt.transform == PLANE.transform(made.window)
        assert vrt.crs == rasterio.crs.CRS.from_epsg(32621)
        assert vrt.scales == (0.5, 0.25)
        assert vrt.descriptions == ("low", "high")
        assert vrt.units == ("m", "m")
        assert str(vrt.nodata) == str(float(nodata))
        part = vrt.read(1, window=((0, 128), (0, 128)), out_shape=(32, 32))  # by overviews of the blocks
        assert part[:16].max() <= 250


def test_classes_have_names_and_only_their_own_colours(tmp_path: Path) -> None:
    layer = MapLayer(key="class", title="t", group="map", file="class.tif", nodata=255, tile=64, classes=CLASSES)
    made = blocks_of(tmp_path, layer, np.ones((1, 128, 128), np.uint8))
    write_vrt(layer, made, path := tmp_path / "layers" / "class.vrt")
    with rasterio.open(path) as vrt:
        colours = vrt.colormap(1)
    assert colours == {0: (0, 0, 0, 0), 1: (43, 111, 179, 255), 2: (0, 0, 0, 0), 3: (31, 107, 53, 255)}
    names = [e.text or "" for e in ElementTree.parse(path).iter("Category")]
    assert names == ["", "water & ice", "", "tree"]


def test_a_picture_lies_where_its_block_lies(tmp_path: Path) -> None:
    made = mosaic()
    for key in made.ids:
        picture = np.zeros((22, 22, 4), np.uint8)  # 64 pixels, each third one: the last reaches beyond the block
        picture[-1, :, 0], picture[..., 3] = 200, 255
        (tmp_path / "cogs" / key).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "cogs" / key / "preview.png")
    bands = ("red", "green", "blue", "alpha")
    layer = MapLayer(
        key="image", title="t", group="image", file="preview.png", bands=bands, scales=(1.0,) * 4, offsets=(0.0,) * 4,
        colours=True, factor=3, tile=0,
    )  # fmt: skip
    write_vrt(layer, made, tmp_path / "layers" / "image.vrt")
    with rasterio.open(tmp_path / "layers" / "image.vrt") as vrt:
        assert vrt.shape == (128, 128)
        assert [c.name for c in vrt.colorinterp] == list(bands)
        red = vrt.read(1)
    assert set(np.flatnonzero((red == 200).any(axis=1))) == {63, 64, 65, 127}  # of the upper blocks 63 to 65
    assert vrt.crs == rasterio.crs.CRS.from_epsg(32621)


def test_a_crs_that_is_none_of_a_registry_and_one_with_heights(tmp_path: Path) -> None:
    for n, crs in enumerate(("EPSG:32621+5773", "+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84 +type=crs")):
        layer = MapLayer(key="dtm", title="t", group="map", file="dtm.tif", crs=crs)
        write_vrt(layer, mosaic(), path := tmp_path / f"{n}.vrt")
        with rasterio.open(path) as vrt:
            assert vrt.crs == rasterio.crs.CRS.from_user_input(crs)
