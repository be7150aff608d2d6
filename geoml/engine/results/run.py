"""A run in Python: layers as lazy arrays, polygons and rows as tables, and the run's metadata."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoml.engine.results.files import RunFiles
from geoml.errors import InputError, limits, unknown
from geoml.io.stores.hrefs import redact

if TYPE_CHECKING:
    import folium
    import geopandas as gpd
    import pandas as pd
    import pystac
    import xarray as xr
    from odc.geo.geobox import GeoBox

    from geoml.io.cards.card import ModelCard


class Run:
    """A finished run. Every layer of its map and every table is an attribute, named as in `layers` and `tables`:
    ``run.classes``, ``run.confidence``, ``run.lead_PT15M``, ``run.polygons``, ``run.rows``, ``run.sources``, ….

    Layers are lazy: ``run.classes`` reads no pixel until it is computed. ``run["valid_percent"]`` is a field of
    ``run.json``; `info` is the whole of it.
    """

    def __init__(self, out: str | Path, info: dict[str, Any] | None = None) -> None:
        self._files = RunFiles(str(out))
        if info is not None:
            self.__dict__["info"] = info

    @cached_property
    def info(self) -> dict[str, Any]:
        """Contents of ``run.json``: recipe, blocks, times, warnings; see docs/outputs.md."""
        return self._files.json("run.json")

    @cached_property
    def items(self) -> pystac.ItemCollection:
        """The STAC items of the blocks, with absolute hrefs. Raises DataError for one that names a file elsewhere."""
        import pystac

        from geoml.io.stac.table import read_items

        found = read_items(self._files.file("items.parquet"))
        for item in found:
            for asset in item.assets.values():
                asset.href = self._files.inside(asset.href, item.id)
        return pystac.ItemCollection(found, clone_items=False)

    @property
    def mapped(self) -> bool:
        """Whether the run has map blocks, and therefore `items`; a forecast of a table has none."""
        return "items.parquet" in self.info.get("files", ())

    @cached_property
    def layers(self) -> list[str]:
        """Names of the map's layers; empty for a run without a map, such as a forecast of a table."""
        if not self.mapped:
            return []
        from geoml.engine.results.layers import layers_of

        return layers_of(self.items.items)

    @property
    def tables(self) -> list[str]:
        """Names of the tables beside the map: features, rows, sources, …"""
        names = map(Path, self.info.get("files", ()))
        return sorted(p.stem for p in names if p.suffix == ".parquet" and p.stem != "items")

    def layer(self, name: str, geobox: GeoBox | None = None) -> xr.DataArray:
        """A layer as a dask array (y, x), or (band, y, x) for files of several bands: one mosaic over all blocks.

        Values with a scale are float32 in their unit, with NaN for nodata; classes keep their numbers, with ``nodata``,
        ``flag_values`` and ``flag_meanings`` as attributes. With ``geobox`` the layer is resampled to that grid
        (nearest pixel); coarse grids are read from overviews. Raises InputError for an unknown name.
        """
        import odc.stac

        from geoml.engine.results.layers import mosaic

        if name not in self.layers:
            raise unknown("layer", name, self.layers)
        if options := self._files.gdal_options():
            odc.stac.configure_rio(**options)
        return mosaic(self.items.items, name, geobox)

    @limits("table")
    def table(self, name: str) -> gpd.GeoDataFrame | pd.DataFrame:
        """A table by its name: a GeoDataFrame if it has geometry. Raises InputError for an unknown name."""
        import geopandas as gpd
        import pandas as pd
        import pyarrow.parquet as pq

        if name not in self.tables:
            raise unknown("table", name, self.tables)
        path = self._files.file(f"{name}.parquet")
        first = next(path.rglob("*.parquet"), path) if path.is_dir() else path
        geo = b"geo" in (pq.read_schema(first).metadata or {})
        return gpd.read_parquet(path) if geo else pd.read_parquet(path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self.tables:  # which run.json says; layers have to be fetched
            return self.table(name)
        if name in self.layers:
            return self.layer(name)
        known = ", ".join((*self.layers, *self.tables))
        raise AttributeError(f"the run has no layer or table {name!r}; it has {known}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.layers, *self.tables]

    @property
    def classes(self) -> xr.DataArray:
        """The map of classes, uint8 (y, x)."""
        return self.layer("class")

    @property
    def polygons(self) -> gpd.GeoDataFrame:
        """One row for each polygon, change or object, in degrees."""
        return self.table("features")

    objects = polygons
    """The same table, for models that find objects."""

    @cached_property
    def card(self) -> ModelCard:
        """The card of the model: bands, gsd, classes, training. Raises InputError for a run without a model."""
        from geoml.engine.packages import cards

        return cards.read_any(self._files.url)

    @property
    def scores(self) -> dict[str, Any]:
        """Held-out scores from the model's card; empty if none were measured."""
        return self.card.scores

    def file(self, name: str) -> Path:
        """Local path of a file of the run, which is downloaded if the run is remote; also by its own path or URL.

        Raises InputError if there is no such file.
        """
        return self._files.file(name)

    @property
    def report(self) -> str:
        """Path or URL of the HTML report."""
        return self._files.href("report.html")

    @property
    def map(self) -> str | None:
        """Path or URL of the interactive map; None for a run without one."""
        return self._files.href("map.html") if "map.html" in self.info.get("files", ()) else None

    def explore(self, layer: str | None = None, **options: Any) -> folium.Map:
        """Interactive map of a layer (by default the first) with the polygons on top; ``options`` are those of
        `folium.Map`. Raises MissingExtra without the extra ``notebook``."""
        from geoml.engine.results.explore import explore

        return explore(self, layer, **options)

    def __getitem__(self, field: str) -> Any:
        return self.info[field]

    def get(self, field: str, default: Any = None) -> Any:
        """A field of ``run.json``."""
        return self.info.get(field, default)

    def keys(self) -> list[str]:
        """Fields of ``run.json``; with ``[]`` they make ``dict(run)`` work."""
        return list(self.info)

    def __iter__(self) -> Iterator[str]:
        return iter(self.info)

    def __len__(self) -> int:
        return len(self.info)

    def __contains__(self, field: object) -> bool:
        return field in self.info

    def __eq__(self, other: object) -> bool:
        return bool(self.info == (other.info if isinstance(other, Run) else other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        try:
            about = self.info.get("title", "a run")
        except InputError as err:
            return f"<Run: {err}>"
        return f"<Run {about!r} in {redact(self._files.url)}>"

    def _repr_html_(self) -> str:
        from geoml.engine.results.page import summary

        return summary(self)


def open(out: str | Path) -> Run:
    """Open a finished run in a folder or at a URL (s3, gs, az, https, http), written by `predict` or a command.

    Raises InputError if there is none, TransientError if the server does not answer.
    """
    run = Run(out)
    _ = run.info  # a place without a run is refused here, not at the first layer
    return run
