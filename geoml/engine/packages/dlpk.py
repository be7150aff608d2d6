"""A package as a deep learning package of ArcGIS (``.dlpk``): an archive that ArcGIS Pro and Enterprise take.

It holds the model definition (``.emd``), the network as ONNX for chips of one size, a raster function that prepares the
pixels and reads the classes (`geoml.engine.packages.raster_function`), the card, and a page with its licence.
https://github.com/Esri/raster-deep-learning/blob/master/docs/writing_model_definition.md
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoml.backends import onnx
from geoml.backends.torch import choose
from geoml.engine.packages import cards, package, raster_function
from geoml.engine.packages.calibrate import check_calibrated
from geoml.errors import InputError, ModelError
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.store import atomic

FUNCTION = "GeomlClassifier"
"""Class and file of the raster function: ArcGIS looks for a class that is called like its file."""
CORE = 256
"""Pixels of a side of a tile without its margin, at most where that is free."""
EQUAL = 1e-3
"""How much the raw output of ONNX may differ from that of PyTorch."""


def export(model: str | Path, out: Path, scale: float = 1.0, offset: float = 0.0) -> dict[str, Any]:
    """Write a package of geoml as ``out``; gives the model definition.

    ``scale`` and ``offset`` make physical values of the numbers that ArcGIS reads; its tool can change them. Raises
    InputError for a model that is not of classes of the pixels of one date, another name of a file and a scaling that
    is none, MissingExtra without onnx, ModelError for a damaged package and for a network that ONNX does not compute as
    PyTorch does.
    """
    if out.suffix.lower() != ".dlpk":
        raise InputError(f"out: {out}; expected a .dlpk file")
    if not math.isfinite(scale) or scale == 0:
        raise InputError(f"scale: {scale:g}; expected a finite number other than 0")
    if not math.isfinite(offset):
        raise InputError(f"offset: {offset:g}; expected a finite number")
    card = cards.read(model, MapCard)
    if card.task != "segmentation" or card.dates != 1:
        raise InputError(
            f"model: {card.name} is for {card.task} (dates: {card.dates}); a .dlpk takes segmentation of one date"
        )
    device = onnx.choose("fp32")
    loaded = package.load(model)
    check_calibrated(loaded)
    backend = onnx.Backend(loaded.module, loaded.card.signature, device)
    if backend.asks:
        raise InputError(f"model: {card.name} needs {', '.join(sorted(backend.asks))}, which ArcGIS does not give")
    emd = definition(loaded.card, scale, offset)
    side = emd["ImageHeight"]
    shape = (1, len(card.bands), side, side)
    program = backend.convert(backend.exported({"x": shape}, fused=True))[onnx.MODEL]
    _check_equal(loaded, backend, program, shape)
    _write(out, loaded, emd, program)
    return emd


def definition(card: MapCard, scale: float, offset: float) -> dict[str, Any]:
    """The ``.emd`` of a card. A network whose reach is known gets a margin of it, another one half its overlap."""
    grid = card.chip_grid()
    padding = grid.halo if grid.exact else (grid.size - grid.step) // 2 // grid.stride * grid.stride
    side = grid.size
    if grid.exact and not grid.whole:  # the size of a core changes no class, and ArcGIS holds whole tiles
        side = min(grid.step, max(CORE // grid.stride, 1) * grid.stride) + 2 * padding
    colours = [[int(c.color[k : k + 2], 16) for k in (1, 3, 5)] for c in card.classes]
    return {
        "Framework": "ONNX",
        "ModelConfiguration": FUNCTION,
        "ModelName": card.name,
        "ModelType": "ImageClassification",
        "ModelFile": onnx.MODEL,
        "InferenceFunction": f"{FUNCTION}.py",
        "ImageHeight": side,
        "ImageWidth": side,
        "ModelPadding": padding,
        "BatchSize": 1,
        "ExtractBands": list(range(len(card.bands))),
        "ImageSpaceUsed": "MAP_SPACE",
        "CellSize": {"x": card.gsd, "y": card.gsd},
        "Classes": [
            {"Value": c.value, "Name": c.name, "Color": rgb} for c, rgb in zip(card.classes, colours, strict=True)
        ],
        "Geoml": {
            "Bands": [b.name for b in card.bands],
            "Mean": [b.mean for b in card.bands],
            "Std": [b.std for b in card.bands],
            "Unit": [b.unit for b in card.bands],
            "Scale": scale,
            "Offset": offset,
            "NoData": card.nodata,
            "Padding": padding,
            "SHA256": card.sha256,
        },
    }


def _check_equal(loaded: package.Package, backend: onnx.Backend, program: bytes, shape: tuple[int, ...]) -> None:
    """Raise ModelError where ONNX does not give what PyTorch gives, on noise."""
    chip = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    with torch.inference_mode():
        wanted = loaded.module.to(choose("cpu", "fp32").torch)(chip)
    found = backend.load({onnx.MODEL: program}, torch.get_num_threads())([chip])
    off, size = float((found - wanted).abs().max()), float(wanted.abs().max())
    if not (math.isfinite(off) and off <= EQUAL * max(1.0, size)):
        raise ModelError(f"{loaded.card.name}: ONNX differs from PyTorch by {off:.2g}; expected at most {EQUAL:g}")


def _write(out: Path, loaded: package.Package, emd: dict[str, Any], program: bytes) -> None:
    card = loaded.card
    function = Path(raster_function.__file__).read_text(encoding="utf-8")
    files = {
        f"{re.sub(r'[^A-Za-z0-9._-]+', '-', card.name).strip('.-') or 'model'}.emd": json.dumps(emd, indent=1).encode(),
        onnx.MODEL: program,
        f"{FUNCTION}.py": function.encode(),
        cards.CARD: (loaded.path / cards.CARD).read_bytes(),
        "README.txt": _page(card).encode(),
    }
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():  # a fixed time, so that the same model gives the same file
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    with atomic(out) as temporary:
        temporary.write_bytes(body.getvalue())


def _page(card: MapCard) -> str:
    """What somebody has to know who gets the file alone."""
    bands = "\n".join(f"  {k}  {b.name}" + (f", {b.unit}" if b.unit else "") for k, b in enumerate(card.bands, 1))
    classes = "\n".join(f"  {c.value}  {c.name}" for c in card.classes)
    return (
        f"{card.name}\n\n{card.description or 'No description.'}\n\nLicence: {card.license}\n\n"
        f"Pixel size: {card.gsd:g} m\n\nBands, in this order:\n{bands}\n\nClasses:\n{classes}\n\n"
        f"The card of the model is {cards.CARD}, a STAC item with the MLM extension.\n"
        "The raster function needs numpy and onnxruntime, which the deep learning libraries of ArcGIS bring.\n"
    )
