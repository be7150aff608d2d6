"""Which back end runs a network, by the setting ``backend``, and how a run records it.

``torch`` is the default also where others are installed: a map then is the same, to the last byte, on machines that
have them and on those that have not. ``auto`` takes the fastest that passes its proof.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from geoml import models
from geoml.engine.contract import BACKENDS, Backend
from geoml.engine.packages.package import Package
from geoml.errors import InputError, MissingExtra, ModelError
from geoml.io.software import MADE_BY, software
from geoml.settings import settings

if TYPE_CHECKING:
    from torch import nn

    from geoml.io.cards.signature import Signature

log = logging.getLogger(__name__)

TORCH, AUTO = "torch", "auto"
FASTER = 1.05
"""How much faster than PyTorch another one has to be: what is less is noise, and not worth other last digits."""


class ChosenBackend(NamedTuple):
    """A back end, and what the item of a block says of it."""

    backend: Backend
    properties: Mapping[str, Any]


def asked_of_machine() -> tuple[str, Hashable]:
    """What the settings ask for, as a key of what is made for it. Raises InputError, or MissingExtra for a name."""
    name = settings().backend
    return name, BACKENDS.find(TORCH if name == AUTO else name).choose()


def choose_backend(package: Package, size: int, asked: tuple[str, Hashable]) -> ChosenBackend:
    """The back end of a package of maps for chips of ``size`` pixels a side; see `backend_for`. Raises InputError for
    chips that are too large for its program."""
    most = getattr(package.module, "largest_side", None)
    if most is not None and size > most:
        raise InputError(f"size: {package.card.name} would get {size} pixels a side; its program takes at most {most}")
    again = models.calibrated(package.card.architecture)
    why = "a model that is calibrated on each run would be converted for each" if again else ""
    return backend_for(package.module, package.card.signature, size, asked, torch_since=why)


def backend_for(
    module: nn.Module, signature: Signature, size: int, asked: tuple[str, Hashable], *, torch_since: str = ""
) -> ChosenBackend:
    """The back end of a network for chips of ``size`` pixels a side; ``asked`` is of `asked_of_machine`.

    ``torch_since`` is why ``auto`` stays with PyTorch. Raises ModelError if one that was named does not pass its
    proof, and what making it raises.
    """
    name, device = asked
    if name == AUTO:
        return _fastest(module, signature, size, device, [torch_since] if torch_since else [])
    backend = BACKENDS.find(name).Backend(module, signature, device)
    try:
        proof = backend.prove(size)
    except ModelError as err:
        raise ModelError(f"backend: {err}; take GEOML_BACKEND=torch, or auto") from err
    return _chosen(backend, "by the setting", proof)


def _chosen(backend: Backend, reason: str, proof: Mapping[str, Any] | None) -> ChosenBackend:
    facts = {"name": backend.name, "precision": backend.precision, "reason": reason, "proof": proof}
    made = {p: version(p) for p in backend.packages}
    return ChosenBackend(backend, {MADE_BY: facts, **({"processing:software": {**software(), **made}} if made else {})})


def _fastest(module: nn.Module, signature: Signature, size: int, device: Hashable, said: list[str]) -> ChosenBackend:
    """The fastest back end that passes its proof, else PyTorch with the reason, which the log says."""
    best: tuple[float, Backend, Mapping[str, Any]] | None = None
    for name, file in _candidates(said):
        try:
            backend: Backend = file.Backend(module, signature, file.choose())
            proof = backend.prove(size) or {}
        except (InputError, MissingExtra, ModelError) as err:
            said.append(f"{name}: {err}")
            continue
        speed = float(proof.get("speed", 0.0))
        said.append(f"{name}: {speed:.2f} x torch")
        if speed >= FASTER and (best is None or speed > best[0]):
            best = speed, backend, proof
    reason = f"auto; {'; '.join(said)}"
    if best is not None:
        return _chosen(best[1], reason, best[2])
    log.warning("backend: torch (%s)", reason)
    return _chosen(BACKENDS.find(TORCH).Backend(module, signature, device), reason, None)


def _candidates(said: list[str]) -> list[tuple[str, ModuleType]]:
    """The files of other back ends than PyTorch; none, saying why, where no other can or should run the network."""
    if said:
        return []
    kind = BACKENDS.find(TORCH).choose().torch.type
    files = [(name, BACKENDS.find(name)) for name in BACKENDS.names()]
    found = [(name, file) for name, file in files if kind in file.Backend.auto]
    if not found:
        said.append(f"no other is tried on {kind}")
    return found
