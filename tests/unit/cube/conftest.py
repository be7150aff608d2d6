"""Items made in code: three-band scenes in one UTM zone, with a quality band of classes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from shapely.geometry import box, mapping

from geoml.io.stac.catalog import BandMeta, Catalog, MaskMeta, Profile

CORNER = (500_000.0, 5_000_000.0)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog("made", str(tmp_path), "static", remote=False, root=tmp_path)


@pytest.fixture
def profile() -> Profile:
    """Bands in two assets, a quality band whose value 9 is cloud and 0 is unknown."""
    bands = {"rg": (BandMeta(name="red"), BandMeta(name="green", index=2)), "n": (BandMeta(name="nir"),)}
    return Profile(bands=bands, mask=MaskMeta(asset="quality", kind="values", bad=(9,), nodata=0))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., pystac.Item]:
    """``make(id, data (3, y, x), quality (y, x) | None, cloud=, date=, scale=, offset=, nodata=, shift=)``."""

    def build(
        name: str,
        data: np.ndarray[Any, Any],
        quality: np.ndarray[Any, Any] | None = None,
        *,
        cloud: float | None = 0.0,
        date: str = "2024-05-01",
        scale: float = 1e-4,
        offset: float = 0.0,
        nodata: float = 0,
        shift: float = 0.0,
        declared: str | None = None,
    ) -> pystac.Item:
        height, width = data.shape[1:]
        x, y = CORNER[0] + shift, CORNER[1]
        west, south, east, north = Transformer.from_crs(32632, 4326, always_xy=True).transform_bounds(
            x, y - 10 * height, x + 10 * width, y
        )
        shape = box(west, south, east, north)
        when = datetime.fromisoformat(date).replace(tzinfo=UTC)
        item = pystac.Item(name, mapping(shape), list(shape.bounds), when, {})
        if cloud is not None:
            item.properties["eo:cloud_cover"] = cloud
        layers = {"rg": data[:2], "n": data[2:]} | ({} if quality is None else {"quality": quality[None]})
        for key, layer in layers.items():
            path = tmp_path / f"{name}-{key}.tif"
            profile = {"driver": "GTiff", "count": len(layer), "height": height, "width": width, "dtype": layer.dtype}
            place = {"crs": "EPSG:32632", "transform": Affine(10, 0, x, 0, -10, y)}
            with rasterio.open(path, "w", tiled=True, blockxsize=64, blockysize=64, **profile, **place) as file:
                file.write(layer)
            fields: dict[str, Any] = {"type": "image/tiff; application=geotiff", "roles": ["data"]}
            numbers = {"raster:scale": scale, "raster:offset": offset, "nodata": nodata}
            extra = {"data_type": declared or str(layer.dtype)} | (numbers if key != "quality" else {})
            asset = pystac.Asset(str(path), media_type=fields["type"], roles=fields["roles"])
            asset.extra_fields["bands"] = [dict(extra) for _ in layer]
            item.add_asset(key, asset)
        return item

    return build
