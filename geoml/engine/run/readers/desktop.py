"""Outputs of a finished run for desktop programs: VRTs over all blocks, styles, and a QGIS project of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from geoml.cube.preview import picture_factor
from geoml.engine.contract import Layer, output_of
from geoml.engine.run.output import DOMAIN, VALID
from geoml.engine.run.plan import Plan
from geoml.grid.plane import Plane, Window
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.each_band import of_each
from geoml.io.crs import with_heights
from geoml.io.desktop.map_layer import Group, MapClass, MapLayer, Mosaic
from geoml.io.desktop.qgis_project import ProjectPolygons, ProjectRaster, project
from geoml.io.desktop.qgis_style import polygon_renderer, qml, raster_pipe
from geoml.io.desktop.vrt import write_vrt
from geoml.io.stac.item_summary import ItemSummary
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import write_bytes

LAYERS, PROJECT = "layers", "map.qgz"
FILES = {
    LAYERS: "each layer of the map as one raster over all blocks (VRT), with its style (QML)",
    PROJECT: "QGIS project",
}
MOST_BANDS = 32
"""A layer of more, such as embeddings, is a table and no picture; its VRT would name each file for each band."""
DOUBT = frozenset(
    {
        "age", "confidence", "count", "disagreement", "dissimilarity", "distance", "domain", "probabilities",
        "probability", "score", "sets", "spread", "valid",
    }
)  # fmt: skip
"""Keys of layers that say how far the map can be trusted."""
PICTURES = {"thumbnail": ("image", "what the model saw"), "before": ("image_before", "what it saw of the earlier date")}


def write_desktop(
    store: RunStore, plan: Plan, blocks: ItemSummary, layers: Sequence[MapLayer], features: Sequence[str]
) -> dict[str, str]:
    """Write the files into the folder of the run, and give their names with titles; what an earlier plan left goes.

    ``layers`` are those of the ``blocks`` that are done, ``features`` the files of polygons that the project shows;
    their GeoParquet lies beside them. Raises DataError.
    """
    out = store.local
    rasters, written = [], set[str]()
    for mosaic in _mosaics(plan, blocks.ids) if layers else ():
        for layer in layers:
            name = f"{LAYERS}/{layer.key}{mosaic.suffix}"
            write_vrt(layer, mosaic, store.inside(f"{name}.vrt"))
            write_bytes(store.inside(f"{name}.qml"), qml(raster_pipe(layer)))
            rasters.append(ProjectRaster(f"{name}.vrt", layer, mosaic))
            written |= {f"{name}.vrt", f"{name}.qml"}
    store.remove(*(store.sizes(LAYERS).keys() - written))
    polygons = [_polygons(out, name, plan.card) for name in features]
    files = {k: v for k, v in FILES.items() if k != LAYERS or written}
    shown = [name for name, some in (("layers", rasters), ("polygons", polygons)) if some]
    files[PROJECT] += f" of the {' and the '.join(shown)}" if shown else ""
    for one in polygons:
        style = f"{one.title}.qml"
        write_bytes(out / style, qml(polygon_renderer(one.classes, one.by)))
        files[style] = f"style of {one.title} for QGIS"
    write_bytes(out / PROJECT, project(plan.title, rasters, polygons, blocks.bbox))
    return files


def map_layers(plan: Plan, blocks: ItemSummary) -> Iterator[MapLayer]:
    """The layers of the blocks of a run and the pictures of what the model saw."""
    own = output_of(plan.card, plan.recipe).layers
    shared = [x for x in (VALID, DOMAIN) if x.key in blocks.item_assets]
    spans = _spans(own, blocks)
    for layer in (*own, *shared):
        if len(layer.names) <= MOST_BANDS:
            yield map_layer(layer, plan.zones[0].plane.crs, spans.get(layer.key) or blocks.ranges.get(layer.key))
    for key, (name, title) in PICTURES.items():
        if key in blocks.item_assets:
            picture = "preview.png" if key == "thumbnail" else f"{key}.png"
            factor = picture_factor(plan.shown)
            bands = ("red", "green", "blue", "alpha")
            yield MapLayer(
                key=name, title=title, group="image", file=picture, bands=bands, scales=(1.0,) * 4, offsets=(0.0,) * 4,
                colours=True, factor=factor, tile=0,
            )  # fmt: skip


def _spans(layers: Sequence[Layer], blocks: ItemSummary) -> Mapping[str, tuple[float, float]]:
    """Stored ranges of layers of one quantity together, such as the leads of a forecast, so that colours compare."""
    alike: dict[object, list[str]] = {}
    for layer in layers:
        if layer.description and layer.key in blocks.ranges:
            alike.setdefault((layer.description, layer.unit, layer.scale, layer.offset), []).append(layer.key)
    found: dict[str, tuple[float, float]] = {}
    for keys in alike.values():
        lows, highs = zip(*(blocks.ranges[key] for key in keys), strict=True)
        found |= dict.fromkeys(keys, (min(lows), max(highs)))
    return found


def map_layer(layer: Layer, plane: str, span: tuple[float, float] | None) -> MapLayer:
    """A layer in a CRS, whose stored values lie within ``span``; None: that is not known."""
    names = layer.names
    scales, offsets = (of_each(v, len(names)) for v in (layer.scale, layer.offset))
    band = names.index("q50") if "q50" in names else 0
    share = layer.dtype == "uint8" and layer.unit is None and scales[band] < 1.0
    low, high = (0.0, 1.0) if share or span is None else (v * scales[band] + offsets[band] for v in span)
    crs = None if layer.vertical is None else with_heights(plane, layer.vertical)
    group: Group = "doubt" if layer.key in DOUBT else "map"
    return MapLayer(
        key=layer.key,
        title=layer.title,
        group=group,
        file=f"{layer.key}.tif",
        dtype=layer.dtype,
        nodata=layer.nodata,
        bands=tuple(layer.descriptions or names),
        scales=scales,
        offsets=offsets,
        unit=layer.unit,
        tile=layer.tile,
        classes=_classes(layer),
        colours=len(names) == 3 and layer.dtype == "uint8" and layer.nodata == 0,
        band=band + 1,
        low=low,
        high=high if high > low else low + 1.0,
        crs=crs,
    )


def _classes(layer: Layer) -> tuple[MapClass, ...]:
    """Of a layer with a colour table, by the names that STAC has of them."""
    if layer.colormap is None:
        return ()
    said: Sequence[Mapping[str, object]] = layer.fields.get("classification:classes", ())  # type: ignore[assignment]
    names = {c["value"]: str(c.get("title") or c["name"]) for c in said}
    return tuple(
        MapClass(value, names.get(value, str(value)), f"#{red:02x}{green:02x}{blue:02x}")
        for value, (red, green, blue, _) in layer.colormap.items()
    )


def _mosaics(plan: Plan, done: Sequence[str]) -> list[Mosaic]:
    """The blocks that are done, one mosaic for each plane, that of most blocks first."""
    by_id, planes = plan.by_id(), dict[Plane, tuple[list[str], list[Window]]]()
    for key in done:
        block = plan.block(by_id[key])
        ids, windows = planes.setdefault(block.plane, ([], []))
        ids.append(key)
        windows.append(block.window)
    several = len(planes) > 1
    ordered = sorted(planes.items(), key=lambda entry: (-len(entry[1][0]), entry[0]))
    return [Mosaic(plane, f"_{plane.code}" if several else "", *those) for plane, those in ordered]


def _polygons(out: Path, name: str, card: MapCard) -> ProjectPolygons:
    stem = Path(name).stem
    columns = pq.read_schema(out / f"{stem}.parquet").names
    known = tuple(MapClass(c.value, c.name, c.color) for c in card.classes)
    return ProjectPolygons(name, stem, known, "name" if "name" in columns and known else None)
