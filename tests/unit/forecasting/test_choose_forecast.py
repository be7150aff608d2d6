"""What options are chosen by lies before the test, and what they are fitted on before that."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from geoml.forecasting.recipe import ForecastRecipe
from tests.benchmarks.choose_forecast import earlier
from tests.unit.forecasting import made


def test_the_months_that_judge_come_after_all_that_is_fitted_with_a_gap(tmp_path: Path) -> None:
    shipped = ForecastRecipe.model_validate(made.recipe(tmp_path / "table.parquet"))
    split = {"train": ["2024-01-01/2024-01-12", "2024-01-16/2024-01-25"], "val": "2024-01-28/2024-02-04"}
    shipped = ForecastRecipe.model_validate(
        {**shipped.model_dump(mode="json"), "split": {**split, "test": "2024-02-07/2024-02-19"}}
    )
    found = earlier(shipped, "2024-01-20/2024-02-04", {"config": {"recent": 3}})
    assert found.config == {"recent": 3}
    assert found.split.test == ("2024-01-20/2024-02-04",)
    assert not found.split.val
    ends = [end for _, end in found.split.of("train")]
    assert len(ends) == 2
    gap = pd.Timedelta(hours=shipped.history + shipped.steps[-1])
    assert pd.Timedelta(0) < pd.Timestamp("2024-01-20", tz="UTC") - max(ends) - gap <= pd.Timedelta(hours=1)
