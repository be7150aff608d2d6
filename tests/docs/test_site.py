"""The documents as a site: every page has its place, no link leads nowhere, and README is the home page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import ROOT


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    site, env = tmp_path / "site", {**os.environ, "PYTHONPATH": ".", "NO_MKDOCS_2_WARNING": "1"}
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    built = subprocess.run(words, cwd=ROOT / "docs" / "site", env=env, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    home = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="quickstart.html"' in home
    title = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    assert title in home
    reference = (site / "site" / "reference" / "python.html").read_text(encoding="utf-8")
    assert 'id="geoml.pipeline.predict"' in reference
    pages = {p.stem for p in (ROOT / "docs").glob("*.md")}
    assert pages <= {p.stem for p in site.glob("*.html")}
    notebook = (site / "tutorials" / "own-area.html").read_text(encoding="utf-8")
    assert "import" in re.sub(r"<[^>]*>", "", notebook)
    assert 'href="tutorials/own-area.html"' in home
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', home)
    assert loaded == [], "the site needs nothing from elsewhere"


def test_a_link_that_leaves_the_documents_becomes_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    hooks = pytest.importorskip("hooks")
    text = (
        "[a](outputs.md#cogs) [b](../tests/e2e/test_flow.py) ![c](demo.png) [d](../README.md#x) [e](https://a.example)"
    )
    assert hooks._links(text, "docs") == (
        "[a](outputs.md#cogs) b (`tests/e2e/test_flow.py`) ![c](demo.png) [d](index.md#x) [e](https://a.example)"
    )
    assert hooks._links("[a](docs/outputs.md) `x`", ".") == "[a](outputs.md) `x`"
    assert hooks._links("[a](tutorials/change.ipynb)", "docs") == "[a](tutorials/change.md)"
    code = "```text\n[a](../x)\n```\n"
    assert hooks._links(code, "docs") == code
