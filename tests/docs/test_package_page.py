"""README as a package index shows it: no link leads into a repository that is not there."""

from __future__ import annotations

import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import yaml
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from geoml import __version__
from tests.docs.documents import ROOT


def test_the_page_of_the_package_has_no_relative_link() -> None:
    page = ProjectMetadata(str(ROOT), PluginManager()).core.readme
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert links == re.findall(r"\]\((https?://[^)]*)\)", readme)
    assert "![" not in page
    assert "<!--" not in page
    assert re.findall(r"^#+ .*", page, re.MULTILINE) == re.findall(r"^#+ .*", readme, re.MULTILINE)
    assert re.findall(r"^```.*?^```", page, re.DOTALL | re.MULTILINE) == re.findall(
        r"^```.*?^```", readme, re.DOTALL | re.MULTILINE
    )


def test_one_version_everywhere() -> None:
    """Of the package, the citation and the newest part of the changelog; once it is dated, so is the citation."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, date = re.findall(r"^## (\S+) \((.*)\)$", changes, re.MULTILINE)[0]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert __version__ == newest == cited["version"]
    assert str(cited.get("date-released", "unreleased")) == date


def test_what_is_published_is_built_from_the_sources_alone(tmp_path: Path) -> None:
    """The wheel is built from the sdist, so whoever has that can build it."""
    build = ["uv", "build", "--quiet", "--no-build-isolation", "--offline", "--out-dir", str(tmp_path)]
    subprocess.run(
        [ROOT / ".venv" / "bin" / build[0], *build[1:], "--python", ROOT / ".venv/bin/python"], cwd=ROOT, check=True
    )
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    with tarfile.open(sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"geoml", "flows", "catalogs", "tests", "docs", "Makefile", "requirements.txt", "LICENSE"} <= top
    assert top.isdisjoint({".venv", "out", "dist", "uv.lock"})
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.split("/")[0] for name in archive.namelist()}
    assert folders == {"geoml", "geoml_flows", f"geoml-{__version__}.dist-info"}
    assert wheel.stat().st_size < 20 << 20
