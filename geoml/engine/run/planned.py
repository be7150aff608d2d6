"""The model of a recipe as a plan sees it, and loaded for its blocks: one that was replaced since then is refused.

Every block says in its item which weights made it, and takes that from the plan; so what is loaded has to be that. An
encoder makes maps too: its card becomes that of a map for the steps of the recipe.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geoml.engine.cards.encoder import EMBEDDING, EncoderCard
from geoml.engine.packages import cards
from geoml.errors import InputError, ModelError
from geoml.io.cards.kinds import card_of as kind_of
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.remote import is_url
from geoml.recipe import PredictRecipe

if TYPE_CHECKING:
    from geoml.engine.packages.package import Package
    from geoml.engine.run.plan import Plan

ABOUT = frozenset(
    {"description", "license", "bbox", "training", "scores", "parameters", "domain", "int8", "level", "profile"}
)
"""Fields of a card that change no class of a pixel and no meaning of one."""
FITTED = "fitted"
"""Of ``made``: what was measured on the region of a run, which is not a matter of the package."""


def card_of(recipe: PredictRecipe) -> MapCard:
    """The card of the model of a recipe, an encoder for its steps. Raises what `geoml.engine.packages.cards.read` does,
    and InputError for more steps than an encoder takes."""
    folder = cards.find(recipe.model)
    if kind_of(cards.read_item(folder / cards.CARD)) is EncoderCard:
        return cards.read_in(folder, EncoderCard).map_card(len(recipe.query.datetime))
    return cards.read(recipe.model, MapCard)


def changed_fields(planned: MapCard, loaded: MapCard) -> list[str]:
    """Fields that differ and decide what a map says, of those that the plan has: one by an older geoml lacks some.

    What is measured on the region of a run is not a matter of the package.
    """
    measured = True if planned.task == EMBEDDING else {FITTED: True}
    leave = {**dict.fromkeys(ABOUT, True), "made": measured}
    before, after = (c.model_dump(mode="json", exclude=leave) for c in (planned, loaded))
    return [name for name in before if name in planned.model_fields_set and before[name] != after.get(name)]


def found_again(plan: Plan, run: Path) -> Plan:
    """The plan of a run in the folder ``run`` with a model and a catalog that can be read from here.

    Relative paths are from where the run was made. They are looked for from here, in the run and from the folders above
    it. Raises InputError if the package that made the run is at none of them.
    """
    run, query = run.absolute(), plan.recipe.query

    def places(path: str) -> list[Path]:
        return [Path(path), run / Path(path).name, *(above / path for above in run.parents)]

    packages = [p for p in places(plan.model_path) if (p / cards.CARD).is_file()]
    model = next((p for p in packages if cards.read_in(p, MapCard).sha256 == plan.card.sha256), None)
    if model is None and not is_url(plan.model_path):
        raise InputError(
            f"model: the package {plan.model_path} that made {run} is not here; give the command in the folder where"
            " the run was made"
        )
    catalog = next((str(p) for p in places(query.catalog) if p.is_file()), query.catalog)
    recipe = plan.recipe.model_copy(update={"query": query.model_copy(update={"catalog": catalog})})
    return plan.model_copy(update={"recipe": recipe, "model_path": str(model or plan.model_path)})


def load_planned(path: str, planned: MapCard) -> Package:
    """The package at ``path`` with the planned card. Raises ModelError if it is not the planned one, and what
    `geoml.engine.packages.package.load` or `geoml.engine.packages.encoder.load` raises."""
    package = _loaded(path, planned)
    if fields := changed_fields(planned, package.card):
        raise ModelError(
            f"{path}: replaced since the run was planned (other {', '.join(fields)}); "
            "give the command again, with another folder where blocks are done"
        )
    if planned.made != package.card.made:
        package = replace(package, card=package.card.model_copy(update={"made": planned.made}))
    return package


def _loaded(path: str, planned: MapCard) -> Package:
    from geoml.engine.packages import encoder  # torch, which a comparison of cards does without
    from geoml.engine.packages.package import Package, load

    if planned.task != EMBEDDING:
        return load(path)
    found = encoder.load(path)
    return Package(found.module, found.card.map_card(planned.dates), found.path)
