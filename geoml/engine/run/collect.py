"""The end of a run: what the output makes of all blocks, the catalog of what was written, run.json and the report."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pystac

from geoml.engine.contract import FinishedRun, input_of, output_of
from geoml.engine.run.domain import of_pixels
from geoml.engine.run.made_by import count_backends
from geoml.engine.run.plan import MODEL, PART, STATE, Plan, PlannedBlock, read_plan
from geoml.engine.run.tally import Tally, finished_item
from geoml.errors import DataError, GeomlError, InputError, NothingFound, TransientError, limits, out_of_memory
from geoml.grid.plane import Block
from geoml.io.software import count_versions
from geoml.io.stac import search as stac
from geoml.io.stac.item import Document
from geoml.io.stac.item_summary import ItemSummary
from geoml.io.stac.items import PARQUET, AssetInfo, asset_name, collection, write_collection
from geoml.io.stac.times import time_range
from geoml.io.stores.multihash import sha256_of
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import read_small, sha256, write_json, write_text
from geoml.recipe import digest

T = TypeVar("T")
RunJson = dict[str, Any]
"""Contents of ``run.json``."""

FILES = {
    "collection.json": "STAC collection of the run",
    "items": "STAC items, one for each block",
    "items.parquet": "stac-geoparquet of the outputs",
    "sources.parquet": "stac-geoparquet of the sources",
    "model.json": "card of the model (STAC MLM)",
    "run.json": "recipe, versions, blocks, times",
    "report.html": "the report, an HTML page",
}


@limits("the outputs of the run")
def collect(out: str | Path | RunStore, tallies: Sequence[Tally]) -> RunJson:
    """Finish the run in ``out`` and return the contents of ``run.json``. Blocks that are not done are left out and
    listed.

    When nothing was done since the last time, nothing is written. Raises DataError if blocks failed (TransientError
    when all of them may work later) and NothingFound if no pixel of the region has data, both after all that exists
    is published.
    """
    store = run_store(out)
    plan = read_plan(store)
    by_id = plan.by_id()
    store.pull(f"{STATE}/failed/", "run.json")
    before = _read_run(store.local)
    if before is not None and not any(t.done for t in tallies) and before.get("content") == _content(by_id, by_id):
        blocks = _finished(store, plan, by_id)  # most likely nothing is new
        if blocks.ids == before["blocks"]["done"] == list(by_id) and _complete(store, plan, before):
            return _valid(before)
    from geoml.io.stac.item_stream import ItemStream  # pandas, which a run that is finished does without

    with ItemStream(store.inside("items.parquet")) as table:
        blocks = _finished(store, plan, by_id, table.add)
        done = set(blocks.ids)
        notes = {key: note for key in by_id if key not in done and (note := _note(store.local, key))}
        failed = {key: note["message"] for key, note in notes.items()}
        later = all(note["error"] == TransientError.__name__ for note in notes.values())
        if not done:
            raise _failure(plan, failed, later)
        same = before is not None and before["blocks"]["done"] == blocks.ids and before["blocks"]["failed"] == failed
        same = same and before is not None and before.get("content") == _content(by_id, blocks.ids)
        if before and same and not any(t.done for t in tallies) and _complete(store, plan, before):
            run = before
        else:
            table.close()
            run = _write(store, plan, blocks, failed, tallies, before)
    if failed:
        raise _failure(plan, failed, later)
    return _valid(run)


def _valid(run: RunJson) -> RunJson:
    """``run``. Raises NothingFound if it has no valid pixel."""
    if not run["valid_pixels"]:
        done = len(run["blocks"]["done"])
        raise NothingFound(f"coverage: none of the {done} blocks has a valid pixel inside the region")
    return run


def _finished(
    store: RunStore,
    plan: Plan,
    by_id: Mapping[str, PlannedBlock],
    take: Callable[[Document], object] = lambda item: None,
) -> ItemSummary:
    """What the blocks that are done say together; each item is read once, and handed to ``take``.

    Raises DataError if something that is needed of one is damaged.
    """
    size, found = store.blocks(), ItemSummary()
    parts = bool(output_of(plan.card, plan.recipe).tables)
    for key, planned in by_id.items():
        item = finished_item(store, key, planned, size, parts=parts)
        if item is None:
            continue
        try:
            found.add(item)
            take(item)
        except (LookupError, TypeError, AttributeError) as err:
            raise _damaged(store, key, err) from err
        except DataError as err:
            if out_of_memory(err):
                raise
            raise _damaged(store, key, err) from err
    return found


def _damaged(store: RunStore, key: str, why: Exception) -> DataError:
    path = store.local / "items" / f"{key}.json"
    return DataError(f"{path}: not as it was written ({why}); delete it to do the block again")


def collected(out: str | Path | RunStore) -> bool:
    """True when the outputs of the run in ``out`` hold every block of its plan as the plan has it now."""
    store = run_store(out)
    plan = read_plan(store)
    store.pull("run.json")
    run = _read_run(store.local)
    by_id = plan.by_id()
    return run is not None and run.get("content") == _content(by_id, by_id)


def _content(by_id: Mapping[str, PlannedBlock], done: Iterable[str]) -> str:
    """Which blocks were put together, and of which items: a block that was done again has the same id."""
    return digest([by_id[key].hash for key in done])


def _complete(store: RunStore, plan: Plan, before: RunJson) -> bool:
    """True when all outputs of ``before`` are published, with the map and in every format that the plan asks for."""
    if plan.recipe.map and "map" not in before["seconds"]:
        return False
    formats = before["recipe"].get("features_format", ())
    return set(plan.recipe.features_format) <= {"parquet", *formats} and _published(store, before["files"])


def _published(store: RunStore, names: Iterable[str]) -> bool:
    """True when all outputs are published."""
    if not store.remote:
        return all((store.local / name).exists() for name in names)
    sizes = store.sizes()
    return all(name in sizes or any(key.startswith(f"{name}/") for key in sizes) for name in names)


def _write(
    store: RunStore,
    plan: Plan,
    blocks: ItemSummary,
    failed: dict[str, str],
    tallies: Sequence[Tally],
    before: RunJson | None,
) -> RunJson:
    from geoml.engine.run.readers.desktop import LAYERS, map_layers, write_desktop
    from geoml.engine.run.readers.feature_files import feature_names, kinds_in, write_features
    from geoml.io.desktop.render import renders
    from geoml.io.report.page import map_report  # and pyarrow, which a run that is finished does without
    from geoml.io.webmap.page import MAP

    out, start, done = store.local, time.perf_counter(), blocks.ids
    sources = stac.read_items(out / "sources.parquet")
    times = time_range(sources)
    output = output_of(plan.card, plan.recipe)
    files = {**FILES, **output.tables, "cogs": f"COGs: {', '.join(filter(None, [output.about, 'valid count']))}"}
    if plan.card.domain is not None:
        files["cogs"] += ", similarity to the training data"
    assets = {"sources": _file(out / "sources.parquet", FILES["sources.parquet"], ("metadata",))}
    earlier = kinds_in(output.tables, before["files"] if before else ())
    was = {name: sha256(out / name) for name in output.tables if earlier and (out / name).is_file()}
    if output.tables:
        store.pull(*(PART.format(key) for key in done))
        ends = [pystac.Item.from_dict(item, preserve_dict=False) for item in blocks.ends or ()]
        output.collect(FinishedRun(out, plan, done, ends, sources, partial(_parts, out, plan, done), store.pull))
        assets |= {Path(name).stem: _file(out / name, title, ("data",)) for name, title in output.tables.items()}
    kinds = tuple(dict.fromkeys([*plan.recipe.features_format, *earlier]))
    same = {name: about for name, about in output.tables.items() if was.get(name) == sha256(out / name)}
    kept = set(feature_names(same)).intersection(before["files"] if before else ())
    features = write_features(out, output.tables, kinds, kept)
    files |= {info.path.name: info.title for info in features.assets.values()}
    layers = list(map_layers(plan, blocks))
    files |= write_desktop(store, plan, blocks, layers, features.shown)
    assets |= features.assets
    assets["items"] = _file(out / "items.parquet", FILES["items.parquet"], ("collection-mirror",))
    about = plan.title
    made = collection(
        blocks,
        id=plan.output_id,
        title=about,
        description=plan.card.description or about,
        card=plan.card,
        assets=assets,
        model_href=str(out.absolute() / MODEL),
        renders=renders(layers),
    )
    write_collection(made, out / "collection.json")
    run = _summary(plan, blocks, sources, failed, tallies, before)
    run |= {"title": about, "datetime": [t.isoformat() for t in times], "files": files}
    run["recipe"] |= {"features_format": list(kinds)} if earlier else {}
    run["seconds"].pop("map", None)  # of a map that is made no more, or again below
    if plan.recipe.map:
        start += _write_map(store, plan, run, before)
    # what an earlier run.json named and this one does not goes first: should we stop here, the run is not complete
    store.remove(*sorted({MAP, *feature_names(output.tables)} - files.keys()))
    page = map_report(out, run, plan.card, output.report(out), partial(_fetched, store))
    write_text(out / "report.html", page)
    run["bytes"] |= {Path(name).stem: (out / name).stat().st_size for name in output.tables}
    run["seconds"]["collect"] = round(run["seconds"].get("collect", 0.0) + time.perf_counter() - start, 3)
    write_json(out / "run.json", run)
    last = ("collection.json", "report.html", "run.json")  # a reader of these finds what they name
    folders = (LAYERS,) if LAYERS in files else ()
    store.push(*folders, *(n for n in files if (out / n).is_file() and n not in last), *last)
    if len(done) == len(plan.blocks):
        store.free("cogs")  # every block is done, so they will not be read again
    return run


@limits("the outputs of the run")
def republish(
    out: str | Path | RunStore,
    *,
    files: Mapping[str, str] | None = None,
    left_out: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> RunJson:
    """Say more of the finished run in ``out``: further ``files`` that lie there, with their titles, what was
    ``left_out`` before its plan, and ``warnings``. The page is made again where something is new. What ``run.json``
    says then. Raises InputError if there is no finished run.
    """
    from geoml.io.report.page import map_report

    store = run_store(out)
    plan = read_plan(store)
    store.pull("run.json")
    before = _read_run(store.local)
    if before is None:
        raise InputError(f"out: {store.url} contains no finished run; expected one")
    run = {
        **before,
        "files": {**before["files"], **(files or {})},
        "left_out": {**before.get("left_out", {}), **(left_out or {})},
        "warnings": list(dict.fromkeys([*before.get("warnings", ()), *warnings])),
    }
    if run == before and not files:
        return run
    here = store.local
    page = map_report(here, run, plan.card, output_of(plan.card, plan.recipe).report(here), partial(_fetched, store))
    write_text(here / "report.html", page)
    write_json(here / "run.json", run)
    store.push(*(files or {}), "report.html", "run.json")
    return run


def _write_map(store: RunStore, plan: Plan, run: RunJson, before: RunJson | None) -> float:
    """Write the map, unless nothing has a place, and name it in ``files`` of the run. The seconds that it took."""
    from geoml.io.webmap.page import MAP, TITLE, map_page

    start, out = time.perf_counter(), store.local
    page = map_page(out, run, plan.card, output_of(plan.card, plan.recipe).report(out), partial(_fetched, store))
    if page is not None:
        write_text(out / MAP, page)
        run["files"][MAP] = TITLE
    took = time.perf_counter() - start
    run["seconds"]["map"] = round((before or {"seconds": {}})["seconds"].get("map", 0.0) + took, 3)
    return took


def _fetched(store: RunStore, item: pystac.Item) -> AbstractContextManager[None]:
    """The files of a block in the working copy, while the report counts their pixels.

    It reads all of them, so whole files, checked by their sums, cost less than ranges; and only those come that were
    not made here.
    """
    files = {}
    for asset in item.assets.values():
        checksum = sha256_of(asset.extra_fields.get("file:checksum", ""))
        files[asset_name(asset.href)] = asset.extra_fields.get("file:size"), checksum
    return store.fetched(files)


def _parts(out: Path, plan: Plan, done: Sequence[str], read: Callable[[Path], T]) -> Iterator[tuple[Block, T]]:
    """Each block with what ``read`` makes of its part. Raises DataError for a damaged one, which is removed."""
    by_id = plan.by_id()
    for key in done:
        path = out / PART.format(key)
        try:
            part = read(path)
        except DataError as err:
            if out_of_memory(err):
                raise
            path.unlink(missing_ok=True)  # without it the block is not done
            raise DataError(f"{err}; removed, so that the next run does the block again") from err
        yield plan.block(by_id[key]), part


def _summary(
    plan: Plan,
    blocks: ItemSummary,
    sources: Sequence[pystac.Item],
    failed: dict[str, str],
    tallies: Sequence[Tally],
    before: RunJson | None,
) -> RunJson:
    """What run.json says; seconds, bytes and pixels add up over the times that the run was resumed."""
    old = before or {}
    seconds = Counter[str](old.get("seconds", {}))
    size = Counter[str](old.get("bytes", {}))
    pixels = old.get("pixels", 0)
    for tally in tallies:
        seconds.update(tally.seconds)
        size.update(tally.bytes)
        pixels += tally.pixels
    region = blocks.asked if plan.pixels is None else plan.pixels
    backend, mixed = count_backends(blocks.made_by)
    return {
        "recipe": plan.recipe.model_dump(mode="json"),
        "hash": plan.hash,
        "model": {
            "name": plan.card.name,
            "version": plan.card.version,
            "sha256": plan.card.sha256,
            **({} if plan.card.learnt else {"learnt": False}),
            **({} if plan.card.profile is None else {"profile": True}),
        },
        "collection": plan.collection,
        "zones": [z.model_dump(mode="json", exclude={"part", "pixels"}) for z in plan.zones],
        "blocks": {"planned": len(plan.blocks), "done": blocks.ids, "failed": failed},
        "content": _content(plan.by_id(), blocks.ids),
        "seconds": {k: round(v, 3) for k, v in sorted(seconds.items())},
        "bytes": dict(sorted(size.items())),
        "pixels": pixels,
        "region_pixels": region,
        "valid_pixels": blocks.valid,
        "valid_percent": round(100 * blocks.valid / max(region, 1), 3),
        "domain": of_pixels(blocks.unlike, blocks.valid),
        "sources": [s.id for s in sources],
        "units": plan.units,
        "left_out": plan.left_out,
        **_sample_findings(plan, mixed),
        "backend": backend,
        "versions": count_versions(blocks.software),
    }


def _sample_findings(plan: Plan, mixed: str) -> RunJson:
    """What the sample before the blocks measured of the model, the levels of a pyramid, and the warnings for readers of
    the map."""
    sample, output = plan.sample, output_of(plan.card, plan.recipe)
    equal = sample.self_change if sample else None
    found: RunJson = {"self_change": equal.model_dump(mode="json") if equal else None} if output.changes else {}
    warnings = [*(sample.warnings if sample else ()), *input_of(plan.card, plan.recipe).warnings(plan)]
    if output.joiner == "owner":
        warnings += output.warnings()
        if levels := output.levels():
            found["pyramid"] = list(levels)
    warnings += [mixed] if mixed else []
    record = plan.card.short_radius
    if record is not None and plan.card.chip_grid(plan.recipe.join).whole:
        warnings.append(record.price(plan.card.radius or 0))
    return {**found, "warnings": warnings}


def _file(path: Path, title: str, roles: tuple[str, ...]) -> AssetInfo:
    return AssetInfo(path, title, roles, PARQUET, path.stat().st_size, sha256(path))


def _note(out: Path, key: str) -> dict[str, str] | None:
    """Why a block failed, as `geoml.engine.run.blocks` noted it."""
    try:
        value = json.loads(read_small(out / STATE / "failed" / f"{key}.json") or b"{}")
        return {"error": str(value["error"]), "message": str(value["message"])}
    except (DataError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _read_run(out: Path) -> RunJson | None:
    """Contents of ``run.json``; a damaged one counts as none, for all but its seconds can be computed again."""
    try:
        value: RunJson = json.loads(read_small(out / "run.json") or b"{}")
        numbers = [*value["seconds"].values(), *value["bytes"].values(), value["pixels"], value["valid_pixels"]]
        parts = (value["blocks"]["done"], list), (value["blocks"]["failed"], dict), (value["files"], dict)
        whole = all(isinstance(part, kind) for part, kind in parts) and sum(numbers) >= 0
    except (DataError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return value if whole else None


def _failure(plan: Plan, failed: dict[str, str], later: bool) -> GeomlError:
    listed = "; ".join(f"{key}: {why}" for key, why in list(failed.items())[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    kind = TransientError if failed and later else DataError
    return kind(f"{len(failed)} of {len(plan.blocks)} blocks failed, the others are published: {listed}{more}")
