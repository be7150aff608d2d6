"""A model card as a STAC 1.1 item with the MLM extension, and back.

Specification: https://github.com/stac-extensions/mlm. What MLM has a field for is written there and read from there,
so items of others load too; the rest travels as ``geoml:…`` properties. No clock time: same card, same JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pystac
from pydantic import ValidationError
from shapely.geometry import mapping

from geoml.errors import ModelError
from geoml.grid.region import from_bbox
from geoml.io.cards.card import ModelCard
from geoml.io.stores.multihash import multihash, sha256_of
from geoml.io.units import unit
from geoml.texts import listed

MLM = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"
EXTENSIONS = (
    MLM,
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/version/v1.2.0/schema.json",
)
TASKS = {"segmentation": "semantic-segmentation", "detection": "object-detection", "change": "change-detection"}
"""Our names of tasks and those of MLM; a task that is missing here has the same name in both."""
EXTRAS = ("architecture", "task", "anchor", "dates", "overlap", "window", "stride", "radius", "nodata")
REPORTS = ("training", "scores")
DOMAIN = "geoml:domain"
OWN = (*EXTRAS, *REPORTS, "domain")
SIDES = ("before", "after")
"""Fields of a class of a change."""


def to_item(card: ModelCard, size: int | None = None) -> pystac.Item:
    """The card as a STAC item; ``size`` is that of the weights file in bytes.

    The asset ``model`` names the weights beside the item, with their checksum.
    """
    item = pystac.Item(
        id=card.name,
        geometry=mapping(from_bbox(*card.bbox)),
        bbox=list(card.bbox),
        datetime=None,
        properties=_properties(card),
        stac_extensions=list(EXTENSIONS),
    )
    asset = pystac.Asset(
        href=f"./{card.weights}",
        title=f"Weights of {card.name}",
        media_type="application/octet-stream; framework=pytorch",
        roles=["mlm:model", "mlm:weights", "data"],
        # bands again: MLM wants them in the properties, and STAC 1.1 allows them there when an asset has them too
        extra_fields={"mlm:artifact_type": _artifact(card.weights), "bands": _named(card)},
    )
    if card.sha256:
        asset.extra_fields["file:checksum"] = multihash(card.sha256)
    if size is not None:
        asset.extra_fields["file:size"] = size
    item.add_asset("model", asset)
    return item


def from_item(item: pystac.Item | Mapping[str, Any], where: str = "model card") -> ModelCard:
    """The card that an item describes. Raises ModelError, naming the field, for one that does not make a card."""
    value = item.to_dict(include_self_link=False) if isinstance(item, pystac.Item) else item
    try:
        return ModelCard.model_validate(_fields(value))
    except ValidationError as err:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in err.errors()]
        raise ModelError(f"{where}: {listed(lines, joined='; ')}") from err
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as err:
        raise ModelError(f"{where}: not a STAC item with the MLM extension ({type(err).__name__}: {err})") from err


def _properties(card: ModelCard) -> dict[str, Any]:
    time, bands = ([card.dates], len(card.bands)) if card.dates > 1 else ([], len(card.bands))
    classes = [
        {"value": c.value, "name": c.name, "color_hint": c.color[1:]}
        | {f"geoml:{k}": v for k in SIDES if (v := getattr(c, k)) is not None}
        for c in card.classes
    ]
    task = TASKS.get(card.task, card.task)
    started = card.training.get("init")
    properties: dict[str, Any] = {
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        **({"description": card.description} if card.description else {}),
        "license": card.license,
        "version": card.version,
        "gsd": card.gsd,
        "bands": _named(card),
        "mlm:name": card.name,
        "mlm:architecture": card.architecture,
        "mlm:tasks": [task],
        "mlm:framework": "pytorch",
        "mlm:accelerator": None,
        "mlm:total_parameters": card.parameters,
        "mlm:pretrained": started is not None,
        "mlm:pretrained_source": started,
        "mlm:input": [
            {
                "name": "image",
                "bands": [b.name for b in card.bands],
                "input": {
                    "shape": [-1, *time, bands, card.chip_size, card.chip_size],
                    "dim_order": ["batch", *["time" for _ in time], "bands", "height", "width"],
                    "data_type": "float32",
                },
                "value_scaling": [{"type": "z-score", "mean": b.mean, "stddev": b.std} for b in card.bands],
                "resize_type": None,
                "pre_processing_function": None,
            }
        ],
        "mlm:output": [
            {
                "name": "logits",
                "tasks": [task],
                "bands": [],
                "result": {
                    "shape": [-1, len(card.classes), card.chip_size, card.chip_size],
                    "dim_order": ["batch", "class", "height", "width"],
                    "data_type": "float32",
                },
                "classification:classes": classes,
                "post_processing_function": None,
            }
        ],
        **{f"geoml:{name}": getattr(card, name) for name in EXTRAS},
        **{f"geoml:{name}": getattr(card, name) for name in REPORTS if getattr(card, name)},
        **({DOMAIN: card.domain.model_dump(mode="json")} if card.domain else {}),
    }
    if card.config:
        properties["mlm:hyperparameters"] = card.config
    return properties


def _fields(item: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``ModelCard`` out of an item; what neither MLM nor ``geoml:…`` says keeps its default."""
    properties = item["properties"]
    if strange := {k for k in properties if k.startswith("geoml:")} - {f"geoml:{n}" for n in OWN}:
        raise ValueError(f"unknown {listed(sorted(strange))}; expected one of {', '.join(OWN)}")
    asset = [a for a in item["assets"].values() if "mlm:model" in a.get("roles", ())][0]  # noqa: RUF015
    given, result = properties["mlm:input"][0], properties["mlm:output"][0]
    task = properties["mlm:tasks"][0]
    exported = asset.get("mlm:artifact_type") == "torch.export.save"
    fields: dict[str, Any] = {
        "name": properties["mlm:name"],
        "architecture": "exported" if exported else properties["mlm:architecture"],
        "task": next((ours for ours, theirs in TASKS.items() if theirs == task), task),
        "config": properties.get("mlm:hyperparameters", {}),
        "bands": _bands(given, properties.get("bands")),
        "gsd": properties["gsd"],
        "chip_size": given["input"]["shape"][-1],
        "classes": [_class(c) for c in result["classification:classes"]],
        "parameters": properties.get("mlm:total_parameters", 0),
        "weights": asset["href"].removeprefix("./"),
        "sha256": sha256_of(asset.get("file:checksum", "")),
    }
    fields |= {name: properties[name] for name in ("description", "license", "version") if name in properties}
    fields |= {name: properties[f"geoml:{name}"] for name in OWN if f"geoml:{name}" in properties}
    if "bbox" in item:
        fields["bbox"] = item["bbox"]
    return fields


def _named(card: ModelCard) -> list[dict[str, str]]:
    """STAC band objects: MLM has no unit of its own, those have."""
    return [{"name": b.name} | ({"unit": b.unit} if b.unit else {}) for b in card.bands]


def _bands(given: Mapping[str, Any], listed: Any) -> list[dict[str, Any]]:
    names = [b if isinstance(b, str) else b["name"] for b in given["bands"]]
    scaling = given.get("value_scaling") or [{"type": "scale", "value": 1.0}]
    if len(scaling) == 1:  # MLM: one entry stands for every band
        scaling = scaling * len(names)
    units = {b["name"]: u for b in listed or () if isinstance(b, Mapping) and (u := unit(b.get("unit")))}
    return [
        {"name": n, **_normalisation(s)} | ({"unit": units[n]} if n in units else {})
        for n, s in zip(names, scaling, strict=True)
    ]


def _normalisation(scaling: Mapping[str, Any]) -> dict[str, float]:
    """MLM value scaling as mean and standard deviation: (value - mean) / std."""
    kind = scaling["type"]
    if kind == "z-score":
        return {"mean": scaling["mean"], "std": scaling["stddev"]}
    if kind == "min-max":
        return {"mean": scaling["minimum"], "std": scaling["maximum"] - scaling["minimum"]}
    if kind == "scale":
        return {"mean": 0.0, "std": 1 / scaling["value"]}
    if kind == "offset":
        return {"mean": -scaling["value"], "std": 1.0}
    raise ValueError(f"value_scaling {kind!r}; expected z-score, min-max, scale or offset")


def _class(value: Mapping[str, Any]) -> dict[str, Any]:
    sides = {k: value[f"geoml:{k}"] for k in SIDES if f"geoml:{k}" in value}
    return {"value": value["value"], "name": value["name"], "color": f"#{value.get('color_hint', '808080')}"} | sides


def _artifact(weights: str) -> str:
    return "torch.export.save" if weights.endswith(".pt2") else "safetensors.torch.save_file"
