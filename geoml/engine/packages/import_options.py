"""Facts about a network that a user imports, as options of ``geoml models import``. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from geoml.fields import Spelled
from geoml.io.unit_names import Unit
from geoml.recipe import Frozen


def _words(value: Any) -> Any:
    """``["red,nir", "swir16"]`` as three words."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    return [word for one in value for word in (str(one).replace(",", " ").split() if isinstance(one, str) else [one])]


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_words)]


class ImportOptions(Frozen):
    """What files of weights usually leave out. The network sees ``(value * scale - mean) / std`` of physical values."""

    bands: Words = Field(default=(), description="common names in the network's order, such as red,green,nir")
    gsd: float | None = Field(default=None, gt=0, description="pixel size in metres that the network was trained on")
    scale: float | None = Field(
        default=None, gt=0, description="factor on physical values, applied first, such as 10000"
    )
    mean: Numbers = Field(default=(), description="subtracted next: a number for each band, or one for all")
    std: Numbers = Field(default=(), description="divisor, applied last: a number for each band, or one for all")
    classes: Words = Field(
        default=(), description="names in the network's order, with an optional colour, such as water=#419bdf"
    )
    unit: Unit = Field(default=None, description="unit of the physical values, such as reflectance; see docs/domain.md")
    chip_size: int | None = Field(default=None, ge=8, le=4096, description="side of a chip in pixels; by default 256")
    name: str = Field(default="", description="name of the model; by default that of the new folder")
    license: Annotated[str, Spelled(values="SPDX")] = Field(
        default="", description="licence of the weights, best by its SPDX name such as Apache-2.0; any text is taken"
    )
    architecture: str = Field(default="", description="for a bare state dict: unet, deeplabv3+, …, or a model of timm")
    encoder: str = Field(default="", description="for a bare state dict of torchgeo: resnet18, …")
    logits: bool = Field(default=False, description="the output is logits, even if it looks like probabilities")
    reference: Path | None = Field(
        default=None, description=".npz with an `input` (batch, band, y, x) and the `output` that the original gave"
    )
