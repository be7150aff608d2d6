"""The published encoders by the commands of docs/few-labels.md, and what these print."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.printed import Cli, rows, said

__all__ = ["said"]  # a fixture

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("GEOML_DATA" not in os.environ, reason="GEOML_DATA is not set"),
]


def test_the_commands_of_the_document(said: Callable[..., str], cli: Cli, tmp_path: Path) -> None:
    weights = Path(os.environ["GEOML_DATA"]) / "fewlabels" / "weights"
    for kind, folder in (("presto", "presto"), ("galileo", "galileo_nano")):
        out = tmp_path / kind
        assert said("models", "import", kind, weights / folder, "--out", out).split() == ["wrote", str(out)]
        told = rows(said("models", "show", out))
        assert [told[k][0] for k in ("architecture", "task", "level", "licence")] == [kind, "encoder", "L1C", "MIT"]
    out = tmp_path / "lite0"
    assert said("models", "import", "lite0", "--out", out).split() == ["wrote", str(out)]
    told = rows(said("models", "show", out))
    assert [told[k][0] for k in ("architecture", "level", "licence")] == ["lite0", "L1C", "Apache-2.0"]
    swapped = cli("models", "import", "presto", weights / "galileo_nano", "--out", tmp_path / "none")
    assert swapped.exit_code
    assert "Error" in swapped.stderr
    assert not (tmp_path / "none").exists()
