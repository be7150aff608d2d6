"""Land cover from some polygons of the bundled scene, and how far it can be trusted.

The polygons are those that the demo's network was trained on; here a head learns from them in seconds.
"""

from __future__ import annotations

from pathlib import Path

from geoml.cli.common import out_console
from geoml.cli.learn import learn_and_map
from geoml.engine.learn.recipe import LearnRecipe
from geoml.settings import shipped


def run(out: Path) -> None:
    """A package in OUT/model, the map and its page in OUT."""
    learn_and_map(make_recipe(), out)
    out_console.print(f"Look at {(out / 'report.html').resolve()}")


def make_recipe() -> LearnRecipe:
    """Three bands of one day, for lack of more."""
    return LearnRecipe.model_validate({
        "name": "demo-learn",
        "labels": str(shipped() / "demo" / "labels-train.geojson"),
        "field": "class",
        "query": {
            "catalog": "demo",
            "collection": "landsat-itaipu",
            "bbox": [-54.725, -25.46, -54.46, -25.15],
            "datetime": ["2020-05-18"],
        },
        "model": "bands",
        "bands": ["blue", "green", "red"],
        "gsd": 30,
        "crs": "data",
        "block_size": 512,
    })  # fmt: skip
