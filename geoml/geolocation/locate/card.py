"""The card of a locator as a STAC 1.1 item with the MLM extension, and back: https://github.com/stac-extensions/mlm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pystac
from pydantic import Field, ValidationError
from shapely.geometry import box, mapping

from geoml.errors import ModelError
from geoml.io.cards.mlm import EXTENSIONS
from geoml.io.stores.multihash import multihash
from geoml.recipe import Frozen
from geoml.texts import listed


class Calibrated(Frozen):
    """What validation pictures chose; a place is right within ``within_km``."""

    temperature: float = Field(default=1.0, gt=0, description="of the weights of the components")
    spread: float = Field(default=1.0, gt=0, description="by which concentrations are divided")
    alpha: float = Field(default=0.1, gt=0, lt=1)
    conformal: float | None = Field(default=None, description="largest score of a cell in the set (APS)")
    within_km: float = Field(default=750.0, gt=0)
    threshold: float | None = Field(
        default=None, description="least mass within within_km of an answer that is given; None: no such was found"
    )
    precision: float = Field(default=0.9, gt=0, lt=1, description="share of right answers that the threshold was for")
    reached: float | None = Field(default=None, description="that share on the validation pictures")
    coverage: float | None = Field(default=None, description="share of validation pictures that are answered")
    pictures: int = Field(default=0, ge=0)
    id: str = Field(default="", description="checksum of what was calibrated and on what")


class Domained(Frozen):
    """What tells pictures that a locator is not for, and how well it did."""

    kinds: tuple[str, ...] = Field(min_length=1, description="what those pictures are like")
    hidden: int = Field(ge=0)
    limit: float = Field(description="least log odds that a picture is one that the locator is for")
    kept: float = Field(ge=0, le=1, description="share of the sure answers on validation pictures that the limit keeps")
    refused: dict[str, float] = Field(default_factory=dict, description="by kind: of made pictures of validation")


class LocatorCard(Frozen):
    """What a locator expects and promises."""

    format: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    kind: Literal["overhead", "photo"]
    version: str = "1.0.0"
    license: str = Field(min_length=2, description="of the weights, SPDX")
    data_license: str = Field(min_length=2, description="of the pictures that trained it")
    backbone: str
    head: str
    head_config: dict[str, Any]
    features: int = Field(gt=0)
    size: int = Field(ge=8, le=4096, description="pixels of a side that a picture is resized to")
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    width_km: tuple[float, float] | None = Field(default=None, description="of the pictures that trained it")
    coverage: tuple[float, float, float, float] = Field(default=(-180.0, -90.0, 180.0, 90.0), description="W S E N")
    coverage_note: str = ""
    calibration: Calibrated = Calibrated()
    domain: Domained | None = Field(default=None, description="None: not known; every picture is answered")
    training: dict[str, Any] = Field(default_factory=dict)
    scores: dict[str, Any] = Field(default_factory=dict)
    weights: str = "model.safetensors"
    sha256: str = ""
    parameters: int = 0


def to_item(card: LocatorCard, size: int | None = None) -> dict[str, Any]:
    """The card as a STAC item; ``size`` is that of the weights file in bytes."""
    bands = [{"name": b} for b in ("red", "green", "blue")]
    properties: dict[str, Any] = {
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "description": card.description or f"Locator of {card.kind} pictures",
        "license": card.license,
        "version": card.version,
        "bands": bands,
        "mlm:name": card.name,
        "mlm:architecture": f"{card.backbone}+{card.head}",
        "mlm:tasks": ["regression"],
        "mlm:framework": "pytorch",
        "mlm:accelerator": None,
        "mlm:total_parameters": card.parameters,
        "mlm:hyperparameters": card.head_config,
        "mlm:input": [
            {
                "name": "picture",
                "bands": ["red", "green", "blue"],
                "input": {
                    "shape": [-1, 3, card.size, card.size],
                    "dim_order": ["batch", "bands", "height", "width"],
                    "data_type": "float32",
                },
                "value_scaling": [
                    {"type": "z-score", "mean": m, "stddev": s} for m, s in zip(card.mean, card.std, strict=True)
                ],
                "resize_type": "interpolation-linear",
                "pre_processing_function": None,
            }
        ],
        "mlm:output": [
            {
                "name": "density",
                "tasks": ["regression"],
                "bands": [],
                "result": {"shape": [-1, -1, 5], "dim_order": ["batch", "component", "weight_xyz_kappa"],
                           "data_type": "float32"},
                "description": "mixture of von Mises-Fisher components on the sphere",
                "post_processing_function": None,
            }
        ],
        "geoml:locator": card.model_dump(mode="json"),
    }  # fmt: skip
    item = pystac.Item(
        id=card.name,
        geometry=mapping(box(*card.coverage)),
        bbox=list(card.coverage),
        datetime=None,
        properties=properties,
        stac_extensions=list(EXTENSIONS),
    )
    asset = pystac.Asset(
        href=f"./{card.weights}",
        title=f"Weights of {card.name}",
        media_type="application/octet-stream; framework=pytorch",
        roles=["mlm:model", "mlm:weights", "data"],
        extra_fields={"mlm:artifact_type": "safetensors.torch.save_file", "bands": bands},
    )
    if card.sha256:
        asset.extra_fields["file:checksum"] = multihash(card.sha256)
    if size is not None:
        asset.extra_fields["file:size"] = size
    item.add_asset("model", asset)
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def is_locator(item: Mapping[str, Any]) -> bool:
    """Whether a model card is that of a locator."""
    properties = item.get("properties")
    return isinstance(properties, Mapping) and "geoml:locator" in properties


def from_item(item: Mapping[str, Any], where: str) -> LocatorCard:
    """The card in an item. Raises ModelError, naming the field, for one that makes no card of a locator."""
    if not is_locator(item):
        raise ModelError(f"{where}: not the card of a locator (no geoml:locator)")
    try:
        return LocatorCard.model_validate(item["properties"]["geoml:locator"])
    except ValidationError as err:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in err.errors()]
        raise ModelError(f"{where}: {listed(lines, joined='; ')}") from err
