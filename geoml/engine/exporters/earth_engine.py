"""A finished run as assets of Earth Engine: manifests for its command line, which does the upload.

Source: https://developers.google.com/earth-engine/guides/image_manifest, its ImageManifest at
https://developers.google.com/earth-engine/reference/rest/v1/projects.image/import, and for assets that stay COGs
https://developers.google.com/earth-engine/guides/cog_registration.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pystac

from geoml import __version__
from geoml.engine.results.layers import bands_of, layers_of
from geoml.engine.results.run import Run
from geoml.errors import DataError, InputError
from geoml.io.stac.items import OVERVIEW
from geoml.io.stac.times import rfc3339, time_range
from geoml.io.stores.hrefs import scheme
from geoml.io.stores.store import within, write_json
from geoml.redacted import redact
from geoml.texts import listed

_ASSET = re.compile(r"projects/[A-Za-z0-9:._-]+/assets(/[A-Za-z0-9_-]+)+")
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/[^\s?#*\[\]]+)*")
NAMES_OF_CLASSES = ("class_values", "class_palette", "class_names")
"""Properties ``BAND_…`` by which Earth Engine's own assets say what values of a band mean and how they are drawn."""


@dataclass(frozen=True)
class EarthEngineExport:
    """What is written: an ImageManifest for each asset by its file name, and the lines to type then."""

    manifests: Mapping[str, dict[str, Any]]
    commands: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write the manifests. Raises InputError for a folder that holds something else."""
        held = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        if strange := held - set(self.manifests):
            raise InputError(f"out: {folder} holds {listed(sorted(strange))}; expected an empty folder")
        for name, manifest in self.manifests.items():
            write_json(within(folder, name), manifest)


def earth_engine(run: Run, bucket: str, asset: str, out: Path, *, cogs: bool = False) -> EarthEngineExport:
    """Manifests of the maps of ``run``, whose files will lie in ``bucket`` (``gs://NAME/PREFIX``).

    One image ``asset`` for each CRS, into which Earth Engine copies the pixels; or with ``cogs`` one image for each
    block in the collection ``asset``, which reads the COGs where they lie: such an image takes one file for a band.
    Raises InputError, naming the option, for a bucket or an asset that is none and for a run without a map; DataError
    for items that do not say what they hold.
    """
    bucket, asset = bucket.rstrip("/"), asset.rstrip("/")
    if not _BUCKET.fullmatch(bucket):
        raise InputError(f"bucket: {redact(bucket)!r}; expected gs://NAME or gs://NAME/PREFIX")
    if not _ASSET.fullmatch(asset):
        raise InputError(f"asset: {asset!r}; expected projects/PROJECT/assets/NAME, of letters, digits, - and _")
    here = run.report.rpartition("/report.html")[0]
    if scheme(here) not in ("", "s3", "gs"):
        raise InputError(
            f"run: {redact(here)}, which gcloud cannot copy; expected a folder, s3:// or gs://; copy the run first"
        )
    if not run.layers:
        raise InputError("run: it has no map; expected a run with layers, such as one of geoml predict")
    items = list(run.items)
    groups = {i.id: [i] for i in items} if cogs else _by_grid(items)
    collection = cogs or len(groups) > 1
    names = {key: f"{asset}/{_word(key)}" if collection else asset for key in groups}
    manifests = {
        f"{_word(key)}.json": _manifest(run, group, names[key], bucket) for key, group in sorted(groups.items())
    }
    kind = "external_image" if cogs else "image"
    copy = (
        [] if here == bucket else [shlex.join(("gcloud", "storage", "rsync", "-r", f"{here}/cogs", f"{bucket}/cogs"))]
    )
    create = [shlex.join(("earthengine", "create", "collection", asset))] if collection else []
    upload = f'for file in {shlex.quote(str(out))}/*.json; do earthengine upload {kind} --manifest "$file"; done'
    return EarthEngineExport(manifests, (*copy, *create, upload))


def _manifest(run: Run, items: Sequence[pystac.Item], name: str, bucket: str) -> dict[str, Any]:
    """The ImageManifest of one image: a tileset for each layer, whose sources are the files of the items."""
    first, last = time_range(items)
    model = run.info["model"]
    properties: dict[str, Any] = {
        "title": str(run.get("title", "")),
        "model": str(model["name"]),
        "model_version": str(model["version"]),
        "model_sha256": str(model["sha256"]),
        "geoml_version": __version__,
        "geoml_hash": str(run["hash"]),
    }
    tilesets, bands = [], []
    for key in layers_of(items):
        assets = [i.assets[key] for i in items if key in i.assets]
        tilesets.append({"id": _word(key), "sources": [{"uris": [f"{bucket}/{_inside(a)}"]} for a in assets]})
        asset = assets[0]
        for index, band in enumerate(bands_of(asset)):
            ident = _word(key if len(bands_of(asset)) == 1 else f"{key}_{band['name']}")
            classes = [c for c in asset.extra_fields.get("classification:classes", ()) if not c.get("nodata")]
            bands.append(_band(ident, _word(key), index, band, _policy(asset)))
            properties |= _said(ident, band, classes)
    return {
        "name": name,
        "tilesets": tilesets,
        "bands": bands,
        "startTime": rfc3339(first),
        "endTime": rfc3339(last + timedelta(milliseconds=1)),  # exclusive
        "properties": properties,
    }


def _policy(asset: pystac.Asset) -> str:
    """How Earth Engine makes coarser levels of a layer: as geoml made them."""
    return {"mode": "MODE", "nearest": "SAMPLE"}.get(asset.extra_fields.get(OVERVIEW) or "", "MEAN")


def _band(ident: str, tileset: str, index: int, band: Mapping[str, Any], policy: str) -> dict[str, Any]:
    """A TilesetBand; NaN is no data to Earth Engine anyway, and no JSON."""
    made = {"id": ident, "tilesetId": tileset, "tilesetBandIndex": index, "pyramidingPolicy": policy}
    nodata = float("nan" if band.get("nodata") is None else band["nodata"])
    return {**made, "missingData": {"values": [nodata]}} if math.isfinite(nodata) else made


def _said(ident: str, band: Mapping[str, Any], classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Properties that say what the numbers of a band mean; Earth Engine itself applies no scale."""
    said: dict[str, Any] = {}
    if classes:
        colours = [str(c.get("color_hint") or "000000").lower() for c in classes]
        values = ([c["value"] for c in classes], colours, [str(c.get("title") or c["name"]) for c in classes])
        said |= {f"{ident}_{name}": value for name, value in zip(NAMES_OF_CLASSES, values, strict=True)}
    for field in ("scale", "offset"):
        if (value := band.get(f"raster:{field}")) is not None:
            said[f"{ident}_{field}"] = float(value)
    return said | ({f"{ident}_unit": str(band["unit"])} if band.get("unit") else {})


def _by_grid(items: Iterable[pystac.Item]) -> dict[str, list[pystac.Item]]:
    """Blocks of one CRS and pixel size, which may be sources of one tileset."""
    groups: dict[str, list[pystac.Item]] = {}
    for item in sorted(items, key=lambda i: i.id):
        groups.setdefault(item.id.split("_")[0], []).append(item)
    return groups


def _inside(asset: pystac.Asset) -> str:
    """The file of an asset as seen from the run. Raises DataError for one elsewhere."""
    if found := re.search(r"/(cogs/[^/]+/[^/?#]+)$", asset.href):
        return found[1]
    raise DataError(f"{redact(asset.href)}: no COG of the run")


def _word(text: str) -> str:
    """Letters, digits, - and _, of which names in Earth Engine are made."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)
