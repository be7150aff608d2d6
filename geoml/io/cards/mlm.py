"""A card as a STAC 1.1 item with the MLM extension, and back.

Specification: https://github.com/stac-extensions/mlm (v1.5.0). What all cards say is written and read here, the rest by
the class of the card (`geoml.io.cards.card.ModelCard`). No clock time: same card, same JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from geoml.errors import ModelError
from geoml.io.cards.card import ModelCard
from geoml.io.cards.kinds import card_of
from geoml.io.stores.multihash import multihash, sha256_of
from geoml.texts import listed

if TYPE_CHECKING:
    import pystac

C = TypeVar("C", bound=ModelCard)

MLM = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"
EXTENSIONS = (
    MLM,
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/version/v1.2.0/schema.json",
)


def to_item(card: ModelCard, size: int | None = None) -> pystac.Item:
    """The card as a STAC item; ``size`` is that of the weights file in bytes.

    The asset ``model`` names the weights beside the item, with their checksum.
    """
    import pystac
    from shapely.geometry import mapping

    properties: dict[str, object] = {
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        **({"description": card.description} if card.description else {}),
        "license": card.license,
        "version": card.version,
        "mlm:name": card.name,
        "mlm:framework": "pytorch",
        "mlm:accelerator": None,
        "mlm:total_parameters": card.parameters,
        **card.to_mlm(),
    }
    item = pystac.Item(
        id=card.name,
        geometry=mapping(card.footprint()),
        bbox=list(card.bbox),
        datetime=None,
        properties=properties,
        stac_extensions=list(EXTENSIONS),
    )
    artifact = "torch.export.save" if card.weights.endswith(".pt2") else "safetensors.torch.save_file"
    asset = pystac.Asset(
        href=f"./{card.weights}",
        title=f"Weights of {card.name}",
        media_type="application/octet-stream; framework=pytorch",
        roles=["mlm:model", "mlm:weights", "data"],
        # bands again: MLM wants them in the properties, and STAC 1.1 allows them there when an asset has them too
        extra_fields={"mlm:artifact_type": artifact, "bands": properties["bands"]},
    )
    if card.sha256:
        asset.extra_fields["file:checksum"] = multihash(card.sha256)
    if card.stored != "float32":
        asset.extra_fields["geoml:stored"] = card.stored
    if size is not None:
        asset.extra_fields["file:size"] = size
    item.add_asset("model", asset)
    return item


def from_item(item: pystac.Item | Mapping[str, Any], kind: type[C], where: str = "model card") -> C:
    """The card that an item describes; items of others load too.

    Raises ModelError, naming the field, for one that does not make a card, and for a card that is none of ``kind``.
    """
    try:
        value = item if isinstance(item, Mapping) else item.to_dict(include_self_link=False)
        actual = card_of(value)
        if not issubclass(actual, kind):
            raise ModelError(f"{where}: the card of {actual.what}, not the card of {kind.what}")
        return actual.model_validate(_fields(value, actual))
    except ValidationError as err:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in err.errors()]
        raise ModelError(f"{where}: {listed(lines, joined='; ')}") from err
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as err:
        raise ModelError(f"{where}: not a STAC item with the MLM extension ({type(err).__name__}: {err})") from err


def _fields(item: Mapping[str, Any], kind: type[ModelCard]) -> dict[str, object]:
    """Fields of a card out of an item; what the item does not say keeps its default."""
    properties = item["properties"]
    if strange := {k for k in properties if k.startswith("geoml:")} - {f"geoml:{n}" for n in kind.own}:
        raise ValueError(f"unknown {listed(sorted(strange))}; expected one of {', '.join(kind.own)}")
    asset = [a for a in item["assets"].values() if "mlm:model" in a.get("roles", ())][0]  # noqa: RUF015
    fields = {
        "name": properties["mlm:name"],
        "parameters": properties.get("mlm:total_parameters", 0),
        "weights": asset["href"].removeprefix("./"),
        "sha256": sha256_of(asset.get("file:checksum", "")),
        "stored": asset.get("geoml:stored", "float32"),
    }
    fields |= {name: properties[name] for name in ("description", "license", "version") if name in properties}
    if "bbox" in item and not _of_a_point(item["bbox"]):
        fields["bbox"] = item["bbox"]
    return {**fields, **kind.from_mlm(properties, asset)}


def _of_a_point(bbox: Any) -> bool:
    """A bbox without extent, as items have that do not say where a model was trained."""
    return isinstance(bbox, list | tuple) and len(bbox) == 4 and (bbox[0] == bbox[2] or bbox[1] == bbox[3])
