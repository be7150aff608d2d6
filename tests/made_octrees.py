"""COPC and EPT with known points: each node has a random share of what lies below it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import copclib
import laspy
import numpy as np
from numpy.typing import NDArray

from tests.made_clouds import las_bytes

Key = tuple[int, int, int, int]


def shares(places: NDArray[np.float64], per_node: int, levels: int) -> Iterator[tuple[Key, NDArray[np.intp]]]:
    """Keys of nodes with the indices of their points, level after level; the cube is that of `cube`."""
    corner, side = cube(places)
    left = np.random.default_rng(0).permutation(len(places))
    for level in range(levels + 1):
        keys = np.floor((places[left] - corner) / (side / 2**level)).astype(int)
        _, node = np.unique(keys, axis=0, return_inverse=True)
        node = node.reshape(-1)
        order = np.argsort(node, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(node[order]) > 0])
        rest = []
        for chosen in np.split(order, starts[1:]):
            here = chosen if level == levels else chosen[:per_node]
            rest.append(chosen[len(here) :])
            yield (level, *map(int, keys[chosen[0]])), np.sort(left[here])
        left = left[np.concatenate(rest)]
        if not len(left):
            return


def cube(places: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Least corner and side of the octree."""
    low, high = places.min(0), places.max(0)
    half = float((high - low).max() / 2 + 0.01)
    return (low + high) / 2 - half, 2 * half


def write_copc(path: Path, source: Path, per_node: int = 10_000, levels: int = 6, pages: bool = False) -> None:
    """The points of a LAS file of format 6 or below as COPC; with ``pages`` a page for each node of level 2."""
    las = laspy.convert(laspy.read(source), point_format_id=6, file_version="1.4")
    scale, offset = las.header.scales, las.header.offsets
    crs = las.header.parse_crs()
    config = copclib.CopcConfigWriter(
        6, copclib.Vector3(*scale), copclib.Vector3(*offset), "" if crs is None else crs.to_wkt("WKT1_GDAL")
    )
    config.las_header.min = copclib.Vector3(*las.header.mins)
    config.las_header.max = copclib.Vector3(*las.header.maxs)
    places = np.stack([np.asarray(v) for v in (las.x, las.y, las.z)], 1)
    corner, side = cube(places)
    middle = corner + side / 2
    config.copc_info.center_x, config.copc_info.center_y, config.copc_info.center_z = map(float, middle)
    config.copc_info.halfsize, config.copc_info.spacing = side / 2, side / 128
    writer = copclib.FileWriter(str(path), config)
    for key, chosen in shares(places, per_node, levels):
        level, *place = key
        page = (2, *(v >> (level - 2) for v in place)) if pages and level >= 2 else (0, 0, 0, 0)
        body = np.frombuffer(las.points.array[chosen].tobytes(), np.int8)
        writer.AddNode(copclib.VoxelKey(*key), copclib.VectorChar(body), copclib.VoxelKey(*page))
    writer.Close()


def write_ept(folder: Path, columns: dict[str, NDArray[np.generic]], per_node: int = 100, levels: int = 4) -> Path:
    """Made points as an EPT with LAZ tiles and a page of the hierarchy for each node of level 1; its document."""
    places = np.stack([np.asarray(columns[n], np.float64) for n in "xyz"], 1)
    corner, side = cube(places)
    for name in ("ept-data", "ept-hierarchy"):
        (folder / name).mkdir(parents=True)
    pages: dict[str, dict[str, int]] = {"0-0-0-0": {}}
    for key, chosen in shares(places, per_node, levels):
        level, *place = key
        name = "-".join(map(str, key))
        (folder / "ept-data" / f"{name}.laz").write_bytes(las_bytes({n: v[chosen] for n, v in columns.items()}))
        above = "-".join(map(str, (1, *(v >> (level - 1) for v in place)))) if level else "0-0-0-0"
        pages["0-0-0-0"].setdefault(above, -1)
        pages.setdefault(above, {})[name] = len(chosen)
    for name, entries in pages.items():
        (folder / "ept-hierarchy" / f"{name}.json").write_text(json.dumps(entries))
    low, high = places.min(0), places.max(0)
    document = {
        "bounds": [*corner, *(corner + side)],
        "boundsConforming": [*low, *high],
        "dataType": "laszip",
        "hierarchyType": "json",
        "points": len(places),
        "schema": [],
        "span": 128,
        "srs": {"authority": "EPSG", "horizontal": "32632", "vertical": "5773"},
        "version": "1.0.0",
    }
    (folder / "ept.json").write_text(json.dumps(document))
    return folder / "ept.json"
