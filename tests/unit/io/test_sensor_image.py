"""Pictures of a sensor: where they begin, what they hold, and those that say too little."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine

from geoml.errors import DataError, InputError
from geoml.io.sensor_image import SensorImage, open_image
from geoml.testing.stereo import made_rpc, rasterio_rpc

RPC = made_rpc(64, 0.5, (0.05, 0.2), first=(300, 200))


def write(path: Path, *, placed: bool = True) -> Path:
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint16", "nodata": 0}
    place = {"transform": Affine.translation(200, 300)} if placed else {}
    with rasterio.open(path, "w", **profile, **place) as file:
        file.write(values, 1)
        file.rpcs = rasterio_rpc(RPC)
    return path


def test_a_picture_is_read_by_window_with_its_place(tmp_path: Path) -> None:
    image = open_image(str(write(tmp_path / "a.tif")))
    assert (image.first, image.shape, image.name) == ((300, 200), (64, 64), "a.tif")
    found = image.read(0, 2, 0, 3)
    assert np.isnan(found[0, 0])
    np.testing.assert_array_equal(found[1], [64, 65, 66])
    back = SensorImage.from_plain(json.loads(json.dumps(image.as_plain())))
    assert back.rpc.equals(image.rpc)
    assert (back.href, back.first, back.shape) == (image.href, image.first, image.shape)
    with pytest.raises(DataError, match="has no metadata"):
        SensorImage.from_plain({"href": "a"})


def test_a_tile_without_its_place_is_refused(tmp_path: Path) -> None:
    rpc = made_rpc(64, 0.5, (0.05, 0.2))
    for name, refused in (("IMG_x_R1C1.tif", False), ("IMG_x_R2C1.tif", True)):
        path = write(tmp_path / name, placed=False)
        with rasterio.open(path, "r+") as file:
            file.rpcs = rasterio_rpc(rpc)
        if refused:
            with pytest.raises(DataError, match=r"IMG_x_R2C1\.tif: a tile of a larger picture"):
                open_image(str(path))
        else:
            assert open_image(str(path)).first == (0, 0)


def test_items_with_no_or_two_pictures_or_an_rpc_elsewhere_are_refused(tmp_path: Path) -> None:
    item = pystac.Item("a", None, None, datetime(2020, 1, 1, tzinfo=UTC), {})
    path = tmp_path / "a.json"

    def written() -> str:
        path.write_text(json.dumps(item.to_dict(include_self_link=False)))
        return str(path)

    with pytest.raises(DataError, match="0 pictures"):
        open_image(written())
    item.add_asset("pan", pystac.Asset(str(write(tmp_path / "a.tif")), roles=["data"]))
    assert open_image(written()).first == (300, 200)
    item.add_asset("rpc", pystac.Asset("https://example.com/a.RPB"))
    with pytest.raises(InputError, match="RPC is elsewhere"):
        open_image(written())
    item.add_asset("ms", pystac.Asset(str(tmp_path / "b.tif"), roles=["data"]))
    with pytest.raises(DataError, match="2 pictures"):
        open_image(written())
