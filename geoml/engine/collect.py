"""The end of a run: features merged across blocks, the catalog of what was written, run.json and the report."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pystac

from geoml.engine.output import time_range
from geoml.engine.plan import MODEL, STATE, Plan, read_plan
from geoml.engine.run import Tally, is_done
from geoml.errors import DataError, GeomlError, NothingFound, TransientError
from geoml.io import stac
from geoml.io.geoparquet import features_frame, write_features
from geoml.io.items import PARQUET, AssetInfo, collection, read_item, write_collection
from geoml.io.parts import read_polygons
from geoml.io.report import map_report
from geoml.io.store import sha256, write_json, write_text
from geoml.vector.merge import FeatureMerger

PACKAGES = ("geoml", "torch", "rasterio", "segmentation-models-pytorch", "odc-geo", "numpy")

FILES = {
    "collection.json": "STAC collection of the run",
    "items": "STAC items, one for each block",
    "cogs": "COGs: class, confidence, valid count",
    "features.parquet": "GeoParquet 1.1: polygons of the classes",
    "items.parquet": "stac-geoparquet of what was written",
    "sources.parquet": "stac-geoparquet of what was read",
    "model.json": "card of the model (STAC MLM)",
    "run.json": "recipe, versions, blocks, times",
    "report.html": "the report, a page to look at",
}


def collect(out: Path, tallies: Sequence[Tally]) -> dict[str, Any]:
    """Finish the run in ``out`` and return what ``run.json`` says. Blocks that are not done are left out and listed.

    When nothing was done since the last time, nothing is written. Raises DataError when blocks failed (TransientError
    when all of them may work later) and NothingFound when no pixel of the region has data, both after all that exists
    is published.
    """
    plan = read_plan(out)
    done = [key for key, planned in plan.by_id().items() if is_done(out, plan, planned)]
    notes = {key: note for key in plan.by_id() if key not in done and (note := _note(out, key))}
    failed = {key: note["message"] for key, note in notes.items()}
    later = all(note["error"] == TransientError.__name__ for note in notes.values())
    if not done:
        raise _failure(plan, failed, later)
    before = _last(out)
    same = before is not None and before["blocks"]["done"] == done and before["blocks"]["failed"] == failed
    if before and same and not any(t.done for t in tallies) and all((out / name).exists() for name in before["files"]):
        run = before
    else:
        run = _write(out, plan, done, failed, tallies, before)
    if failed:
        raise _failure(plan, failed, later)
    if not run["valid_pixels"]:
        raise NothingFound(f"coverage: none of the {len(done)} blocks has a valid pixel inside the region")
    return run


def _write(
    out: Path,
    plan: Plan,
    done: list[str],
    failed: dict[str, str],
    tallies: Sequence[Tally],
    before: dict[str, Any] | None,
) -> dict[str, Any]:
    items = [read_item(out / "items" / f"{key}.json") for key in done]
    sources = stac.read_items(out / "sources.parquet")
    times = time_range(sources)
    files = dict(FILES)
    assets = {"sources": _file(out / "sources.parquet", FILES["sources.parquet"], ("metadata",))}
    if plan.recipe.features:
        _features(out, plan, done, items)
        assets["features"] = _file(out / "features.parquet", FILES["features.parquet"], ("data",))
    else:
        del files["features.parquet"]
    stac.write_items([_from_folder(i) for i in items], out / "items.parquet")
    assets["items"] = _file(out / "items.parquet", FILES["items.parquet"], ("collection-mirror",))
    about = f"{plan.card.task} by {plan.card.name} over {plan.collection or plan.recipe.query.catalog}"
    made = collection(
        items,
        id=plan.output_id,
        title=about,
        description=plan.card.description or about,
        card=plan.card,
        assets=assets,
        model_href=str(out.absolute() / MODEL),
    )
    write_collection(made, out / "collection.json")
    run = _summary(plan, items, sources, done, failed, tallies, before)
    run |= {"title": about, "datetime": [t.isoformat() for t in times], "files": files}
    write_text(out / "report.html", map_report(out, run, plan.card))
    write_json(out / "run.json", run)
    return run


def _features(out: Path, plan: Plan, done: Sequence[str], items: Sequence[pystac.Item]) -> None:
    merger = FeatureMerger()
    by_id = plan.by_id()
    for key in done:
        merger.add(plan.block(by_id[key]), read_polygons(out / STATE / "parts" / f"{key}.parquet"))
    frame = features_frame(
        merger.merged(),
        card=plan.card,
        model_id=f"{plan.card.name}/{plan.card.version}/{plan.card.sha256[:12]}",
        datetime=time_range(items),
        min_area=plan.recipe.min_area,
        simplify=plan.recipe.simplify,
    )
    write_features(frame, out / "features.parquet")


def _summary(
    plan: Plan,
    items: Sequence[pystac.Item],
    sources: Sequence[pystac.Item],
    done: list[str],
    failed: dict[str, str],
    tallies: Sequence[Tally],
    before: dict[str, Any] | None,
) -> dict[str, Any]:
    """What run.json says; seconds, bytes and pixels add up over the times that the run was taken up again."""
    old = before or {}
    seconds, size = Counter(old.get("seconds", {})), Counter(old.get("bytes", {}))
    pixels = old.get("pixels", 0)
    for tally in tallies:
        seconds.update(tally.seconds)
        size.update(tally.bytes)
        pixels += tally.pixels
    asked, known = (sum(i.properties[f"geoml:{name}_pixels"] for i in items) for name in ("asked", "valid"))
    return {
        "recipe": plan.recipe.model_dump(mode="json"),
        "hash": plan.hash,
        "model": {"name": plan.card.name, "version": plan.card.version, "sha256": plan.card.sha256},
        "collection": plan.collection,
        "zones": [z.model_dump(mode="json", exclude={"part"}) for z in plan.zones],
        "blocks": {"planned": len(plan.blocks), "done": done, "failed": failed},
        "seconds": {k: round(v, 3) for k, v in sorted(seconds.items())},
        "bytes": dict(sorted(size.items())),
        "pixels": pixels,
        "valid_pixels": known,
        "valid_percent": round(100 * known / max(asked, 1), 3),
        "sources": [s.id for s in sources],
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
    }


def _file(path: Path, title: str, roles: tuple[str, ...]) -> AssetInfo:
    return AssetInfo(path, title, roles, PARQUET, path.stat().st_size, sha256(path))


def _from_folder(item: pystac.Item) -> pystac.Item:
    """The item with hrefs as seen from the folder of the run, where items.parquet lies."""
    copy = item.clone()
    for asset in copy.assets.values():
        asset.href = _one_down(asset.href)
    copy.remove_links("self")  # it is absolute, and a run may be moved
    for link in copy.links:
        link.target = _one_down(str(link.target))
    return copy


def _one_down(href: str) -> str:
    return f"./{href.removeprefix('../')}" if href.startswith("../") else href


def _note(out: Path, key: str) -> dict[str, str] | None:
    """Why a block failed, as `geoml.engine.run` noted it."""
    try:
        value = json.loads((out / STATE / "failed" / f"{key}.json").read_text(encoding="utf-8"))
        return {"error": str(value["error"]), "message": str(value["message"])}
    except (OSError, ValueError, KeyError):
        return None


def _last(out: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value


def _failure(plan: Plan, failed: dict[str, str], later: bool) -> GeomlError:
    listed = "; ".join(f"{key}: {why}" for key, why in list(failed.items())[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    kind = TransientError if failed and later else DataError
    return kind(f"{len(failed)} of {len(plan.blocks)} blocks failed, the others are published: {listed}{more}")
