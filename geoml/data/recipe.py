"""The training recipe: one YAML file with everything that changes the weights, and nothing about the machine.

Paths may start with ``${GEOML_DATA}`` (``settings().data``) or ``${GEOML_CATALOGS}`` (the user's own catalogs, else the
shipped ones); the recipe keeps the text, so its hash is the same on every machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from geoml.data.source import Source
from geoml.errors import InputError, unknown
from geoml.io.cards.map_card import ClassInfo
from geoml.io.stores.remote import is_url
from geoml.io.unit_names import Unit
from geoml.recipe import Frozen, Place, digest
from geoml.settings import catalog_file, catalog_files, settings

if TYPE_CHECKING:
    from geoml.data.target import Target
    from geoml.data.targets.classes import ClassTarget

DATA, CATALOGS = "${GEOML_DATA}", "${GEOML_CATALOGS}"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Pattern of a name that may be one of a file."""
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Carve(Frozen):
    """A share of the training ground that becomes the validation split, by ground blocks."""

    size: float = Field(gt=0, description="side of a ground block in metres")
    share: float = Field(gt=0, lt=1)


class Lists(Frozen):
    """Official split files: a scene id (or a name that holds one) per line."""

    kind: Literal["lists"]
    train: str
    val: str | None = None
    test: str | None = None
    name: str = Field(default="{id}", description="pattern of a line around the id, such as {id}_S1Hand.tif")
    same_ground: bool = Field(default=False, description="scenes in no list join the split that covers their ground")
    carve: Carve | None = Field(default=None, description="take validation from train if there is no list for it")


class Blocks(Frozen):
    """By hash of the ground block: all that lies in one block is in one split, whatever the file or date."""

    later: ClassVar[tuple[str, ...]] = ("buffer",)

    kind: Literal["blocks"]
    size: float = Field(gt=0, description="side of a ground block in metres")
    val: Share = 0.15
    test: Share = 0.15
    buffer: float = Field(
        default=0.0,
        ge=0,
        description="metres inside the edges of held-out blocks that are not used, for scenes that are cut up",
    )


class RightPart(Frozen):
    """The right-hand part of every training image becomes the validation split: frames of a camera share ground."""

    share: float = Field(gt=0, lt=1, description="share of an image's columns")
    gap: int = Field(default=0, ge=0, description="unused columns to the left of it: as far as the camera moves")


class Files(Frozen):
    """By scene id: shell patterns; test is asked first, then val, the rest is train."""

    later: ClassVar[tuple[str, ...]] = ("strip",)

    kind: Literal["files"]
    test: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    train: tuple[str, ...] = ("*",)
    carve: Carve | None = None
    strip: RightPart | None = Field(
        default=None, description="take validation from train if images have no georeference"
    )


class ByLabel(Frozen):
    """By label file (source `stac`): the same images, disjoint labelled pixels."""

    kind: Literal["labels"]
    train: tuple[str, ...]
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    buffer: float = Field(
        default=0.0, ge=0, description="metres around held-out labels in which train labels are dropped"
    )
    carve: Carve | None = None


class Folds(Frozen):
    """Every group of scenes is held out once, by a training of its own on the others, and scored; the package then
    learns from all of them."""

    kind: Literal["folds"]
    of: dict[Annotated[str, Field(pattern=NAME)], tuple[str, ...]] = Field(
        min_length=2, description="group name: shell patterns of scene ids; scenes in no group always train"
    )
    never: tuple[str, ...] = Field(
        default=(), description="patterns of scenes that are not used, kept for a final check"
    )
    hold: str | None = Field(default=None, description="use this one group as test, in a training on the others only")
    carve: Carve

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.hold is not None and self.hold not in self.of:
            raise ValueError(f"hold: {self.hold!r}; expected one of {', '.join(self.of)}")
        return self


Split = Annotated[Lists | Blocks | Files | ByLabel | Folds, Field(discriminator="kind")]


class Model(Frozen):
    """An architecture and the arguments of its Config; ``bands`` and ``classes`` are filled in."""

    architecture: str = Field(description="name of a file in geoml/models")
    config: dict[str, Any] = Field(default_factory=dict, description="its options; bands and classes are filled in")


class FreezeFor(Frozen):
    """Freeze the encoder for the first epochs."""

    epochs: int = Field(ge=1)


class Augmentation(Frozen):
    """What training chips go through; image, valid mask and target move together, and all dates of a pair.

    Brightness, contrast and jitter are drawn for each date.
    """

    later: ClassVar[tuple[str, ...]] = ("rotate", "scale", "validation", "swap", "same")

    flips: bool = Field(default=True, description="the eight flips and quarter turns (D4), with equal probability")
    rotate: float = Field(
        default=0.0, ge=0, le=180, description="degrees: rotated by a uniformly random angle up to this, either way"
    )
    scale: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="scaled up or down by a factor of at most 1 + this, uniform in the logarithm",
    )
    validation: bool = Field(default=False, description="rotate validation chips too, each by its own fixed angle")
    brightness: float = Field(
        default=0.0, ge=0, description="added to each chip: up to this many standard deviations of each band"
    )
    contrast: float = Field(default=0.0, ge=0, lt=1, description="each chip scaled around its mean by 1 ± this")
    band_jitter: float = Field(default=0.0, ge=0, description="like brightness, but drawn separately for each band")
    swap: float = Field(
        default=0.0, ge=0, le=1, description="share of chips whose dates are swapped, and their classes with them"
    )
    same: float = Field(
        default=0.0, ge=0, le=1, description="share of chips that show one date twice, so that nothing changed"
    )


class Loss(Frozen):
    """The training loss; pixels without label or data have no part in it."""

    parts: dict[str, float] | Literal["auto"] = Field(
        default_factory=lambda: {"cross_entropy": 1.0},
        description="weights of cross_entropy, focal and dice; by default cross_entropy alone. auto, if the"
        " recipe has no loss: dice with cross_entropy, or with focal if a class has less than 5 % of"
        " the labelled pixels",
    )
    weights: Literal["none", "auto"] | tuple[float, ...] = Field(
        default="none",
        description="class weights; auto: inverse to the number of labelled train pixels, at most 10 x the smallest",
    )


class Optimiser(Frozen):
    kind: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0, description="maximum learning rate")
    weight_decay: float = Field(default=1e-2, ge=0, description="decoupled from the learning rate, as in AdamW")
    encoder_factor: float = Field(default=1.0, gt=0, description="learning rate of the encoder relative to the rest")
    clip: float = Field(default=1.0, ge=0, description="maximum gradient norm; 0 = no limit")


class Schedule(Frozen):
    kind: Literal["cosine", "constant"] = Field(
        default="cosine", description="course of the learning rate after warmup"
    )
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of all steps in which the learning rate rises")


class Sampling(Frozen):
    """How training crops are drawn; validation and test always see every pixel once."""

    later: ClassVar[tuple[str, ...]] = ("equally",)

    kind: Literal["uniform", "labelled", "balanced"] = Field(
        default="uniform",
        description="crops anywhere, around a labelled pixel, or around a pixel of a class drawn uniformly",
    )
    samples: int | None = Field(
        default=None, ge=1, description="crops per epoch; by default as many as tile the ground"
    )
    equally: bool = Field(
        default=False,
        description="draw as many crops from each of several sources, whatever their size; see source several",
    )


class EarlyStopping(Frozen):
    patience: int = Field(
        default=10,
        ge=1,
        description="epochs without a better validation score before training stops; early_stopping: null never"
        " stops early",
    )
    min_delta: float = Field(default=0.0, ge=0, description="smallest gain in the score that counts as better")


EVERY = "*"
"""Key of a unit that all bands have."""


def _for_each(value: Any) -> Any:
    return {EVERY: value} if isinstance(value, str) else value


class RasterRecipe(Frozen, ABC):
    """One training run of a model that makes maps: data, split, model and schedule in; a model package out.

    What is learnt is `target`, which the recipe of each task says in its own fields.
    """

    later: ClassVar[tuple[str, ...]] = ("task", "dates", "units", "averaging")
    compares: ClassVar[bool] = False
    """Labels say what changed between dates."""

    name: str = Field(pattern=NAME, description="name of the package")
    description: str = Field(default="", description="stored in the card")
    license: str = Field(default="Apache-2.0", description="stored in the card")
    task: str = Field(default="segmentation", description="name of a file in geoml/tasks; stored in the card")
    model: Model
    init: Place | None = Field(
        default=None,
        description="imagenet, efficientnet-lite0, or a model package to start from",
    )
    freeze: Literal["none", "encoder"] | FreezeFor = Field(
        default="none", description="what is not trained; or {epochs: n}: the encoder for the first n epochs"
    )
    bands: tuple[str, ...] = Field(min_length=1, description="common names of the bands")
    units: Annotated[dict[str, Unit], BeforeValidator(_for_each)] = Field(
        default_factory=dict,
        description="unit of each band, or one for all: reflectance, dB, linear power, K, DN; stored in the"
        " card. Items of a catalog are converted, files are assumed to be in it; by default as the"
        " items say",
    )
    dates: int = Field(
        default=1,
        ge=1,
        description="images of one place per sample; 2 for change. Bands, mean and std are the same for each",
    )
    gsd: float = Field(gt=0, description="metres per pixel")
    source: Source = Field(description="where images and labels come from, by kind")
    split: Split = Field(description="what is held out, by kind")
    augmentation: Augmentation = Augmentation()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    sampling: Sampling = Sampling()
    averaging: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay per step of the moving average of the weights, which is then what is kept",
    )
    early_stopping: EarlyStopping | None = EarlyStopping()
    epochs: int = Field(default=50, ge=1, description="maximum number of epochs; see early_stopping")
    batch: int = Field(default=8, ge=1, description="chips per step")
    chip_size: int = Field(default=256, ge=8, description="side of a chip in pixels")
    seed: int = Field(default=0, ge=0, description="of initial weights and drawn crops")
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto: as set on the machine")

    @property
    @abstractmethod
    def target(self) -> Target:
        """What is learnt."""

    @property
    def card_fields(self) -> dict[str, Any]:
        """Fields of the card of its package that the task alone knows."""
        return {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands: a name is used twice in {list(self.bands)}")
        if strange := set(self.units) - {EVERY, *self.bands}:
            raise ValueError(f"units: {sorted(strange)} are not bands of {list(self.bands)}")
        if isinstance(self.split, ByLabel) and not self.source.by_label:
            raise ValueError(f"split: kind 'labels' needs a source such as 'stac', not {self.source.kind!r}")
        if self.dates != self.source.looks:
            raise ValueError(f"dates: {self.dates}, but the source gives {self.source.looks}")
        if (self.augmentation.swap or self.augmentation.same) and not self.compares:
            raise ValueError(f"augmentation: swap and same are for tasks that compare dates, not {self.task!r}")
        offers = self.source.offers
        if offers is not None and (absent := [b for b in self.bands if b not in offers]):
            raise ValueError(f"bands: {absent} are not among source.file_bands {list(offers)}")
        return self

    @property
    def hash(self) -> str:
        """sha256 of what changes the weights (all but the description)."""
        value = _counted(self)
        del value["description"]
        if not self.source.converts:
            value.pop("units", None)  # files are read as they are
        return digest(value)

    @property
    def band_units(self) -> tuple[str | None, ...]:
        """The unit of each band, None if the recipe does not say it."""
        return tuple(self.units.get(b, self.units.get(EVERY)) for b in self.bands)


STANDARD = Model(
    architecture="unet",
    config={"encoder": "tu-tf_efficientnet_lite0", "decoder_channels": [128, 64, 32, 24, 16]},
)
"""What a recipe gets that names no model; its encoder starts from ImageNet."""
BY_BAND = "efficientnet-lite0-by-band"
STRONG = Augmentation(rotate=45, scale=0.4, brightness=0.5, contrast=0.4, band_jitter=0.25)
"""What a recipe gets that says nothing of augmentation; docs/scores.md has what was measured."""


def _start(known: dict[str, Any]) -> str | None:
    return BY_BAND if known.get("model") == STANDARD else None


class TrainRecipe(RasterRecipe):
    """A training run of a task of classes. What it does not say has the defaults of docs/training.md."""

    model: Model = Field(default=STANDARD, description="by default a U-Net on EfficientNet-Lite0")
    init: Place | None = Field(
        default_factory=_start,
        description="imagenet, efficientnet-lite0, or a model package to start from; if the recipe names no"
        " model, efficientnet-lite0-by-band, where each band gets the filters of its name",
    )
    augmentation: Augmentation = STRONG
    classes: tuple[ClassInfo, ...] = Field(
        min_length=2, description="value, name and color of each, at least two; for change also before and after"
    )
    loss: Loss = Loss(parts="auto")

    @property
    def target(self) -> ClassTarget:
        """Indices of the classes."""
        from geoml.data.targets.classes import ClassTarget

        return ClassTarget(self.classes)

    @property
    def card_fields(self) -> dict[str, Any]:
        """The classes."""
        return {"classes": self.classes}

    @model_validator(mode="after")
    def _of_classes(self) -> Self:
        values = [c.value for c in self.classes]
        if len(set(values)) != len(values):
            raise ValueError(f"classes: a value is used twice in {values}")
        if isinstance(self.loss.weights, tuple) and len(self.loss.weights) != len(values):
            raise ValueError(f"loss.weights: {len(self.loss.weights)} weights for {len(values)} classes")
        return self


class ChangeRecipe(TrainRecipe):
    """A training run of the task of changes."""

    compares: ClassVar[bool] = True

    @property
    def target(self) -> ClassTarget:
        """Indices of the classes of what changed."""
        from geoml.data.targets.classes import ClassTarget

        return ClassTarget(self.classes, swapped(self.classes) if self.augmentation.swap else (), compares=True)

    @model_validator(mode="after")
    def _turns_round(self) -> Self:
        if self.augmentation.swap:
            swapped(self.classes)
        return self


def swapped(classes: Sequence[ClassInfo]) -> tuple[int, ...]:
    """For each class the index of what it is when the dates are turned round: A to B becomes B to A.

    A class without ``before`` and ``after`` stays. Raises ValueError for a class whose counterpart is not there.
    """
    ways = {(c.before, c.after): i for i, c in reversed(list(enumerate(classes)))}
    out = []
    for i, c in enumerate(classes):
        if c.before == c.after:
            out.append(i)
        elif (c.after, c.before) in ways:
            out.append(ways[c.after, c.before])
        else:
            raise ValueError(f"augmentation.swap: no class goes from {c.after} to {c.before}, as {c.name} turned round")
    return tuple(out)


def _counted(model: BaseModel) -> dict[str, Any]:
    """What counts for the hash, as plain JSON values."""
    late = model.later if isinstance(model, Frozen) else ()
    fields = type(model).model_fields
    kept = {
        k: getattr(model, k)
        for k in fields
        if k not in late or getattr(model, k) != fields[k].get_default(call_default_factory=True)
    }
    dump = model.model_dump(mode="json", include=set(kept))
    return {k: _nested(v, dump[k]) for k, v in kept.items()}


def _nested(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        return _counted(value)
    return [_nested(v, d) for v, d in zip(value, dumped, strict=True)] if isinstance(value, tuple) else dumped


def recipe_names() -> list[str]:
    """Names of the recipes in ``catalogs/recipes``, sorted."""
    return [p.stem for p in catalog_files("recipes/*.yaml").values()]


def recipe_file(path: str | Path) -> Path:
    """The YAML file of a recipe by its path, or by its name in ``catalogs/recipes``. Raises InputError."""
    given = Path(path)
    shipped = catalog_file(f"recipes/{path}.yaml")
    if not given.exists() and not given.suffix and given.name == str(path) and not shipped.is_file():
        raise unknown("recipe", str(path), recipe_names())
    return shipped if not given.exists() and given.name == str(path) and shipped.is_file() else given


def resolve_vectors(text: str) -> str | Path:
    """What `geoml.io.tables.vectors.read` takes: the URL of a feature layer as it is, a file as `resolve` gives it."""
    return text if is_url(text) else resolve(text)


def resolve(text: str) -> Path:
    """``${GEOML_DATA}/…`` and ``${GEOML_CATALOGS}/…`` as a path of this machine. Raises InputError if it is not set."""
    if text.startswith(DATA):
        if (data := settings().data) is None:
            raise InputError(f"{text}: GEOML_DATA is not set; set it to the folder that holds the training data")
        return Path(f"{data}{text[len(DATA) :]}")
    if text.startswith(CATALOGS):
        return catalog_file(text[len(CATALOGS) :].lstrip("/"))
    if "${" in text:
        raise InputError(f"{text}: only ${{GEOML_DATA}} and ${{GEOML_CATALOGS}}, at the start, are expanded")
    return Path(text)
