"""Which back end runs a network, as the setting ``backend`` says, and what a run says of it.

``torch`` is the default also where others are installed: a map then is the same, to the last byte, on machines that
have them and on those that have not. ``auto`` takes the fastest that passes its proof.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from geoml import models
from geoml.engine.contract import BACKENDS, Backend
from geoml.engine.packages.package import Package
from geoml.errors import InputError, MissingExtra, ModelError
from geoml.settings import settings

log = logging.getLogger(__name__)

TORCH, AUTO = "torch", "auto"
FASTER = 1.05
"""How much faster than PyTorch another one has to be: what is less is noise, and not worth other last digits."""


@dataclass(frozen=True)
class BackendFacts:
    """What ``run.json`` says of the back end: why it was taken, and what was compared before its first use."""

    name: str
    precision: str
    reason: str
    proof: Mapping[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        return asdict(self)


class ChosenBackend(NamedTuple):
    backend: Backend
    facts: BackendFacts


def check_backend(name: str) -> None:
    """Raise InputError for a name that is neither ``auto`` nor that of a file in geoml/backends."""
    if name != AUTO:
        BACKENDS.file(name)


def asked_of_machine() -> tuple[str, Hashable]:
    """What the settings ask for, as a key of what is made for it. Raises InputError, or MissingExtra for a name."""
    name = settings().backend
    check_backend(name)
    return name, BACKENDS.find(TORCH if name == AUTO else name).choose()


def choose_backend(package: Package, size: int, asked: tuple[str, Hashable]) -> ChosenBackend:
    """The back end for chips of ``size`` pixels a side; ``asked`` is of `asked_of_machine`.

    Raises ModelError where one that was named does not pass its proof, and what making it raises.
    """
    name, device = asked
    if name == AUTO:
        return _fastest(package, size, device)
    backend = BACKENDS.find(name).Backend(package.module, package.card, device)
    try:
        proof = backend.prove(size)
    except ModelError as err:
        raise ModelError(f"backend: {err}; take GEOML_BACKEND=torch, or auto") from err
    return ChosenBackend(backend, BackendFacts(name, backend.precision, "by the setting", proof))


def _fastest(package: Package, size: int, device: Hashable) -> ChosenBackend:
    """The fastest back end that passes its proof, else PyTorch with the reason, which the log says."""
    best: ChosenBackend | None = None
    usual = BACKENDS.find(TORCH).Backend
    why: list[str] = []
    if models.calibrated(package.card.architecture):
        why.append("a model that is calibrated on each run would be converted for each")
    elif settings().device not in (AUTO, "cpu") or device != BACKENDS.find(TORCH).choose("cpu"):
        why.append("the others compute on the processor")
    for name in () if why else (n for n in BACKENDS.names() if n != TORCH):
        try:
            file = BACKENDS.find(name)
            backend: Backend = file.Backend(package.module, package.card, file.choose())
            proof = backend.prove(size)
        except (InputError, MissingExtra, ModelError) as err:
            why.append(f"{name}: {err}")
            continue
        speed = float((proof or {}).get("speed", 0.0))
        why.append(f"{name}: {speed:.2f} x torch")
        if speed >= FASTER and (best is None or speed > float((best.facts.proof or {})["speed"])):
            best = ChosenBackend(backend, BackendFacts(name, backend.precision, "", proof))
    reason = "; ".join(why)
    if best is not None:
        found = best.facts
        return ChosenBackend(best.backend, BackendFacts(found.name, found.precision, f"auto: {reason}", found.proof))
    log.warning("backend: torch (%s)", reason)
    backend = usual(package.module, package.card, device)
    return ChosenBackend(backend, BackendFacts(TORCH, backend.precision, f"auto: {reason}"))
