"""The tutorials run from top to bottom in a fresh kernel, offline, and lie in git without outputs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.documents import ROOT

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_a_tutorial_lies_here_without_outputs(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("AREA = None" in cell.source for cell in code) == 1, "one cell is for an area of one's own"


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_a_tutorial_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell ends, the run is shown with its picture, and the map is drawn."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shutil.copy(path, tmp_path)
    book = nbformat.read(tmp_path / path.name, as_version=4)
    NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [out for cell in book.cells if cell.cell_type == "code" for out in cell.outputs]
    pages = ["".join(out["data"].get("text/html", "")) for out in shown if "data" in out]
    assert sum("% of the region has data" in page and "data:image/png;base64" in page for page in pages) >= 1
    assert any("leaflet" in page for page in pages)
    told = "".join(out.text for out in shown if out.get("name") == "stdout")
    if path.stem == "change":
        *patches, elsewhere = (float(n) for n in re.findall(r"(\d+(?:\.\d+)?)% of the pixels called changed", told))
        assert len(patches) == 4
        assert min(patches) > 50, told
        assert elsewhere < 5, told
    else:
        assert 0.8 < float(re.search(r"says water: (\d\.\d+)", told)[1]) <= 1  # type: ignore[index]
    errors = [out.text for out in shown if out.get("name") == "stderr"]
    assert not [text for text in errors if "Warning" in text], errors
