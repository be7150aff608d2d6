"""Pages from Jinja templates: every text is escaped, and a name that is not given is an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


@lru_cache(maxsize=8)
def template(path: Path, **filters: Callable[..., str]) -> Template:
    """The template in a file, with filters of its own by name."""
    env = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters |= filters
    return env.get_template(path.name)
