"""The budgets of the design: short files, thin flows, a light import, a small repository, links that lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "torch", "lightning", "rasterio", "xarray", "dask", "pystac", "geopandas", "pandas", "prefect", "matplotlib",
    "numpy", "pyproj", "shapely", "pydantic",
}  # fmt: skip


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(("folder", "most"), [("geoml", 500), ("flows", 120), ("tests", 600)])
def test_no_file_is_too_long(folder: str, most: int) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert {str(f.relative_to(ROOT)): n for f in files if (n := lines(f)) > most} == {}


def test_import_is_light() -> None:
    """Under 0.2 s of CPU on a plain machine; here measured against the import of a standard module of known weight, so
    that a slow machine does not fail and a heavy import does."""
    program = (
        "import json, sys, time\n"
        "start = time.process_time(); import email.message, http.client, sqlite3, unittest.mock\n"
        "known = time.process_time() - start\n"
        "start = time.process_time(); import geoml\n"
        "print(json.dumps([time.process_time() - start, known, sorted({m.partition('.')[0] for m in sys.modules})]))"
    )
    found = [
        json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT).stdout)
        for _ in range(3)
    ]
    assert set(found[0][2]) & HEAVY == set()
    assert min(own for own, _, _ in found) < max(0.2, 3 * min(known for _, known, _ in found))


def test_the_command_helps_without_torch() -> None:
    program = "import sys, geoml.cli; print([m for m in ('torch', 'prefect', 'rasterio') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def tracked() -> list[Path]:
    result = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=False, cwd=ROOT)
    if result.returncode:
        pytest.skip("not a git checkout")
    return [p for name in result.stdout.split("\0") if name and (p := ROOT / name).is_file()]


def test_no_large_file_is_in_git() -> None:
    """Imagery and weights of the demo lie in catalogs/; they have a budget of their own."""
    allowed = (ROOT / "catalogs", ROOT / "tests" / "schemas", ROOT / "docs" / "images")
    large = [p for p in tracked() if p.stat().st_size > 100_000 and not any(p.is_relative_to(a) for a in allowed)]
    assert [str(p.relative_to(ROOT)) for p in large if p.name != "requirements.txt"] == []
    demo = [p.stat().st_size for p in tracked() if p.is_relative_to(ROOT / "catalogs" / "demo")]
    assert sum(demo) <= 8_000_000
    models = {p: p.stat().st_size for p in tracked() if p.is_relative_to(ROOT / "catalogs" / "models")}
    locator = sum(size for p, size in models.items() if p.parent.name == "world-overhead")
    assert locator <= 8_000_000, "the one model with a budget of its own; every version of it stays in the history"
    assert sum(models.values()) - locator <= 10_000_000


def test_links_of_the_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert documents
    lost = []
    for document in documents:
        text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for href in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)", text):
            target, _, anchor = href.partition("#")
            if "://" in href or href.startswith("mailto:"):
                continue
            path = (document.parent / target) if target else document
            if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
                lost.append(f"{document.name}: {href}")
    assert lost == []


def anchors(document: Path) -> set[str]:
    """Anchors of headings as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?) *$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def test_nothing_tells_where_it_was_made() -> None:
    """No absolute path of a machine and no index URL in what is published."""
    text = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".j2"}
    found = []
    for path in tracked():
        if path.suffix in text and path != Path(__file__):
            content = path.read_text(encoding="utf-8")
            if re.search(r"/Users/\w+/|--index-url|--extra-index-url", content):
                found.append(str(path.relative_to(ROOT)))
    assert found == []
