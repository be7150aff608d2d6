"""A series as the monitor wrote it before its tables had parts: one file each, and the digests of all days on top."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq


def made_old(out: Path) -> None:
    """Give the series in ``out`` the form of before, with the content that it has."""
    top = json.loads((out / "collection.json").read_text())
    for name in [p.name for p in out.glob("*.parquet")]:
        parts = sorted((out / name).glob("*.parquet"))
        whole = pq.read_table(out / name)
        if name == "changes.parquet":
            whole = whole.drop_columns(["moved_from"])
        metadata = pq.read_schema(parts[-1]).metadata if parts else None
        shutil.rmtree(out / name)
        pq.write_table(whole.replace_schema_metadata(metadata), out / name)
        top["assets"][Path(name).stem]["file:size"] = (out / name).stat().st_size
    days = sorted((out / "days").iterdir())
    top["geoml:days"] = {d.name: hashlib.sha256((d / "collection.json").read_bytes()).hexdigest() for d in days}
    del top["geoml:months"]
    child = {"rel": "child", "type": "application/json"}
    top["links"] = [link for link in top["links"] if link["rel"] != "child"]
    top["links"] += [{**child, "href": f"./days/{day.name}/collection.json", "title": day.name} for day in days]
    (out / "collection.json").write_text(json.dumps(top))
    shutil.rmtree(out / "months")
    shutil.rmtree(out / ".geoml" / "tracks", ignore_errors=True)
    (out / ".geoml" / "looked.json").unlink()
