"""README as a package index shows it: no link leads into a repository that is not there."""

from __future__ import annotations

import re

from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

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
