"""The card of a model that makes maps: its fields, and how they stand in a STAC item with the MLM extension.

Specification: https://github.com/stac-extensions/mlm (v1.5.0). What MLM has a field for is written there and read from
there, so items of others load too; the rest travels as ``geoml:…`` properties.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from geoml.errors import InputError
from geoml.grid.chips import CORE, ChipGrid, blended_grid, exact_grid
from geoml.io import spectrum
from geoml.io.cards.card import ModelCard
from geoml.io.cards.detection import Detection
from geoml.io.cards.domain import Domain
from geoml.io.cards.int8 import Int8
from geoml.io.cards.profile import BandProfile, Level
from geoml.io.cards.short_radius import ShortRadius
from geoml.io.cards.signature import Signature
from geoml.io.unit_names import Unit, unit
from geoml.recipe import Frozen, Phase, digest
from geoml.texts import listed

TASKS = {
    "segmentation": "semantic-segmentation",
    "detection": "object-detection",
    "change": "change-detection",
    "embedding": "similarity-search",
}
"""Our names of tasks and those of MLM; a task that is missing here has the same name in both."""
REPORTS = ("training", "scores", "domain", "int8", "short_radius", "detection")
"""Fields that are not written where they are empty."""
WIDE = 16
"""Channels of raw output from which on the cores of chips are smaller: rows of a block are held until they are written.
"""
TEMPERATURE = "temperature"
"""In ``made``: what divides the logits of classes."""
GIVEN = "given"
"""The architecture that passes on what its input worked out, as ``made`` says."""
OWN_LABELS = re.compile(r"[/\\]labels-[0-9a-f]{8}[/\\]train\.gpkg$")
"""Labels as geoml train with images writes them: see `geoml.data.own_labels`."""
WHOLE = 256
"""Core of chips that are never trimmed, so that a small block does not cost a large chip."""
SIDES = ("before", "after")
"""Fields of a class of a change."""


def usual_overlap(chip_size: int) -> int:
    """Pixels shared by blended chips, if not given; for small chips a quarter."""
    return min(64, chip_size // 4)


def _empty(value: Any) -> bool:
    """True for what cards from before did not have, so that theirs are written as they were."""
    return not value


class Band(Frozen):
    """One input band. The model sees ``(value - mean) / std`` of physical values (reflectance, dB, digital number)."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: str = Field(description="common name: red, nir, vv, …")
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    unit: Unit = Field(default=None, description="of physical values: reflectance, dB, linear power, K, DN; see units")
    wavelength: float | None = Field(
        default=None, gt=0, exclude_if=_empty, description="of the centre, nm; items without the name are asked by it"
    )
    fwhm: float | None = Field(default=None, gt=0, exclude_if=_empty, description="full width at half maximum, nm")

    @model_validator(mode="before")
    @classmethod
    def _named_by_wavelength(cls, value: Any) -> Any:
        name = value.get("name") if isinstance(value, Mapping) else None
        said = spectrum.asked(name) if isinstance(name, str) else None
        return value if said is None else {"wavelength": said.wavelength, "fwhm": said.fwhm, **value}

    @property
    def asked(self) -> str:
        """The name by which items are asked for it, with its wavelength where that is known."""
        if self.wavelength is None or spectrum.asked(self.name) is not None:
            return self.name
        return f"{self.name}@{spectrum.spelled(self.wavelength, self.fwhm)}"

    @property
    def stac(self) -> dict[str, Any]:
        """As a band object of STAC, whose wavelengths are in micrometres."""
        lengths = {"eo:center_wavelength": self.wavelength, "eo:full_width_half_max": self.fwhm}
        micrometres = {k: round(v / 1000, 9) for k, v in lengths.items() if v is not None}
        return {"name": self.name} | ({"unit": self.unit} if self.unit else {}) | micrometres


class ClassInfo(Frozen):
    """One class of the output raster."""

    later: ClassVar[tuple[str, ...]] = SIDES

    value: int = Field(ge=0, le=254)
    name: str
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
    before: str | None = Field(default=None, description="of a change: what it was")
    after: str | None = Field(default=None, description="of a change: what it became")


class MapCard(ModelCard):
    """The contract of a package that makes maps; see the glossary for chip, stride and receptive radius."""

    what: ClassVar[str] = "a model of maps"
    own: ClassVar[tuple[str, ...]] = (
        "architecture", "task", "anchor", "dates", "overlap", "window", "stride", "radius", "nodata",
        "channels", "made", "level", "profile", "float32", *REPORTS,
    )  # fmt: skip
    """Fields that MLM lacks, or has in words of its own."""

    architecture: str = Field(description="file name in geoml/models, or 'exported' for a .pt2 package")
    config: dict[str, Any] = Field(default_factory=dict, description="arguments of the architecture's Config")
    task: str = "segmentation"
    bands: tuple[Band, ...]
    gsd: float = Field(gt=0, description="metres")
    anchor: Phase = Field(default=0.0, description="pixel phase of the plane, 0.0 or 0.5; see geoml.grid.plane")
    dates: int = Field(default=1, ge=1)
    chip_size: int = Field(gt=0)
    overlap: int = Field(default=64, ge=0, description="pixels shared by neighbouring chips when they are blended")
    window: Literal["hann", "triangle", "flat"] = Field(default="hann", description="blending window")
    stride: int = Field(default=1, ge=1, description="chip starts are multiples of it")
    radius: int | None = Field(
        default=None, description="receptive radius in pixels as measured, or less by tolerance; None: the whole chip"
    )
    classes: tuple[ClassInfo, ...]
    nodata: int = Field(default=255, ge=0, le=255, description="value of the output where nothing is known")
    channels: int | None = Field(
        default=None, ge=1, exclude_if=_empty, description="of the raw output; None: one for each class"
    )
    made: dict[str, Any] = Field(
        default_factory=dict, exclude_if=_empty, description="what the output has to know beside the classes"
    )
    level: Level | None = Field(
        default=None, exclude_if=_empty, description="of processing, of what it was trained on; None: any, or not known"
    )
    profile: BandProfile | None = Field(
        default=None, exclude_if=_empty, description="how the bands of a date stand to each other; None: not known"
    )
    float32: bool = Field(
        default=False, exclude_if=_empty, description="never computed in less: what is stored would show it"
    )
    domain: Domain | None = Field(default=None, description="what it saw in training; None: not known")
    int8: Int8 | None = Field(
        default=None, exclude_if=_empty, description="ranges and loss of its program in int8; None: it has none"
    )
    short_radius: ShortRadius | None = Field(
        default=None, exclude_if=_empty, description="of a radius by tolerance; None: the radius is what it sees"
    )
    detection: Detection | None = Field(
        default=None, exclude_if=_empty, description="thresholds and worth of its scores; None: it finds no objects"
    )

    @property
    def learnt(self) -> bool:
        return self.architecture == "exported" or super().learnt  # an older program may say nothing of itself

    @property
    def takes_more_labels(self) -> bool:
        """Whether what made it takes further labels with ``--add``: geoml learn, and geoml train with images."""
        source = (self.training.get("recipe") or {}).get("source")
        labels = source.get("labels") if isinstance(source, dict) else None
        files = [row.get("file") for row in labels or () if isinstance(row, dict)]
        return self.task == "landcover" or any(OWN_LABELS.search(str(file)) for file in files)

    @property
    def signature(self) -> Signature:
        """What a back end has to know of it."""
        identity = {"sha256": self.sha256, "architecture": self.architecture, "config": self.config}
        channels = len(self.bands) * self.dates
        return Signature(
            self.name,
            channels,
            self.chip_size,
            self.stride,
            self.dates,
            identity=identity,
            float32=self.float32,
            int8=self.int8,
        )

    def chip_grid(self, join: str = "auto") -> ChipGrid:
        """The lattice of the model's chips: ``exact`` (halo and core), ``blend`` (window), ``auto`` prefers exact.

        Raises InputError if exact joining is asked of a model that sees its whole chip, or has a radius by tolerance.
        """
        if join not in ("auto", "exact", "blend"):
            raise InputError(f"join: {join!r}; expected auto, exact or blend")
        if self.short_radius is not None and join != "blend":
            if join == "exact":
                raise InputError(
                    f"join: {self.name} has a radius by tolerance, which is not exact; expected auto or blend"
                )
            assert self.radius is not None
            core = self.short_radius.core
            return ChipGrid(core + 2 * self.radius, core, self.radius, self.stride, whole=True)
        if join != "blend" and self.radius is not None:
            core = CORE * WIDE // max(self.channels or WIDE, WIDE)
            # a radius is measured to a hundred-thousandth, which what is stored as it is would show: chips stay whole
            whole = self.float32 and self.radius > 0
            grid = exact_grid(self.chip_size, self.radius, self.stride, min(core, WHOLE) if whole else core)
            return replace(grid, whole=whole)
        if join == "exact":
            raise InputError(
                f"join: {self.name} sees its whole chip, so no halo makes it exact; expected auto or blend"
            )
        return blended_grid(self.chip_size, self.overlap, self.stride)

    @model_validator(mode="after")
    def _domain_of_the_bands(self) -> Self:
        for name, record in (("domain", self.domain), ("profile", self.profile)):
            if record is not None and len(record.center) != len(self.bands):
                raise ValueError(f"{name}: a record of {len(record.center)} bands; the card has {len(self.bands)}")
        return self

    @model_validator(mode="after")
    def _short_radius_of_the_lattice(self) -> Self:
        if (record := self.short_radius) is not None:
            if self.radius is None or not 0 < self.radius < record.radius_before:
                raise ValueError(f"short_radius: a radius of {self.radius} for {record.radius_before}; expected less")
            if self.radius % self.stride or record.core % self.stride:
                raise ValueError(
                    f"short_radius: radius or core is not a multiple of the network's stride {self.stride}"
                )
        return self

    @property
    def marks(self) -> tuple[str, ...]:
        """What of the card decides a pixel beside weights, for hashes: of a network as it is, nothing."""
        record = self.short_radius
        made = (digest(self.made),) if self.architecture == GIVEN else ()
        return (f"radius {self.radius}, core {record.core}",) if record else made

    @model_validator(mode="after")
    def _detection_of_the_classes(self) -> Self:
        names = {c.name for c in self.classes}
        if self.detection is not None and set(self.detection.classes) != names:
            raise ValueError(f"detection: a record of {sorted(self.detection.classes)}; the card has {sorted(names)}")
        return self

    def row(self) -> tuple[str, str, str, str]:
        bands, classes = (
            listed((b.name for b in self.bands), joined=" ", most=13),
            " ".join(c.name for c in self.classes),
        )
        return self.task, bands, f"{self.gsd:g} m", classes or str(self.made.get("name", ""))

    def to_mlm(self) -> dict[str, object]:
        time = [self.dates] if self.dates > 1 else []
        task = TASKS.get(self.task, self.task)
        started = self.training.get("init")
        own = self.model_dump(include=set(self.own))
        return {
            "gsd": self.gsd,
            # STAC band objects: MLM has no unit of its own, those have
            "bands": [b.stac for b in self.bands],
            "mlm:architecture": self.architecture,
            "mlm:tasks": [task],
            "mlm:pretrained": started is not None,
            "mlm:pretrained_source": started,
            "mlm:input": [
                {
                    "name": "image",
                    "bands": [b.name for b in self.bands],
                    "input": {
                        "shape": [-1, *time, len(self.bands), self.chip_size, self.chip_size],
                        "dim_order": ["batch", *["time" for _ in time], "bands", "height", "width"],
                        "data_type": "float32",
                    },
                    "value_scaling": [{"type": "z-score", "mean": b.mean, "stddev": b.std} for b in self.bands],
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
                        "shape": [-1, self.channels or len(self.classes), self.chip_size, self.chip_size],
                        "dim_order": ["batch", "class", "height", "width"],
                        "data_type": "float32",
                    },
                    **({"classification:classes": [_to_class(c) for c in self.classes]} if self.classes else {}),
                    "post_processing_function": None,
                }
            ],
            **({"mlm:hyperparameters": self.config} if self.config else {}),
            **{f"geoml:{name}": value for name, value in own.items() if value or name not in REPORTS},
        }

    @classmethod
    def from_mlm(cls, properties: Mapping[str, Any], weights: Mapping[str, object]) -> dict[str, object]:
        source, result = properties["mlm:input"][0], properties["mlm:output"][0]
        task = properties["mlm:tasks"][0]
        exported = weights.get("mlm:artifact_type") == "torch.export.save"
        fields: dict[str, object] = {
            "architecture": "exported" if exported else properties["mlm:architecture"],
            "task": next((ours for ours, theirs in TASKS.items() if theirs == task), task),
            "config": properties.get("mlm:hyperparameters", {}),
            "bands": _bands(source, properties.get("bands")),
            "gsd": properties["gsd"],
            "chip_size": source["input"]["shape"][-1],
            "classes": [_from_class(c) for c in result.get("classification:classes", ())],
        }
        fields["overlap"] = usual_overlap(int(source["input"]["shape"][-1]))
        return fields | {name: properties[f"geoml:{name}"] for name in cls.own if f"geoml:{name}" in properties}


def _bands(source: Mapping[str, Any], described: Any) -> list[dict[str, object]]:
    names = [b if isinstance(b, str) else b["name"] for b in source["bands"]]
    scaling = source.get("value_scaling") or [{"type": "scale", "value": 1.0}]
    if len(scaling) == 1:  # MLM: one entry stands for every band
        scaling = scaling * len(names)
    known = {b["name"]: _of_stac(b) for b in described or () if isinstance(b, Mapping)}
    return [{"name": n, **_normalisation(s), **known.get(n, {})} for n, s in zip(names, scaling, strict=True)]


def _of_stac(band: Mapping[str, Any]) -> dict[str, object]:
    """What a band object of STAC says beside its name."""
    lengths = {"wavelength": band.get("eo:center_wavelength"), "fwhm": band.get("eo:full_width_half_max")}
    said: dict[str, object] = {k: round(v * 1000, 6) for k, v in lengths.items() if isinstance(v, int | float)}
    return said | ({"unit": u} if (u := unit(band.get("unit"))) else {})


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


def _to_class(value: ClassInfo) -> dict[str, object]:
    sides = {f"geoml:{k}": v for k, v in value.model_dump(include=set(SIDES), exclude_none=True).items()}
    return {"value": value.value, "name": value.name, "color_hint": value.color[1:], **sides}


def _from_class(value: Mapping[str, object]) -> dict[str, object]:
    sides = {k: value[f"geoml:{k}"] for k in SIDES if f"geoml:{k}" in value}
    return {"value": value["value"], "name": value["name"], "color": f"#{value.get('color_hint', '808080')}"} | sides
