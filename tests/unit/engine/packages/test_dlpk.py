"""What a deep learning package of ArcGIS must not take over from a package: names that lead elsewhere, no numbers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from geoml import testing
from geoml.engine.packages import cards, dlpk
from geoml.errors import ModelError


@pytest.mark.parametrize(("name", "entry"), [("../../x", "x.emd"), ("…", "model.emd")])
def test_the_definition_lies_in_the_archive_whatever_the_model_is_called(tmp_path: Path, name: str, entry: str) -> None:
    testing.threshold_model(tmp_path / "model", ("red", "nir"), (0.2, 0.4))
    card = tmp_path / "model" / cards.CARD
    said = json.loads(card.read_text(encoding="utf-8"))
    said["properties"]["mlm:name"] = name
    card.write_text(json.dumps(said), encoding="utf-8")
    assert dlpk.export(tmp_path / "model", tmp_path / "a.dlpk")["ModelName"] == name
    with zipfile.ZipFile(tmp_path / "a.dlpk") as archive:
        assert [n for n in archive.namelist() if n.endswith(".emd")] == [entry]


def test_a_network_without_numbers_is_refused(tmp_path: Path) -> None:
    testing.threshold_model(tmp_path / "model", ("red", "nir"), (0.2, 0.4), steepness=1.5e38)
    with pytest.raises(ModelError, match="ONNX differs from PyTorch by nan"):
        dlpk.export(tmp_path / "model", tmp_path / "a.dlpk")
    assert not (tmp_path / "a.dlpk").exists()
