"""Of the site: README as the home page, notebooks as pages, links that leave ``docs/``, anchors as GitHub has them."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))|(<img [^>]*?src=\")([^\"]+)(\")")


def slug(text: str, separator: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", text.strip().lower())
    return kept.replace(" ", separator)


def on_files(files: Any, config: Any) -> Any:
    """Add the home page, which is README with links as from ``docs/``, and the notebooks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=_links(text, ".")))
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")):
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=_notebook(path)))
    return files


def _notebook(path: Path) -> str:
    """The cells of a notebook as Markdown. Outputs are not kept in the repository."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    body = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in parts]
    return "\n\n".join([*body, f"This page is the notebook `docs/tutorials/{path.name}`.", ""])


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of a page that leave the site become names of files in the repository."""
    if page.file.src_uri == "index.md":
        return markdown
    return _links(markdown, posixpath.join("docs", posixpath.dirname(page.file.src_uri)))


def _links(text: str, folder: str) -> str:
    """Rewrite the links of a document in ``folder`` of the repository."""

    def one(match: re.Match[str]) -> str:
        before, target, after = (match[1], match[2], match[3]) if match[2] else (match[4], match[5], match[6])
        path, mark, anchor = target.partition("#")
        if "://" in target or target.startswith(("mailto:", "#", "data:")):
            return match[0]
        place = posixpath.normpath(posixpath.join(folder, path))
        if place == "README.md":
            return f"{before}{_relative('docs/index.md', folder)}{mark}{anchor}{after}"
        if place.startswith("docs/") and (ROOT / place).is_file():
            page = place.removesuffix(".ipynb") + ".md" if place.endswith(".ipynb") else place
            return f"{before}{_relative(page, folder)}{mark}{anchor}{after}"
        return match[0] if not before.endswith("](") else f"{before[1:-2]} (`{place}`)"

    fenced = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if n % 2 else _LINK.sub(one, part) for n, part in enumerate(fenced))


def _relative(place: str, folder: str) -> str:
    """A file of ``docs/`` as a page of the site names it; the home page lies in ``docs/`` there."""
    return posixpath.relpath(place, "docs" if folder == "." else folder)
