"""The published networks of ukis-csmask (DLR) for clouds and their shadows, of Sentinel-2 and Landsat.

https://github.com/dlr-eoc/ukis-csmask, Apache-2.0; the extra ``clouds``. Wieland, Fichtner, Martinis: UKIS-CSMASK: A
Python package for multi-sensor cloud and cloud shadow segmentation, ISPRS Archives XLIII-B3-2022,
https://doi.org/10.5194/isprs-archives-XLIII-B3-2022-217-2022. The weights are files of the installed package, whose
code is not run. There is one network for each set of bands and level of processing, and ``source`` says which.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from geoml.engine.importers import onnx
from geoml.engine.packages import cards
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import MissingExtra, ModelError, unknown
from geoml.io.cards.map_card import MapCard
from geoml.io.cards.profile import Level
from geoml.io.stores import store

PACKAGE = "ukis_csmask"
CLASSES = ("clear=#d9d9d9", "cloud=#ffffff", "cloud_shadow=#404040")
GSD = 30.0
"""Metres of a pixel, as its makers advise."""
NETWORKS = {f"{bands}b-{level.lower()}": level for bands in (6, 4) for level in get_args(Level)}
"""Names of the networks: with and without the two bands of shortwave infrared, and the level of each."""
DESCRIPTION = (
    "Clouds and their shadows on one date of Sentinel-2 or Landsat of level {level}, by ukis-csmask {version} of DLR "
    "with the bands {bands}. Trained on Sentinel-2 (CloudSEN12+), Landsat 8 (SPARCS) and samples of the makers; they "
    "state Landsat 5, 7, 8 and 9 too"
)


def convert(source: str | Path, out: str | Path) -> MapCard:
    """A package in ``out`` of the network called ``source``, such as 6b-l2a; its card.

    The published weights are of half precision. They are computed in single, and probabilities compared with those of
    ONNX Runtime in single.

    Raises InputError for another name, MissingExtra where the weights are not installed, ModelError for damaged ones.
    """
    name = str(source)
    if name not in NETWORKS:
        raise unknown("source", name, NETWORKS)
    path, about = files(name)
    try:
        means, deviations = about["dataset_statistics"]["img"]
        bands, size = about["dataset_statistics"]["band_names"], about["target_size"][0]
    except (KeyError, TypeError, ValueError, IndexError) as err:
        raise ModelError(f"{path}: its JSON does not say bands, mean and deviation ({err!r})") from err
    asked = ImportOptions(
        name=f"ukis-csmask-{name}", license="Apache-2.0", unit="reflectance", gsd=GSD, chip_size=size,
        bands=tuple(bands), mean=tuple(means), std=tuple(deviations), classes=CLASSES,
    )  # fmt: skip
    level, release = NETWORKS[name], version("ukis-csmask")
    more = {
        "level": level,
        "description": DESCRIPTION.format(level=level, version=release, bands=", ".join(bands)),
        "training": {
            "source": f"ukis-csmask {release}, {path.name}",
            "paper": "https://doi.org/10.5194/isprs-archives-XLIII-B3-2022-217-2022",
            "images": "CloudSEN12+, SPARCS and samples of the makers, as levels L1C and L2A",
            "by": "German Aerospace Center (DLR)",
        },
    }
    with store.folder(out, last=cards.CARD) as folder:  # no card without its level, however this ends
        card = onnx.convert(path, folder, asked, seen=probabilities).model_copy(update=more)
        cards.write(card, folder)
    return card


def probabilities(logits: Tensor) -> Tensor:
    """(batch, class, y, x) of logits of that shape."""
    return torch.softmax(logits, 1)


def files(name: str) -> tuple[Path, dict[str, Any]]:
    """The ONNX file of a network, and what its JSON says of data. Raises MissingExtra, ModelError."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("clouds: ukis-csmask is not installed; pip install 'geoml[clouds]'")
    path = Path(spec.submodule_search_locations[0]) / f"model_{name.replace('-', '_')}.onnx"
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ModelError(f"{path}: no published network with its JSON beside it ({err!r})") from err
    return path, about
