"""What a report says beside "complete": whether the images are like the training data of the model."""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from typing import Any

from geoml.io.card import ModelCard
from geoml.io.domain import said

LEVELS = {"inside": "good", "partly": "part", "outside": "bad"}
TITLES = {
    "inside": "The images are like the training data",
    "partly": "The images are partly unlike the training data",
    "outside": "The images are unlike the training data",
}


def domain_view(
    domain: Mapping[str, Any] | None, card: ModelCard, sources: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """A colour (``level``) and two texts, as the verdict of the page has them.

    ``domain`` is what ``run.json`` says, ``sources`` the rows of the page's table of images.
    """
    text = said(domain)
    notes = " ".join(_others(card, sources))
    if not domain:
        more = f"{text.partition(': ')[2].capitalize()}. Whether it fits these images is not known."
        return {"level": "soft", "text": "Not known: is the model right for these images?", "more": more}
    more = f"{text[0].upper()}{text[1:]}. The layer domain shows where. {notes}"
    return {"level": LEVELS[domain["verdict"]], "text": TITLES[domain["verdict"]], "more": more.strip()}


def _others(card: ModelCard, sources: Sequence[Mapping[str, Any]]) -> list[str]:
    """Platforms and months of the images that the training data did not have, as sentences."""
    domain = card.domain
    if domain is None:
        return []
    out = []
    platforms = {str(s["platform"]) for s in sources if s.get("platform")}
    if domain.platforms and (strange := sorted(platforms - set(domain.platforms))):
        out.append(f"There are images of {', '.join(strange)}; it was trained on {', '.join(domain.platforms)}.")
    months = {int(m) for s in sources if (m := str(s.get("when", ""))[5:7]).isdigit() and 1 <= int(m) <= 12}
    if domain.months and (others := sorted(months - set(domain.months))):
        out.append(f"There are images of {_named(others)}; it was trained on {_named(domain.months)}.")
    return out


def _named(months: Sequence[int]) -> str:
    return ", ".join(calendar.month_name[m] for m in months)
