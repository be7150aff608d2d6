"""A ``.pt2`` file of torch.export: it is the network itself, read and run without any code of its maker.

How to export one: docs/add-a-model.md. Only ``--reference`` can tell what the original
gave: to load the file by torch would trust it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from geoml.engine.importers import _network
from geoml.engine.packages import exported
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import InputError, ModelError
from geoml.io.cards.map_card import MapCard

WHAT = "a .pt2 file of torch.export"


def recognises(source: Path) -> bool:
    """Whether a file looks like one."""
    return source.suffix == ".pt2"


def convert(source: str | Path, out: str | Path, asked: ImportOptions) -> MapCard:
    """A package in ``out``; its card.

    Raises InputError for a file or options that are missing, ModelError for a program that is not plain or does not
    fit.
    """
    path = Path(source)
    try:
        content = path.read_bytes()
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); expected {WHAT}") from err
    program = exported.read_program(content, str(path))
    told = _network.Told(
        description=f"Imported from {path.name}",
        channels=program.bands.fixed,
        chip_size=program.fixed_size,
        fixed=program.fixed_size is not None,
        training={"imported": "torch.export"},
    )
    card = _network.card_of(asked, told, out)
    _network.refuse_chances(_output(program, card, path), asked)
    return exported.save_program(content, card, out, _network.checks(_network.given(asked)))


def _output(program: exported.Exported, card: MapCard, path: Path) -> Tensor:
    """What it gives for a chip of the card. Raises ModelError."""
    chip = _network.sample(len(card.bands), card.chip_size)
    try:
        with torch.no_grad():
            found: Tensor = program(chip)
    except (RuntimeError, AttributeError, TypeError, ValueError, LookupError) as err:
        why = f"fails on {len(card.bands)} bands of {card.chip_size} pixels"
        raise ModelError(f"{path}: the program {why} ({str(err)[:200]})") from err
    return found
