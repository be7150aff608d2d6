"""What came true of a forecast, as ``verification.parquet``: one row a lead, with persistence beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geoml.io.stores.store import atomic

TIME = pa.timestamp("ms", tz="UTC")
INTERVALS = (50, 80, 90)
SCHEMA = pa.schema(
    [
        ("model", pa.string()), ("variable", pa.string()), ("unit", pa.string()), ("reference_time", TIME),
        ("valid_time", TIME), ("lead", pa.string()), ("n", pa.int64()), ("mae", pa.float64()), ("rmse", pa.float64()),
        ("bias", pa.float64()), ("crps", pa.float64()), *((f"cover{k}", pa.float64()) for k in INTERVALS),
        ("persistence_mae", pa.float64()), ("skill", pa.float64()),
    ]
)  # fmt: skip


def lead_row(about: Mapping[str, Any], scores: Mapping[str, Any], persistence: float | None) -> dict[str, Any]:
    """A row of `SCHEMA`: ``about`` has the first columns, ``scores`` what `LeadScores` or `FieldScores` say."""
    mae = scores["mae"]
    skill = 1 - mae / persistence if mae is not None and persistence else None
    cover = {f"cover{k}": scores["coverage"].get(str(k)) for k in INTERVALS}
    means = {k: scores[k] for k in ("n", "mae", "rmse", "bias", "crps")}
    return {**about, **means, **cover, "persistence_mae": persistence, "skill": skill}


def write_verification(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Atomic. Raises DataError where nothing can be written."""
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist([dict(r) for r in rows], SCHEMA), temporary, compression="zstd")
