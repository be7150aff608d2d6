"""The folder in which a training that is not finished keeps its state, and whose recipe it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from geoml.engine.packages import cards
from geoml.engine.packages.cards import CARD
from geoml.engine.train.loop import LAST
from geoml.errors import DataError, InputError
from geoml.io.cards.card import ModelCard
from geoml.io.stores.store import read_small, within, write_json
from geoml.recipe import differences

C = TypeVar("C", bound=ModelCard)

STATE = ".fit"
"""Folder below the output that holds the state of a training; it is removed when the package is complete."""

NOTE = "recipe.json"
"""In it: which recipe."""

FORMAT = 2
"""Of the state. Before there was a number, these files held it."""

EARLIER = ("progress.json", "backbone.safetensors")


@dataclass(frozen=True)
class FolderClaim:
    """A recipe that wants to be trained in the folder ``out``; ``hash`` is of what changes its weights."""

    out: Path
    recipe: BaseModel
    hash: str

    @property
    def state(self) -> Path:
        return self.out / STATE

    @property
    def begun(self) -> bool:
        """True where an epoch has been finished, of any part of a training, or a part of it has become a package."""
        return any(any(self.state.rglob(name)) for name in (LAST, *EARLIER, CARD))

    def check(self) -> None:
        """Raise InputError, naming the fields that differ, when another recipe is being trained there, and for the
        state of another version of geoml.

        A training that has not come to the end of an epoch holds no one up.
        """
        if not self.begun:
            return
        try:
            before = json.loads(read_small(self.state / NOTE) or b"{}")
        except (ValueError, RecursionError, DataError):
            before = {}
        if before.get("hash", self.hash) != self.hash:
            said = self.other(before.get("recipe"))
            raise InputError(
                f"out: {self.out} contains an unfinished run of a different recipe: {said}, or delete {self.state}"
            )
        if before.get("format") != FORMAT:
            raise InputError(
                f"out: {self.out} contains an unfinished run of another version of geoml, which cannot be resumed; "
                f"choose another folder, or delete {self.state} to start afresh"
            )

    def finished(self, kind: type[C]) -> C | None:
        """The card of the package that this recipe has made there; None if it still has to be trained.

        Raises InputError for the package of another recipe.
        """
        if self.state.exists() or not (self.out / cards.CARD).exists():
            return None
        card = cards.read_in(self.out, kind)
        if card.training.get("recipe_hash") != self.hash:
            raise InputError(
                f"out: {self.out} contains the package {card.name} of a different recipe; choose another folder"
            )
        return card

    def other(self, before: dict[str, Any] | None) -> str:
        """What differs between a recipe that was written down and this one, and what to do."""
        said = differences(before, self.recipe, ("description",)) if before else ""
        return f"{said or 'its fields are not written down there'}; choose another folder"

    def take(self, afresh: bool = False) -> Path:
        """Make ``out`` the folder of this recipe, whose training goes on there if it has begun; its state's folder.

        Raises InputError if nothing can be written, DataError for a link in its place.
        """
        try:
            if afresh or not self.begun:
                shutil.rmtree(self.state, ignore_errors=True)
            within(self.out, f"{STATE}/{NOTE}").parent.mkdir(parents=True, exist_ok=True)
            note = {"format": FORMAT, "hash": self.hash, "recipe": self.recipe.model_dump(mode="json")}
            write_json(self.state / NOTE, note)
        except OSError as err:
            raise InputError(f"out: {self.out} cannot be written ({err.strerror}); expected a writable folder") from err
        return self.state

    def forget(self) -> None:
        """Remove the state, once the package is written."""
        shutil.rmtree(self.state)
