"""Verification of forecasts, as ``verification.parquet``: one row for each lead, with the simple methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geoml.errors import DataError
from geoml.io.stores.store import atomic

TIME = pa.timestamp("ms", tz="UTC")
INTERVALS = (50, 80, 90)
SCHEMA = pa.schema(
    [
        ("model", pa.string()), ("variable", pa.string()), ("unit", pa.string()), ("reference_time", TIME),
        ("valid_time", TIME), ("lead", pa.string()), ("n", pa.int64()), ("mae", pa.float64()), ("rmse", pa.float64()),
        ("bias", pa.float64()), ("crps", pa.float64()), *((f"cover{k}", pa.float64()) for k in INTERVALS),
        ("persistence_mae", pa.float64()), ("simple", pa.map_(pa.string(), pa.float64())), ("best", pa.string()),
        ("best_mae", pa.float64()), ("skill", pa.float64()),
    ]
)  # fmt: skip
"""``simple`` is the MAE of each simple method that is not the model itself, ``best`` the best of them, ``skill`` that
against it."""
RUNNING = SCHEMA.append(pa.field("version", pa.int32())).append(pa.field("truth_sha256", pa.string()))
"""Of all cycles of a folder: ``version`` of the cycle, and the hash of what its values were compared with."""


def lead_row(about: Mapping[str, Any], scores: Mapping[str, Any], simple: Mapping[str, float | None]) -> dict[str, Any]:
    """A row of `SCHEMA`: ``about`` has the first columns, ``scores`` what `LeadScores` or `FieldScores` say, ``simple``
    the MAE of each simple method, persistence among them."""
    cover = {f"cover{k}": scores["coverage"].get(str(k)) for k in INTERVALS}
    means = {k: scores[k] for k in ("n", "mae", "rmse", "bias", "crps")}
    others = {k: v for k, v in simple.items() if v is not None and k != about["model"]}
    best = best_of(scores["mae"], others)
    return {**about, **means, **cover, "persistence_mae": simple["persistence"], "simple": list(others.items()), **best}


def best_of(mae: float | None, simple: Mapping[str, float]) -> dict[str, Any]:
    """``best`` of the simple methods, ``best_mae``, and ``skill`` against it."""
    best = min(simple, key=lambda k: simple[k], default=None)
    least = None if best is None else simple[best]
    return {"best": best, "best_mae": least, "skill": 1 - mae / least if mae is not None and least else None}


def write_verification(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Atomic. Raises DataError if nothing can be written."""
    write_running(pa.Table.from_pylist([dict(r) for r in rows], SCHEMA), path)


def write_running(table: pa.Table, path: Path) -> None:
    """Atomic. Raises DataError if nothing can be written."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_running(path: Path) -> pa.Table:
    """A table of `RUNNING`, empty if there is no file. Raises DataError for a damaged one."""
    if not path.is_file():
        return RUNNING.empty_table()
    try:
        return pq.read_table(path).cast(RUNNING)
    except (OSError, pa.ArrowException, ValueError) as err:
        raise DataError(f"{path}: cannot be read ({err}); delete it, and it is computed again") from err
