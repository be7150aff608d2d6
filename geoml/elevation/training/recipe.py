"""The recipe of a network that classifies points: clouds with classes, what their codes mean, which are held out."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from geoml.engine.cards.point_classes import PointClass
from geoml.recipe import Frozen, digest


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]


class CloudFiles(Frozen):
    """Clouds of one producer: its codes mean the same in all of them."""

    files: Names = Field(
        min_length=1, description="LAS or LAZ; names may be shell patterns; ${GEOML_DATA} is the data folder"
    )
    codes: dict[int, Names] = Field(
        min_length=1,
        description="code: its class, or the classes it may be (code 1 of many deliveries is anything without"
        " another code); points with other codes are neither learnt nor scored",
    )
    crs: str | None = Field(default=None, description="horizontal CRS of files that state none, such as EPSG:28992")
    vertical: str | None = Field(default=None, description="CRS of heights that state none, such as EPSG:5709")


class CloudSplit(Frozen):
    """By names of files, as patterns of the shell: test is asked first, then val; the rest is train."""

    test: Names = ()
    val: Names = Field(default=(), description="chooses the epoch; without it the last epoch is kept")
    never: Names = Field(default=(), description="not used")

    def of(self, name: str) -> str:
        """Which split a file of this name is in: test, val, train or never."""
        for part in ("never", "test", "val"):
            if any(fnmatch(name, pattern) for pattern in getattr(self, part)):
                return part
        return "train"


class PointAugmentation(Frozen):
    """What training clouds go through, beside a turn about the vertical and a shift against the lattice."""

    thin: float = Field(
        default=0.25, gt=0, le=1, description="smallest share of points kept; drawn uniformly between this and all"
    )
    scale: float = Field(default=0.1, ge=0, lt=1, description="scaled by 1 ± this, heights separately")


class PointRecipe(Frozen):
    """One training of a classifier of points."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the package")
    description: str = Field(default="", description="stored in the card")
    license: str = Field(default="Apache-2.0", description="stored in the card")
    task: Literal["point_classes"] = "point_classes"
    classes: tuple[PointClass, ...] = Field(min_length=2, max_length=32)
    sources: tuple[CloudFiles, ...] = Field(min_length=1)
    split: CloudSplit = CloudSplit()
    architecture: str = Field(default="pointnet2", description="file name in geoml/models, of a network for points")
    config: dict[str, Any] = Field(default_factory=dict, description="arguments of the architecture's Config")
    augmentation: PointAugmentation = PointAugmentation()
    chip: float = Field(default=60.0, gt=0, description="side in metres of the square seen in one step")
    steps: int = Field(default=40, ge=1, description="steps per epoch, one chip each")
    epochs: int = Field(default=20, ge=1)
    lr: float = Field(default=3e-3, gt=0, description="maximum learning rate")
    weight_decay: float = Field(default=1e-2, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _known(self) -> Self:
        names = [c.name for c in self.classes]
        for source in self.sources:
            for code, meant in source.codes.items():
                if not meant or (strange := [m for m in meant if m not in names]):
                    raise ValueError(
                        f"codes: {code} is {strange if meant else 'nothing'}; expected of {', '.join(names)}"
                    )
        return self

    def meant(self, source: CloudFiles) -> dict[int, int]:
        """By code, the classes that it may be as bits: class k is bit k."""
        names = [c.name for c in self.classes]
        return {code: sum(1 << names.index(m) for m in set(meant)) for code, meant in source.codes.items()}

    @property
    def hash(self) -> str:
        """sha256 over the canonical JSON of what changes the weights."""
        return digest(self.model_dump(mode="json", exclude={"description", "license"}))
