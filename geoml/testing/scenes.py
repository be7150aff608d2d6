"""Synthetic scenes and models with known results, to test geoml, a catalog or a model without a download.

`write_catalog` turns arrays into COGs with STAC items, a static catalog and the YAML that describes it. The results of
the models can be computed by hand: `constant_model` gives one class everywhere, `threshold_model` the class by value,
and `small_unet` is a convolutional network whose truth is one forward pass over the whole scene.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import shapely
import torch
import yaml
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry import mapping
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.engine.packages import package
from geoml.engine.packages.exported import save_exported
from geoml.grid.plane import Plane, Window
from geoml.grid.region import from_geometry
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.tasks.segmentation import Task

BAD_QUALITY = 1
"""Value of a made quality band where the pixel must not be used."""

Array = NDArray[Any]

COLORS = ("#1f78b4", "#33a02c", "#ff7f00", "#e31a1c", "#6a3d9a", "#b15928")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One synthetic item: ``data`` (band, y, x) as stored; physical value = number * ``scale`` + ``offset``.

    ``origin`` is the upper left corner and ``res`` the pixel size, both in units of ``crs``. ``quality`` (y, x) uint8
    becomes a second asset, `BAD_QUALITY` where a pixel must not be used. ``declared=False`` leaves scale and offset out
    of the item, so that the catalog's YAML can state them.
    """

    id: str
    data: Array
    bands: tuple[str, ...]
    crs: str = "EPSG:32621"
    origin: tuple[float, float] = (600_000.0, 7_200_000.0)
    res: float = 10.0
    nodata: float | None = 0
    scale: float = 1e-4
    offset: float = 0.0
    datetime: str = "2024-06-01T12:00:00Z"
    cloud_cover: float | None = None
    quality: NDArray[np.uint8] | None = None
    declared: bool = True
    unit: str | None = None
    properties: Mapping[str, object] = field(default_factory=dict)

    @property
    def transform(self) -> Affine:
        return Affine(self.res, 0, self.origin[0], 0, -self.res, self.origin[1])

    @property
    def window(self) -> Window:
        """The scene's pixels on the plane of its CRS and resolution, on which ``origin`` must lie."""
        height, width = self.data.shape[1:]
        (x, y), r = self.origin, self.res
        return Plane(self.crs, r).window(x, y - height * r, x + width * r, y)

    @property
    def outline(self) -> shapely.MultiPolygon:
        """The scene's outline in degrees, split at the antimeridian."""
        height, width = self.data.shape[1:]
        (x, y), r = self.origin, self.res
        edge = shapely.segmentize(shapely.box(x, y - height * r, x + width * r, y), max(height, width) * r / 16)
        to = pyproj.Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        return from_geometry(shapely.transform(edge, lambda c: np.column_stack(to.transform(c[:, 0], c[:, 1]))))

    def bbox(self, *, inner: float = 0.0) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees, ``inner`` of the width and height cut off at each side."""
        west, south, east, north = self.outline.bounds
        dx, dy = (east - west) * inner, (north - south) * inner
        return west + dx, south + dy, east - dx, north - dy


def smooth(
    shape: tuple[int, int, int], *, seed: int = 0, cell: int = 24, low: int = 500, high: int = 6000
) -> NDArray[np.uint16]:
    """(band, y, x) uint16 between ``low`` and ``high``: blobs ``cell`` pixels wide under a little noise."""
    random = np.random.default_rng(seed)
    bands, height, width = shape
    coarse = torch.from_numpy(random.random((1, bands, -(-height // cell) + 1, -(-width // cell) + 1)))
    size = [n * cell for n in coarse.shape[-2:]]
    blobs = F.interpolate(coarse, size=size, mode="bilinear")[0, :, :height, :width].numpy()
    values = np.clip(blobs + 0.03 * random.standard_normal(shape), 0, 1)
    return (low + values * (high - low)).astype(np.uint16)


def write_catalog(
    folder: Path,
    scenes: Sequence[Scene],
    *,
    collection: str = "made",
    profile: Mapping[str, object] | None = None,
    licence: str = "CC0-1.0",
) -> Path:
    """Write scenes as COGs with a static catalog in ``folder`` and its YAML as ``folder`` + ``.yaml``.

    Returns the path of ``catalog.json``. With ``GEOML_CATALOGS`` set to the parent folder, the folder's name is also
    the catalog's name, and ``profile`` (fields of a collection in the YAML) then applies.
    """
    for scene in scenes:
        _write_item(folder / scene.id, scene, collection)
    links = [{"rel": "item", "href": f"./{s.id}/item.json", "type": "application/geo+json"} for s in scenes]
    about = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": collection,
        "description": "made scenes",
        "license": licence,
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": links,
    }
    child = {"rel": "child", "href": "./collection.json", "type": "application/json"}
    top = {"type": "Catalog", "stac_version": "1.1.0", "id": folder.name, "description": "made", "links": [child]}
    (folder / "collection.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "catalog.json").write_text(json.dumps(top), encoding="utf-8")
    mask = {"asset": "quality", "kind": "values", "bad": [BAD_QUALITY]}
    known = {"mask": mask} if any(s.quality is not None for s in scenes) else {}
    file = {
        "title": "made scenes",
        "url": f"{folder.name}/catalog.json",
        "kind": "static",
        "default_collection": collection,
        "collections": {collection: {**known, **(profile or {})}},
    }
    folder.with_name(f"{folder.name}.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
    return folder / "catalog.json"


def _write_item(folder: Path, scene: Scene, collection: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    assets = {"image": _asset(folder / "image.tif", scene, scene.data, scene.nodata, scene.bands)}
    if scene.quality is not None:
        assets["quality"] = _asset(folder / "quality.tif", scene, scene.quality[None], None, ("quality",))
    outline = scene.outline
    west, south, east, north = outline.bounds
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": scene.id,
        "collection": collection,
        "geometry": mapping(outline.geoms[0] if len(outline.geoms) == 1 else outline),
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": scene.datetime,
            "proj:code": scene.crs,
            "proj:shape": list(scene.data.shape[1:]),
            "proj:transform": list(scene.transform)[:6],
            **({} if scene.cloud_cover is None else {"eo:cloud_cover": scene.cloud_cover}),
            **scene.properties,
        },
        "links": [],
        "assets": assets,
    }
    (folder / "item.json").write_text(json.dumps(item), encoding="utf-8")


def _asset(path: Path, scene: Scene, data: Array, nodata: float | None, names: Sequence[str]) -> dict[str, object]:
    write_cog(path, data, crs=scene.crs, transform=scene.transform, nodata=nodata)
    bands: list[dict[str, object]] = [{"name": n, "data_type": data.dtype.name} for n in names]
    for band in bands:
        if nodata is not None:
            band["nodata"] = nodata
        if scene.declared and data is scene.data:
            band |= {"raster:scale": scene.scale, "raster:offset": scene.offset}
            band |= {} if scene.unit is None else {"unit": scene.unit}
    return {
        "href": f"./{path.name}",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "roles": ["data"],
        "bands": bands,
    }


def write_cog(path: Path, data: Array, *, crs: str, transform: Affine, nodata: float | None = None) -> None:
    """Write (band, y, x) as a COG by GDAL's own driver, in tiles of 256."""
    profile = {"driver": "COG", "count": len(data), "height": data.shape[1], "width": data.shape[2]}
    options = {"BLOCKSIZE": 256, "COMPRESS": "DEFLATE", "OVERVIEWS": "NONE", "NUM_THREADS": 1}
    place = {"crs": crs, "transform": transform, "nodata": nodata}
    with rasterio.open(path, "w", dtype=data.dtype, **profile, **place, **options) as file:
        file.write(data)


def card(name: str, bands: Sequence[str | Band], classes: Sequence[str], **changes: object) -> MapCard:
    """A card for a synthetic model: class k has the value k, and inputs are not scaled."""
    known: dict[str, object] = {
        "name": name,
        "architecture": "unet",
        "task": "segmentation",
        "gsd": 10.0,
        "chip_size": 128,
        "overlap": 32,
        "license": "CC0-1.0",
        "bands": [Band(name=b) if isinstance(b, str) else b for b in bands],
        "classes": [ClassInfo(value=k, name=c, color=COLORS[k % len(COLORS)]) for k, c in enumerate(classes)],
    }
    return MapCard.model_validate({**known, **changes})


def constant_model(
    folder: Path, bands: Sequence[str], classes: Sequence[str], answer: int, **changes: object
) -> MapCard:
    """Write a U-Net that predicts class ``answer`` (an index) everywhere; keywords change the card."""
    made = card("constant", bands, classes, config=dict(_UNET), **changes)
    module = package.build(made)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
        bias = next(w for w in reversed(list(module.parameters())) if w.shape == (len(classes),))
        bias[answer] = 2.0
    return package.save(module, made, folder)


def threshold_model(
    folder: Path,
    bands: Sequence[str],
    thresholds: Sequence[float],
    *,
    steepness: float = 100.0,
    names: Sequence[str] = (),
    **changes: object,
) -> MapCard:
    """Write an exported program whose class is the number of ``thresholds`` (rising) below the first band's value.

    Classes are called by ``names``, or level-0, level-1 and so on.
    It runs in full precision only: rounding the input to bf16 moves the thresholds.
    """
    classes = list(names) or [f"level-{k}" for k in range(len(thresholds) + 1)]
    layer = nn.Conv2d(len(bands), len(classes), 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, 0, 0, 0] = steepness * torch.arange(len(classes))
        layer.bias.copy_(-steepness * torch.tensor([sum(thresholds[:k]) for k in range(len(classes))]))  # type: ignore[union-attr]
    made = card("threshold", bands, classes, **changes)
    example = torch.zeros(2, len(bands), made.chip_size, made.chip_size)
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    return save_exported(torch.export.export(layer.eval(), (example,), dynamic_shapes=(free,)), made, folder)


def small_unet(
    folder: Path, bands: Sequence[str], classes: Sequence[str], *, steps: int = 40, seed: int = 0, **changes: object
) -> MapCard:
    """Write a small U-Net trained for a few seconds to tell levels of the blurred first band apart."""
    torch.manual_seed(seed)
    scaled = [Band(name=b, mean=0.3, std=0.15) for b in bands]
    made = card("small-unet", scaled, classes, config=dict(_UNET), **changes)
    module = package.build(made)
    task = Task(len(classes))
    optimiser = torch.optim.Adam(module.parameters(), 3e-3)
    for step in range(steps):
        scene = torch.from_numpy(smooth((len(bands), 256, 256), seed=1000 + step).astype(np.float32))
        x = (scene * 1e-4).unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).flatten(0, 1)
        loss = task.loss(module((x - 0.3) / 0.15), _levels(x, len(classes)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return package.save(module.eval(), made, folder)


_UNET: Mapping[str, object] = {"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)}


def _levels(x: Tensor, classes: int) -> Tensor:
    """(B, H, W) index of the level of the first band's mean over 5 x 5 pixels; levels are equally wide."""
    blurred = F.avg_pool2d(x[:, :1], 5, 1, 2, count_include_pad=False)[:, 0]
    cuts = torch.linspace(0.05, 0.6, classes + 1)[1:-1]
    return torch.bucketize(blurred, cuts)


def levels(data: Array, thresholds: Sequence[float], scale: float = 1e-4, offset: float = 0.0) -> NDArray[np.uint8]:
    """What `threshold_model` predicts: (y, x) class of ``data`` (band, y, x) with its scale and offset."""
    physical = data[0].astype(np.float64) * scale + offset
    return np.asarray(np.searchsorted(np.asarray(thresholds), physical, side="left"), np.uint8)


@dataclass(frozen=True)
class Map:
    """One asset of all blocks of a run on one plane: ``data`` (band, y, x) holds ``window``."""

    data: NDArray[np.uint8]
    window: Window
    plane: Plane

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint8]:
        """First band at places in units of the CRS; they must lie in the window."""
        res, anchor = self.plane.res, self.plane.anchor
        rows = np.floor(-y / res - anchor).astype(int) - self.window.y0
        cols = np.floor(x / res - anchor).astype(int) - self.window.x0
        return np.asarray(self.data[0, rows, cols])

    def part(self, window: Window) -> NDArray[np.uint8]:
        """(band, y, x) of ``window``, which must lie in the map."""
        return self.data[(slice(None), *window.slices(self.window))]


def read_map(out: Path, asset: str = "class", *, fill: int = 255) -> dict[str, Map]:
    """The output of a run by CRS: the blocks of ``out`` as one array each, ``fill`` where there is no block."""
    files: dict[str, list[tuple[Window, Plane, NDArray[np.uint8]]]] = {}
    for path in sorted((out / "items").glob("*.json")):
        item = json.loads(path.read_text(encoding="utf-8"))
        with rasterio.open(path.parent / item["assets"][asset]["href"]) as file:
            a, crs = file.transform, file.crs.to_string()
            phase = round((a.c / a.a) % 1, 3) % 1
            plane = Plane(crs, a.a, phase)
            files.setdefault(crs, []).append((plane.window(*file.bounds), plane, file.read()))
    maps = {}
    for crs, parts in files.items():
        whole = parts[0][0]
        for window, *_ in parts:
            whole = whole.union(window)
        data = np.full((len(parts[0][2]), *whole.shape), fill, parts[0][2].dtype)
        for window, _, values in parts:
            data[(slice(None), *window.slices(whole))] = values
        maps[crs] = Map(data, whole, parts[0][1])
    return maps
