"""A large scene made in code, of one date or two: four uint16 bands that compress like Sentinel-2, with STAC."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.windows import Window
from scipy.ndimage import zoom

BANDS = ("blue", "green", "red", "nir")
CRS, GSD, TILE = "EPSG:32633", 10.0, 512
DATES = ("2026-06-01", "2026-07-01")
LEFT, TOP = 491_520.0, 5_120_000.0  # on the corner of a block of 4096


def make(folder: Path, size: int, dates: int = 1, seed: int = 0) -> Path:
    """Write ``SIZE-DATES/scene-N.tif`` (deflate, predictor 2, tiles of 512), a region, a catalog; the path of that.

    Built strip by strip from fields on a coarse grid plus noise, so any size fits in memory; dates differ in the noise.
    """
    folder = folder / f"{size}-{dates}"
    folder.mkdir(parents=True, exist_ok=True)
    catalog = folder / "catalog.json"
    if catalog.exists():
        return catalog
    origin = Affine(GSD, 0, LEFT, 0, -GSD, TOP)
    ground = shapely.segmentize(shapely.box(LEFT, TOP - size * GSD, LEFT + size * GSD, TOP), 10_000)
    to = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    outline = shapely.transform(ground, lambda c: np.column_stack(to.transform(c[:, 0], c[:, 1])))
    (folder / "region.geojson").write_text(shapely.to_geojson(shapely.buffer(outline, -1e-5)), encoding="utf-8")
    root = pystac.Catalog("benchmark", "made scenes")
    for n in range(dates):
        _pixels(folder / f"scene-{n}.tif", size, origin, seed, n)
        item = pystac.Item(
            f"scene-{n}",
            shapely.geometry.mapping(outline),
            list(outline.bounds),
            datetime.fromisoformat(DATES[n]).replace(tzinfo=UTC),
            {"gsd": GSD, "proj:code": CRS, "proj:transform": list(origin)[:6], "proj:shape": [size, size]},
        )
        bands = [
            {"name": b, "eo:common_name": b, "data_type": "uint16", "nodata": 0, "raster:scale": 1e-4} for b in BANDS
        ]
        href = str(folder / f"scene-{n}.tif")
        item.add_asset("image", pystac.Asset(href, media_type=pystac.MediaType.COG, extra_fields={"bands": bands}))
        root.add_item(item)
    root.normalize_and_save(str(catalog.parent), pystac.CatalogType.ABSOLUTE_PUBLISHED)
    return catalog


def _pixels(path: Path, size: int, origin: Affine, seed: int, date: int) -> None:
    rng, noise = np.random.default_rng(seed), np.random.default_rng((seed, date))
    coarse = rng.uniform(200, 4000, (len(BANDS), size // 128 + 2, size // 128 + 2))
    profile = {"driver": "GTiff", "width": size, "height": size, "count": len(BANDS), "dtype": "uint16", "nodata": 0}
    profile |= {"crs": CRS, "transform": origin, "tiled": True, "blockxsize": TILE, "blockysize": TILE}
    profile |= {"compress": "deflate", "predictor": 2, "interleave": "pixel", "zlevel": 6, "bigtiff": "if_safer"}
    with rasterio.open(path, "w", **profile) as dst:
        for y in range(0, size, TILE):
            k = y // 128
            fields = zoom(coarse[:, k : k + TILE // 128 + 1, : size // 128 + 1], (1, 128, 128), order=1)
            strip = fields[:, :TILE, :size] + noise.normal(0, 60, (len(BANDS), TILE, size))
            dst.write(np.clip(strip, 1, 10000).astype(np.uint16), window=Window(0, y, size, TILE))
