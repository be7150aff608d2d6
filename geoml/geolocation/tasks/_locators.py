"""What the tasks of the wing share: they make locators, and score them on the tests of their recipe."""

from __future__ import annotations

from typing import ClassVar

from geoml.errors import InputError
from geoml.geolocation.cards.locator import LocatorCard
from geoml.recipe import Frozen


class LocatorTask:
    """The parts of a `geoml.engine.task.Task` that are the same for every task whose package is a locator."""

    name: ClassVar[str]
    card: ClassVar[type[Frozen]] = LocatorCard
    input: ClassVar = "pictures"
    output: ClassVar = "table"

    @classmethod
    def check_split(cls, split: str) -> None:
        """Raises InputError for another split than ``test``."""
        if split != "test":
            raise InputError(f"split: {split}; a recipe of {cls.name} has several test sets, and all are scored")
