"""Where an import comes from and goes to, which may not be the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from geoml.cli import app
from geoml.engine import importers
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import InputError


def test_a_source_beside_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    with pytest.raises(InputError, match=r"source: .*other is given beside .*net\.onnx"):
        importers.convert(str(tmp_path / "net.onnx"), tmp_path / "other", tmp_path / "out", ImportOptions())


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("nothere.pt2", "import: nothere.pt2 does not exist; expected a file, a folder or a kind of import"),
        ("no/folder", "import: no/folder does not exist"),
        ("prest", "did you mean 'presto'"),
        ("dynamic-world", "source: expected the folder with dw_forward_vars.npz"),
        ("presto", "source: expected the folder with presto.safetensors"),
        ("galileo", "source: expected the folder with encoder.safetensors"),
    ],
)
def test_what_is_not_there_is_named(kind: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        importers.convert(kind, Path(), tmp_path / "out", ImportOptions())
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_into_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mynet").mkdir()
    (tmp_path / "mynet" / "config.json").write_text('{"_model_class": "Unet"}')
    with pytest.raises(InputError, match=r"out: .*mynet is the source itself"):
        importers.convert(str(tmp_path / "mynet"), Path(), tmp_path / "mynet", ImportOptions())
    monkeypatch.chdir(tmp_path)
    seen: list[Path] = []

    def convert(kind: str, source: Path, out: Path, asked: ImportOptions) -> None:
        seen.append(out)
        raise InputError("seen")

    monkeypatch.setattr(importers, "convert", convert)
    CliRunner().invoke(app, ["models", "import", "mynet"])
    CliRunner().invoke(app, ["models", "import", "other.onnx"])
    assert seen == [Path("mynet-geoml"), Path("other")]
