"""Classes: (y, x) uint8 index in the classes of a recipe, `IGNORE` where nothing is known; int64 in a batch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from geoml.data.target import LISTED, DateMoves, Labels, PixelTarget
from geoml.errors import DataError, InputError
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.metrics import IGNORE
from geoml.texts import listed, text_of

if TYPE_CHECKING:
    from geoml.data.labels import VectorLabels


@dataclass(frozen=True)
class ClassTarget(PixelTarget):
    """Indices into ``classes``. ``turned_round`` gives each its index when the dates of a change are turned round;
    class 0 is unchanged."""

    classes: tuple[ClassInfo, ...]
    turned_round: tuple[int, ...] = ()
    compares: bool = False
    """Of what changed between dates."""

    dtype: ClassVar = np.uint8
    learnt: ClassVar = np.int64
    unknown: ClassVar = IGNORE

    @cached_property
    def index_of(self) -> dict[int, int]:
        """Class value -> index in ``classes``."""
        return {c.value: i for i, c in enumerate(self.classes)}

    @property
    def moves(self) -> DateMoves | None:
        return self if self.compares else None

    def reversed(self, target: Labels) -> Labels:
        unknown = np.full(256 - len(self.turned_round), IGNORE, np.uint8)
        turned: NDArray[np.uint8] = np.append(np.asarray(self.turned_round, np.uint8), unknown)[target]
        return turned

    def unchanged(self, valid: NDArray[np.bool_]) -> Labels:
        """Known even where the pair has no label."""
        return np.where(valid, 0, IGNORE).astype(np.uint8)

    def label(self, field: str, value: float) -> float:
        if value not in self.index_of:
            raise InputError(f"{field}: {value} is not a class; classes are {sorted(self.index_of)}")
        return self.index_of[int(value)]

    def of_raster(
        self,
        values: NDArray[np.number],
        known: NDArray[np.bool_],
        where: str,
        mapped: Mapping[int, int],
        ignore: Sequence[int],
    ) -> Labels:
        found = [v.item() for v in np.unique(values[known]) if v not in ignore]
        strange = [v for v in found if mapped.get(v, v) not in self.index_of]
        if strange:
            raise self.unexplained(dict.fromkeys(strange, where))
        target = self.full(values.shape)
        for value in found:
            target[(values == value) & known] = self.index_of[mapped.get(value, value)]
        return target

    def of_properties(self, spec: VectorLabels, column: Sequence[Any] | None, count: int) -> list[float]:
        """By ``spec.values``, by the name of a class, or the number itself."""
        numbers, names = set(self.index_of), {c.name: c.value for c in self.classes}
        if column is None:
            if spec.value not in numbers:
                raise InputError(
                    f"labels {spec.name}: value {spec.value} is not a class; classes are {sorted(numbers)}"
                )
            return [self.index_of[spec.value]] * count
        out: list[float] = []
        strange: set[str] = set()
        for raw in column:
            text = text_of(raw)
            value = spec.values.get(text, names.get(text, int(text) if re.fullmatch(r"-?[0-9]+", text) else None))
            if value in numbers:
                out.append(self.index_of[value])
            else:
                strange.add(text)
        if strange:
            raise InputError(
                f"labels {spec.name}: {listed(map(repr, sorted(strange)), most=LISTED)} in {spec.field!r} of "
                f"{spec.file}: no class (values {sorted(numbers)}, names {sorted(names)}); map them under `values`"
            )
        return out

    def unexplained(self, values: Mapping[object, str]) -> DataError:
        files = ", ".join(f"{value!r} ({where})" for value, where in list(values.items())[:LISTED])
        error = DataError(
            f"labels: values {files} are not among the classes {sorted(self.index_of)};"
            " map them under source.values or list them under source.ignore"
        )
        error.values = dict(values)
        return error

    def known(self, target: Labels) -> NDArray[np.bool_]:
        return np.asarray(target != IGNORE)

    def places(self, target: Labels) -> Mapping[int, NDArray[np.int64]]:
        """By class."""
        return {int(k): np.argwhere(target == k) for k in np.unique(target[target != IGNORE])}

    def counted(self, target: Labels) -> NDArray[np.int64]:
        """(K,) pixels of each class."""
        return np.bincount(target[target != IGNORE], minlength=len(self.classes))
