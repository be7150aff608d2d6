"""The verdict in a report: whether the images are like the training data of the model."""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from typing import Any

from geoml.io.cards.domain import describe
from geoml.io.cards.map_card import MapCard
from geoml.texts import percent

LEVELS = {"inside": "good", "partly": "part", "outside": "bad"}
TITLES = {
    "inside": "The images are like the training data of the model",
    "partly": "The images are partly unlike the training data of the model",
    "outside": "The images are unlike the training data of the model",
}


def domain_view(
    domain: Mapping[str, Any] | None, card: MapCard, sources: Sequence[Mapping[str, object]]
) -> dict[str, str]:
    """A colour (``level``) and two texts, as the verdict of the page has them.

    ``domain`` is the contents of ``run.json``, ``sources`` the rows of the page's table of images.
    """
    if not domain:
        title, _, why = describe(domain, profile=card.profile is not None).partition(": ")
        return {"level": "soft", "text": f"{title[0].upper()}{title[1:]}", "more": f"{why[0].upper()}{why[1:]}."}
    share = f"{percent(domain['outside'])} of the pixels are unlike them; the layer domain shows where."
    if domain["verdict"] != "inside":
        share += " There the classes and their confidence mean little."
    more = " ".join([share[0].upper() + share[1:], *_others(card, sources)])
    return {"level": LEVELS[domain["verdict"]], "text": TITLES[domain["verdict"]], "more": more}


def _others(card: MapCard, sources: Sequence[Mapping[str, object]]) -> list[str]:
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
