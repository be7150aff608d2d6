"""The STAC item and collection of a forecast of a table, so that it is found beside those of grids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import shapely
from shapely.geometry import mapping

from geoml.forecasting.rows.run import PAGE, RECORD, ROWS
from geoml.io.stac.items import PARQUET, bbox_of, extensions
from geoml.io.stac.times import instant, rfc3339
from geoml.io.stores.store import read_small, within, write_json


def write_rows_item(run: Path) -> dict[str, str]:
    """Write ``collection.json`` and one item of a run of `geoml.forecasting.rows.run.run`; the valid time of each lead.

    ``datetime`` is the valid time, so that of several leads there are the first and the last one.
    """
    record = json.loads(read_small(run / RECORD) or b"{}")
    rows = pq.read_table(run / ROWS, columns=["lead", "valid_time", "geometry"])
    leads = {k: rfc3339(t) for k, t in zip(rows["lead"].to_pylist(), rows["valid_time"].to_pylist(), strict=True)}
    shape = shapely.union_all(shapely.envelope(shapely.from_wkb(rows["geometry"].to_pylist()))).envelope
    reference = rfc3339(instant(record["reference_time"]))
    name = f"{record['model']}-{reference.replace('-', '').replace(':', '')}"
    first, last = min(leads.values()), max(leads.values())
    properties = {
        "datetime": first if first == last else None,
        "start_datetime": first,
        "end_datetime": last,
        "forecast:reference_datetime": reference,
        "forecast:variable": record["variable"],
        "geoml:model": record["model"],
        "geoml:model_sha256": record["sha256"],
    }
    above = {"href": "../collection.json", "type": "application/json"}
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": extensions(properties),
        "id": name,
        "collection": name,
        "geometry": mapping(shape),
        "bbox": bbox_of(shape),
        "properties": properties,
        "links": [{"rel": rel, **above} for rel in ("root", "parent", "collection")],
        "assets": {
            "rows": {"href": f"../{ROWS}", "type": PARQUET, "roles": ["data"], "title": "rows with quantiles"},
            "report": {"href": f"../{PAGE}", "type": "text/html", "roles": ["overview"], "title": "fan charts"},
        },
    }
    write_json(within(run, f"items/{name}.json"), item)
    about = f"{record['variable']} by {record['model']} from {reference}"
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name,
        "title": about,
        "description": f"{about}, of {record['places']} places",
        "license": "other",
        "extent": {"spatial": {"bbox": [bbox_of(shape)]}, "temporal": {"interval": [[first, last]]}},
        "links": [
            {"rel": "root", "href": "./collection.json", "type": "application/json"},
            {"rel": "item", "href": f"./items/{name}.json", "type": "application/geo+json"},
        ],
    }
    write_json(run / "collection.json", collection)
    return leads
