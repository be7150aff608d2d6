"""The card of a model as a page for a person: what it is, needs and gives, how well it did, and where not to use it."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from geoml.cli.common import out_console, print_scores
from geoml.texts import counted, listed, short

if TYPE_CHECKING:
    from geoml.io.cards.card import ModelCard

LONGEST = 400
"""Characters of a value; ``--json`` has all of it."""
MOST = 8
"""Lines of scores of a task without a table of its own."""
BESIDE = "beside"
"""Of scores: rows of ``data``, ``measure``, ``model``, and where known ``nothing``, ``simple`` with what they are."""
COMPARED = ("reference_difference", "original_difference", "original_chips")
"""Of scores: how far the raw output was from that of the network that was imported, which is no score."""
WORDS = {
    "made": "settings",
    "width_km": "width, km",
    "coverage_note": "coverage",
    "data_license": "licence of the data",
    "chip_size": "chip size",
    "license": "licence",
}
"""Fields whose names say nothing to a reader."""
SETTINGS = {
    "level": "share of prediction sets that hold the truth",
    "limit": "least probability of a class in a set",
    "references": "distance to labels",
    "other": "second model",
}
"""Those of ``made`` of a map of few labels."""
WORLD = [-180.0, -90.0, 180.0, 90.0]
"""The ``bbox`` of a card that names none."""
SHORT_FOR = {"iou": "IoU", "miou": "mean IoU", "ece": "ECE", "ndvi": "NDVI", "ndwi": "NDWI"}
"""Words in names of scores that are written otherwise."""

WHAT = (
    "name",
    "version",
    "description",
    "task",
    "kind",
    "architecture",
    "backbone",
    "head",
    "parameters",
    "stored",
    "checked",
)
NEEDS = ("bands", "columns", "gsd", "level", "dates", "steps", "history", "voxel", "radius", "chip_size", "size")
GIVES = ("classes", "made", "width", "leads", "levels", "places", "nodata")
LIMITS = ("bbox", "width_km", "coverage_note")
LICENCE = ("license", "data_license", "weights", "sha256")
APART = (*WHAT, *NEEDS, *GIVES, *LIMITS, *LICENCE, "scores", "training", "domain", "config", "head_config")
"""Fields with a place on the page, and those that only ``--json`` has."""
TECHNICAL = ("anchor", "overlap", "window", "stride", "profile", "mean", "std", "format")


def print_card(card: ModelCard, given: str) -> None:
    """Print the card of a model of any kind, which was ``given`` by its name or folder.

    What is too long or too technical stands in ``--json`` alone.
    """
    _, bands, _, gives = card.row()  # in words, of cards that have no such fields
    fields = {"bands": bands, "classes": gives} | card.model_dump(mode="json")
    fields = {k: v for k, v in fields.items() if v not in (None, "", [], {})}
    if (off := card.scores.get("reference_difference", card.scores.get("original_difference"))) is not None:
        fields["checked"] = f"its output differs by at most {off:.1g} from that of the network that was imported"
    about = _table({"What it is": _rows(fields, WHAT), "What it needs": _rows(fields, NEEDS),
                    "What it gives": _rows(fields, GIVES)})  # fmt: skip
    out_console.print(about)
    _print_scores(card)
    more = [name for name in fields if name not in (*APART, *TECHNICAL)]
    sections = {"Where not to use it": [*_limits(fields, card.learnt)], "Licence": _rows(fields, LICENCE)}
    if more:
        sections["Also in the card"] = _rows(fields, more)
    out_console.print(_table(sections))
    again = shlex.join(["geoml", "models", "show", given, "--json"])
    out_console.print(f"Everything, training history included: {again}", highlight=False)


def _table(sections: Mapping[str, Sequence[tuple[str, str]]]) -> Table:
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, rows in sections.items():
        table.add_section()
        table.add_row(Text(title, "bold"), "")
        for name, value in rows:
            table.add_row(name, value)
    return table


def _rows(fields: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, str]]:
    return [(WORDS.get(name, name), _shown(name, fields[name])) for name in names if name in fields]


def _shown(name: str, value: Any) -> str:
    """A field as a person reads it."""
    if isinstance(value, str):
        return short(value.strip(), 10 * LONGEST)
    if name == "parameters":
        return f"{value:,}"
    if name in ("gsd", "voxel"):
        return f"{value:g} m"
    if name == "radius" and isinstance(value, int):
        return f"{counted(value, 'pixel')}: a result depends on the pixels up to that far around it"
    if name == "bands":
        return listed(map(_band, value), most=20)
    if isinstance(value, list) and all(isinstance(v, dict) and ("name" in v or "id" in v) for v in value):
        return listed((v.get("name", v.get("id")) for v in value), most=20)
    if isinstance(value, list) and not any(isinstance(v, dict | list) for v in value):
        return listed((f"{v:g}" if isinstance(v, float) else v for v in value), most=20)
    if isinstance(value, dict):
        plain = {k: v for k, v in value.items() if not isinstance(v, dict | list) and v not in (None, "")}
        words = SETTINGS if name == "made" else {}
        said = ", ".join(f"{words.get(k, k)} {_plain(v)}" for k, v in plain.items())
        return short(said or counted(len(value), "entry", "entries"), LONGEST)
    return short(json.dumps(value, ensure_ascii=False), LONGEST)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _band(band: Mapping[str, Any]) -> str:
    unit = f" ({band['unit']})" if band.get("unit") else ""
    return f"{band['name']}{unit}"


def _print_scores(card: ModelCard) -> None:
    """Held-out scores beside those of doing nothing and of a simple method, as the task has them."""
    from geoml.engine.task import FILES

    out_console.print(Text(" How well it did", "bold"), end="")
    scores = {name: value for name, value in card.scores.items() if name not in COMPARED}
    if not scores:
        out_console.print(": not scored on labels")
        return
    out_console.print(f", {_source(scores)}")
    if rows := scores.get(BESIDE):
        out_console.print(_beside(rows))
        return
    trained = _recipe(card.training).get("task")  # an encoder's is no task of maps
    if task := next((t for t in (card.task, trained) if t in FILES.names()), None):
        try:
            print_scores(task, card.scores)
            return
        except (LookupError, TypeError, ValueError, AttributeError):
            pass  # a card of others may hold scores in a form of its own
    groups = sorted(_groups(scores), key=lambda group: len(group[0]))  # summaries before what they are made of
    shown = [group for group in groups if len(group[0]) <= max(1, len(groups[0][0]))][:MOST]
    for path, numbers in shown:
        named = ", ".join(f"{_named(name)} {_number(value)}" for name, value in numbers.items())
        about = f"{', '.join(map(_named, path))}: " if path else ""
        out_console.print(f" {about}{named}", highlight=False)
    if more := sum(len(numbers) for _, numbers in groups[len(shown) :]):
        out_console.print(f" and {counted(more, 'more number')} with --json", highlight=False)


def _named(name: str) -> str:
    """A name of scores in words."""
    return " ".join(SHORT_FOR.get(word, word) for word in name.split("_"))


def _beside(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Each score beside that of doing nothing and of a simple method, and what these two are."""
    table = Table(show_lines=True)
    for title in ("data", "measure", "this model", "doing nothing", "a simple method"):
        table.add_column(title, overflow="fold")
    for row in rows:
        others = (f"{row[k]:.3f}, {row[f'{k}_is']}" if k in row else "" for k in ("nothing", "simple"))
        table.add_row(row["data"], row["measure"], f"{row['model']:.3f}", *others)
    return table


def _recipe(training: object) -> Mapping[str, Any]:
    """The recipe in the record of a training, which others may write in a form of their own."""
    recipe = training.get("recipe") if isinstance(training, Mapping) else None
    return recipe if isinstance(recipe, Mapping) else {}


def _source(scores: Mapping[str, Any]) -> str:
    split = scores.get("split")
    if not isinstance(split, str):
        return "on data that training never saw"
    return f"on the {split} split of its data" if " " not in split else f"on {split}"


def _groups(scores: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], dict[str, float]]]:
    """The numbers of nested scores that stand beside each other, under the names that they have in common."""
    numbers = {
        name: value
        for name, value in scores.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    found = [(path, numbers)] if numbers else []
    for name, value in scores.items():
        if isinstance(value, Mapping):
            found += _groups(value, (*path, name))
    return found


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _limits(fields: Mapping[str, Any], learnt: bool) -> Iterable[tuple[str, str]]:
    """Where and when it was trained, and whether a run would notice that its images are unlike that."""
    bbox = fields.get("bbox")
    if bbox in (None, WORLD):  # a box that was searched for images says more than none
        query = _recipe(fields.get("training")).get("query")
        bbox = (query.get("bbox") if isinstance(query, dict) else None) or bbox
    if bbox and bbox != WORLD:
        yield "trained in", "west {:.2f}, south {:.2f}, east {:.2f}, north {:.2f}; not tried elsewhere".format(*bbox)
    elif bbox:
        yield "trained in", "anywhere, as far as its card says"
    if isinstance(seen := (fields.get("training") or {}).get("images"), str):
        yield "trained on", short(seen, LONGEST)
    yield from _rows(fields, LIMITS[1:])
    domain = fields.get("domain")
    if domain and domain.get("kinds"):
        yield "refuses", listed(domain["kinds"])
    elif domain:
        months, platforms = domain.get("months"), domain.get("platforms")
        if months:
            yield "months seen", listed(months, most=12)
        if platforms:
            yield "platforms seen", listed(platforms)
        yield "elsewhere", "a run says which pixels are unlike its training data"
    elif learnt:
        yield "elsewhere", "its package keeps no record of the training data, so a run cannot warn of unlike images"
    else:
        yield "elsewhere", "it learnt nothing from data, so no image is unlike its training"
