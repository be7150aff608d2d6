"""How the bands of Sentinel-2 L1C stand to each other, and how surely that tells a wrong order.

Fitted on the fuel moisture sites that are no test sites, every second one, and on every second lake; tried on the other
ones and on scenes of other places. ``--write`` writes the record that importers put into cards.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoml.cube.profile import LOOKS, fit, likeness, other_order, usual
from geoml.engine.importers._sentinel2 import BANDS, PROFILE
from geoml.io.cards.profile import BandProfile

DATA = Path(os.environ.get("GEOML_DATA", "../shared/data"))
SERIES = DATA / "fewlabels" / "pixel_series"
COLUMNS = [2, 3, 4, 5, 6, 7, 8, 9, 11, 12]
"""Of the stored series: B9 lies between."""
OF_13 = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]
FILES = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
SOURCE = "Sentinel-2 L1C series of nasaharvest/presto (MIT): lakes of algae_blooms, sites of fuel_moisture"

Floats = NDArray[np.float32]


def looks(name: str) -> Floats:
    """(N, month, band) reflectance."""
    found: Floats = np.load(SERIES / name / "s1_s2_era5_srtm.npy")[..., COLUMNS] / np.float32(1e4)
    return found


def sites() -> dict[str, Floats]:
    """Of fuel moisture, those that are not kept for tests."""
    values, site = looks("fuel_moisture"), np.load(SERIES / "fuel_moisture" / "site.npy")
    kept = np.load(SERIES / "fuel_moisture" / "is_test.npy") == 0
    return {str(s): values[kept & (site == s)].reshape(-1, len(COLUMNS)) for s in np.unique(site[kept])}


def fitted() -> BandProfile:
    lakes = looks("algae_blooms")[::2, ::3].reshape(-1, len(COLUMNS))
    return fit(np.concatenate([*list(sites().values())[::2], lakes]), SOURCE)


def others() -> dict[str, Floats]:
    """Scenes of L1C that the record was not fitted on."""
    found = {f"site {name}": v for name, v in list(sites().items())[1::2]}
    lakes = looks("algae_blooms")[1::2]
    found |= {f"lakes {k}": lakes[k : k + 50].reshape(-1, len(COLUMNS)) for k in range(0, len(lakes), 50)}
    patch = np.load(DATA / "timeseries" / "eolearn_testeopatch" / "REFERENCE_SCENES.npy")
    found |= {f"Slovenia, date {k}": v[..., OF_13].reshape(-1, len(COLUMNS)) for k, v in enumerate(patch)}
    found["Slovenia, all dates"] = patch[..., OF_13].reshape(-1, len(COLUMNS))
    with rasterio.open(DATA / "segmentation" / "sen1floods11" / "Spain_7370579_S2Hand.tif") as file:
        found["Spain"] = file.read()[OF_13].reshape(len(COLUMNS), -1).T / 1e4
    return {name: v[:: max(1, len(v) // 2000)] for name, v in found.items() if len(v) >= LOOKS}


def surface() -> dict[str, Floats]:
    """Patches of L2A."""
    found = {}
    for folder in sorted((DATA / "fewlabels" / "bigearthnet" / "tiny").iterdir()):
        bands = []
        for name in FILES:
            with rasterio.open(folder / f"{folder.name}_{name}.tif") as file:
                bands.append(file.read(1, out_shape=(60, 60)).ravel() / 1e4)
        found[folder.name] = np.stack(bands, axis=1)
    return found


def refused(profile: BandProfile, values: Floats) -> bool:
    return other_order(likeness(profile, values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    profile = fitted()
    if parser.parse_args().write:
        PROFILE.write_text(json.dumps(profile.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    names, scenes = [b.name for b in BANDS], others()
    wrong = {name: v for name, v in scenes.items() if refused(profile, v)}
    seen = [likeness(profile, v) for v in scenes.values()]
    far, limit = [s.distance for s in seen], usual(len(names))
    print(f"nearer by another order, at most: {max(s.distance - s.best for s in seen):.2f}")
    print(f"{profile.pixels} looks; right order called wrong: {len(wrong)} of {len(scenes)} scenes {list(wrong)}")
    print(f"distance: L1C {np.median(far):.1f}, at most {max(far):.1f} of {limit:.0f}")
    away = [likeness(profile, v).distance for v in surface().values()]
    told = sum(a > limit for a in away)
    print(f"          L2A {np.median(away):.1f}, at least {min(away):.1f}; {told} of {len(away)} told")
    offset = max(likeness(profile, v + np.float32(0.1)).distance for v in scenes.values())
    bright = sum(float(np.percentile(v, 2, axis=0).min()) >= 0.1 for v in scenes.values())
    print(f"          L1C + 0.1 at most {offset:.1f}; {bright} of {len(scenes)} have no value below 0.1 as they are")
    print("| exchanged | found in scenes |\n|---|---|")
    for i, j in itertools.combinations(range(len(names)), 2):
        order = list(range(len(names)))
        order[i], order[j] = j, i
        share = np.mean([refused(profile, v[:, order]) for v in scenes.values()])
        if share < 1:
            print(f"| {names[i]}, {names[j]} | {share:.0%} |")
    random = np.random.default_rng(0)
    orders = [random.permutation(len(names)) for _ in range(10)]
    share = np.mean([refused(profile, v[:, o]) for v in scenes.values() for o in orders])
    print(f"random orders: {share:.2%} of {len(orders)} x {len(scenes)}")
    alphabetical = [0, 1, 2, 3, 4, 5, 6, 8, 9, 7]
    print(f"B8A last: {np.mean([refused(profile, v[:, alphabetical]) for v in scenes.values()]):.0%}")


if __name__ == "__main__":
    main()
