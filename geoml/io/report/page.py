"""Reports: one self-contained HTML page about a finished run, and one about held-out scores.

Nothing is loaded from elsewhere, no script runs, every text is escaped, and the same inputs give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import yaml

from geoml.errors import DataError
from geoml.io.cards.map_card import MapCard
from geoml.io.report.blocks import BlockFiles, Stage
from geoml.io.report.domain import domain_view
from geoml.io.report.map import map_view
from geoml.io.report.part import ReportPart
from geoml.io.report.score_notes import score_notes
from geoml.io.report.sketches import MANY, BlockRows
from geoml.io.report.sources import SHOWN, list_sources
from geoml.io.report.template import template
from geoml.io.software import format_versions
from geoml.io.stac.items import read_item
from geoml.io.stores.hrefs import redact
from geoml.recipe import PredictRecipe, Query
from geoml.texts import counted, percent

STAGES = {
    "read": "find, read, mask and composite the images",
    "model": "run the network",
    "write": "compress and write rows",
    "publish": "polygons, checksums, STAC item",
    "domain": "compare the images with the training data",
    "map": "put the layers on one map",
}

LONG = 12
"""Entries of a list in the training record that are shown."""

LAST = ("report.html", "run.json")
"""Files that are written after the page."""


def map_report(out: Path, run: Mapping[str, Any], card: MapCard, part: ReportPart, stage: Stage = nullcontext) -> str:
    """The page of the run folder ``out``; ``run`` is the contents of ``run.json``, of which every key may be missing.

    ``part`` is what the output of the model shows. Exact numbers come with the items of the blocks. Of up to `MANY`
    blocks the pictures are from the overviews of their files, which ``stage`` brings where they are not in the folder;
    of more they are from the sketches in ``items.parquet``. A file that cannot be read does not stop the report: the
    page names it and says that the run is not whole. Lists are cut at `SHOWN` entries.
    """
    out = Path(out)
    done, failed = _blocks(out, run)
    blocks, problems = blocks_of_run(out, run, stage)
    planned = max(int(run.get("blocks", {}).get("planned") or 0), len(done) + len(failed))
    when, scores = _when([str(t) for t in run.get("datetime") or []]), _scores(card.scores)
    view = map_view(run, card, part, blocks, failed, when=when)
    problems |= view.problems if view else {}
    sources = list_sources(out, blocks.used(), lambda text: _when([text]))
    problems |= sources.problems
    coverage = view.share if view else 0.0
    if (region := run.get("region_pixels")) and view:  # not only the blocks that had images
        coverage = float(run.get("valid_pixels") or 0) / float(region)
    return _page(
        title=str(run.get("title") or f"{card.task.replace('_', ' ')} by {card.name}"),
        kind="map",
        verdict=_verdict(planned, len(done), len(failed), problems, coverage),
        domain=domain_view(run.get("domain"), card, sources.kinds) if card.learnt else None,
        view=view,
        section=part.section(scores) if view else "",
        coverage=coverage,
        warnings=[redact(str(w)) for w in run.get("warnings") or []],
        planned=planned,
        done=len(done),
        failed=_first(failed),
        problems=_first(problems),
        when=when,
        collection=run.get("collection"),
        sources=sources.shown,
        images=sources.count,
        left_out=_first(run.get("left_out") or {}),
        images_left_out=len(run.get("left_out") or {}),
        card=card,
        scores=scores,
        training=_training(card),
        map="map.html" if "map.html" in (run.get("files") or {}) else None,
        files=_files(out, run.get("files") or {}),
        recipe=_yaml(_ordered(run.get("recipe") or {})),
        stages=_stages(run),
        zones=[dict(z) for z in run.get("zones") or []],
        versions=format_versions(run.get("versions") or {}),
        hash=str(run.get("hash") or ""),
    )


def evaluation_report(scores: Mapping[str, Any]) -> str:
    """The page of held-out scores, as ``geoml.engine.train.evaluate.evaluate`` gives them."""
    return _page(
        title=f"Held-out scores of {scores.get('model', 'a model')}",
        kind="scores",
        verdict=_scores_verdict(scores),
        scores=_scores(scores),
        hash=str(scores.get("recipe") or ""),
        weights=str(scores.get("sha256") or ""),
    )


def _blocks(out: Path, run: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Ids of the blocks that are done, and reasons by id of those that failed."""
    blocks = run.get("blocks") or {}
    failed = {str(k): redact(str(v)) for k, v in (blocks.get("failed") or {}).items()}
    done = blocks.get("done")
    if done is None:
        done = (path.stem for path in (out / "items").glob("*.json"))
    return sorted(map(str, done)), failed


def blocks_of_run(
    out: Path, run: Mapping[str, Any], stage: Stage = nullcontext
) -> tuple[BlockFiles | BlockRows, dict[str, str]]:
    """The blocks of a run that are done, and what is wrong with the items of some by id, for `map_report`."""
    done, _ = _blocks(out, run)
    if len(done) > MANY:
        with suppress(DataError):  # some are of a geoml that did not count: then all are read from their files
            table = BlockRows(out / "items.parquet")
            if sorted(table.ids) == list(done):
                return table, {}
    items, problems = [], {}
    for key in done:
        try:
            items.append(read_item(out / "items" / f"{key}.json"))
        except DataError as err:
            problems[key] = str(err).replace(f"{out}/", "")
    return BlockFiles(out, items, stage), problems


def _first(reasons: Mapping[str, str]) -> dict[str, str]:
    """The first of what a page lists, by name, and how many more there are."""
    shown = dict(sorted(reasons.items())[:SHOWN])
    return shown if len(shown) == len(reasons) else {**shown, "…": f"and {len(reasons) - len(shown)} more"}


def _verdict(planned: int, done: int, failed: int, problems: Mapping[str, str], known: float) -> dict[str, str]:
    """What a person has to know first: a colour (``good``, ``part``, ``bad``) and two sentences.

    ``known`` is the share of the region that has data.
    """
    if not done or not known:
        text = "There is no map" if not done else "The map is empty"
        more = "No block could be finished." if not done else "No pixel of the region has data."
        return {"level": "bad", "text": text, "more": more}
    gaps = planned - done
    data = f"{percent(known)} of the region has data"
    if gaps or problems:
        parts = [f"{failed} of {planned} blocks failed"] if failed else []
        parts += [f"{gaps - failed} of {planned} blocks were not run"] if gaps > failed else []
        parts += [f"{counted(len(problems), 'file')} cannot be read"] if problems else []
        return {"level": "part", "text": "The map has gaps: " + ", ".join(parts), "more": f"{data}."}
    text = "The map is complete" if known > 0.5 else f"The map is complete, but only {data}"
    blocks = f"All {planned} blocks are" if planned > 1 else "The block is"
    return {"level": "good" if known > 0.5 else "part", "text": text, "more": f"{blocks} done and {data}."}


def _scores_verdict(scores: Mapping[str, Any]) -> dict[str, str]:
    """Whether the model beats a map of one class, the least that it has to show."""
    if not scores.get("pixels"):
        return {"level": "bad", "text": "Nothing was scored", "more": "No labelled pixel with data was found."}
    miou, base = scores.get("miou"), (scores.get("baseline") or {}).get("miou")
    split, notes = scores.get("split", "held-out"), score_notes(scores)
    if miou is None:
        return {"level": "part", "text": f"No mean IoU on the {split} split", "more": " ".join(notes)}
    text = f"Mean IoU {ratio(miou)} on the {split} split"
    if base is None:
        return {"level": "part", "text": text, "more": " ".join(["There is no baseline to compare with.", *notes])}
    more = " ".join([f"A map that is {scores['baseline'].get('class')} everywhere would reach {ratio(base)}.", *notes])
    if miou <= base:
        return {"level": "bad", "text": f"{text}: no better than one class", "more": more}
    return {"level": "part" if notes else "good", "text": text, "more": more}


def _scores(scores: Mapping[str, Any]) -> dict[str, object] | None:
    """Scores of classes, which are in the order of the confusion matrix, ready for the template; None for none."""
    if not {"miou", "iou", "confusion"} & set(scores):
        return None
    kinds = [k for k in ("iou", "f1", "precision", "recall") if isinstance(scores.get(k), Mapping)]
    names = list(scores[kinds[0]]) if kinds else [str(k) for k in range(len(scores.get("confusion") or []))]
    rows = [[float(v) for v in row] for row in scores.get("confusion") or []]
    if len(rows) != len(names) or any(len(r) != len(names) for r in rows):
        rows = []
    cells = [[{"pixels": int(v), "share": v / sum(row) if sum(row) else None} for v in row] for row in rows]
    bins = [
        b for b in scores.get("calibration") or [] if b.get("pixels") and None not in (b["accuracy"], b["confidence"])
    ]
    most = max((b["pixels"] for b in bins), default=1)
    learnt = scores.get("learnt") or {}
    return {
        "split": scores.get("split"),
        "pixels": scores.get("pixels"),
        "scenes": scores.get("scenes"),
        "labels": learnt.get("places"),
        "crossed": bool(learnt or scores.get("folds")),
        "baseline": scores.get("baseline"),
        "notes": score_notes(scores),
        "overall": {
            label: scores[key]
            for key, label in {
                "miou": "mean IoU",
                "mean_f1": "mean F1",
                "overall_accuracy": "overall accuracy",
                "ece": "calibration error (ECE)",
            }.items()
            if scores.get(key) is not None
        },
        "kinds": kinds,
        "names": names,
        "classes": [
            {
                "name": n,
                **{k: scores[k].get(n) for k in kinds},
                "pixels": int(sum(rows[i])) if rows else None,
                "places": (scores.get("support") or {}).get(n, {}).get("places"),
            }
            for i, n in enumerate(names)
        ],
        "confusion": cells,
        "bins": [{**b, "size": 2.5 + 4.5 * math.sqrt(b["pixels"] / most)} for b in bins],
        "ece": scores.get("ece"),
    }


def _training(card: MapCard) -> str:
    """The training record of the card as YAML, without its curve and with its recipe in short."""
    record = {k: v for k, v in card.training.items() if k != "history"}
    if isinstance(recipe := record.get("recipe"), Mapping):
        record["recipe"] = {k: recipe[k] for k in ("name", "description", "source", "split", "seed") if k in recipe}
    return _yaml({k: _short(v) for k, v in record.items()})


def _short(value: object) -> object:
    """Plain values for YAML; of a long list (scenes of a split) the length and the first ones."""
    if isinstance(value, Mapping):
        return {str(k): _short(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        head = [_short(v) for v in value[:LONG]]
        return head if len(value) <= LONG else [*head, f"… {len(value)} in all"]
    return value


def _files(out: Path, files: Mapping[str, str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, what in sorted(files.items()):
        path = out / name
        there = path.exists() or name in LAST
        rows.append({"name": name, "what": what, "href": quote(name) if there else None, "note": _note(path)})
    return rows


def _note(path: Path) -> str:
    if path.is_dir():
        count = sum(1 for _ in path.iterdir())
        return counted(count, "entry", "entries")
    if path.suffix != ".parquet" or not path.exists():
        return ""
    try:
        rows = pq.read_metadata(path).num_rows
        return f"{counted(rows, 'row')}, {size(path.stat().st_size)}"
    except (OSError, ValueError):
        return "cannot be read"


def _stages(run: Mapping[str, Any]) -> list[dict[str, object]]:
    seconds, moved, pixels = run.get("seconds") or {}, run.get("bytes") or {}, run.get("pixels") or 0
    names = [s for s in STAGES if s in seconds] + sorted(s for s in seconds if s not in STAGES)
    return [
        {
            "name": name,
            "what": STAGES.get(name, ""),
            "seconds": float(seconds[name]),
            "speed": pixels / 1e6 / float(seconds[name]) if float(seconds[name]) and pixels else None,
            "bytes": moved.get(name),
        }
        for name in names
    ]


def _ordered(recipe: Mapping[str, object]) -> dict[str, object]:
    """A recipe in the order in which its fields are explained, and without secrets in its URLs."""
    fields = {**PredictRecipe.model_fields, **Query.model_fields}
    rank = {name: k for k, name in enumerate(fields)}
    value = {k: recipe[k] for k in sorted(recipe, key=lambda k: (rank.get(k, len(rank)), k))}
    return {
        k: _ordered(v) if isinstance(v, Mapping) else redact(v) if isinstance(v, str) else v for k, v in value.items()
    }


def _yaml(value: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=100) if value else ""


def _when(times: Sequence[str]) -> str:
    """RFC 3339 instants as text: one when they are the same day."""
    days = [t[:10] for t in times if t]
    if not days:
        return ""
    return f"{times[0][:16].replace('T', ' ')} UTC" if len(times) == 1 else " to ".join(sorted(set(days)))


def ratio(value: float | None) -> str:
    """A score with three digits."""
    return "–" if value is None else f"{value:.3f}"


def area(square_metres: float) -> str:
    """km² with four digits or more."""
    value = square_metres / 1e6
    digits = 0 if value >= 1000 else 3 - math.floor(math.log10(value)) if value >= 1e-9 else 0
    return f"{value:,.{digits}f} km²"


def size(count: float | None) -> str:
    """Bytes as text, in powers of ten."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def _page(**context: object) -> str:
    path = Path(__file__).with_name("report.html.j2")
    return template(path, percent=percent, ratio=ratio, area=area, size=size, counted=counted).render(**context)
