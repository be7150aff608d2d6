"""What every page is sure of: texts are escaped, and a name that is missing is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from geoml.io.report.template import template


def test_a_page_escapes_texts_and_knows_its_filters(tmp_path: Path) -> None:
    (tmp_path / "page.j2").write_text("{% if name %}\n  <p>{{ name | loud }}</p>\n{% endif %}\n")
    page = template(tmp_path / "page.j2", loud=str.upper)
    assert page.render(name="<b>") == "  <p>&lt;B&gt;</p>\n"
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        page.render()
