"""A package with fewer bytes of weights, the same to all that use it; training writes float32."""

from __future__ import annotations

from pathlib import Path

from geoml.engine.packages import cards, weights
from geoml.errors import InputError
from geoml.io.cards.card import ModelCard, Stored
from geoml.nn.weights import precision

PREPARED = ("int8", "short_radius")
"""Fields of cards with what was measured on the weights as they were."""


def shrink(model: str | Path, out: str | Path, int8: bool = False) -> ModelCard:
    """Write to ``out`` the package ``model`` with smaller weights, and give its card.

    Matrices are written in half precision, with ``int8`` those of long rows in 8 bits; vectors stay. The card says so,
    and its scores stay those of the weights before. Raises InputError for an unknown name, an exported program, weights
    that are small already and a package that was prepared for int8; ModelError for a damaged package, and for a weight
    beyond half precision.
    """
    card, path, content = weights.read(model, type(cards.read_any(model)))
    if path.suffix != ".safetensors":
        raise InputError(f"model: {card.name} is an exported program; expected a package with .safetensors weights")
    if card.stored != "float32":
        raise InputError(f"model: {card.name} is stored as {card.stored}; expected a package as training writes it")
    if prepared := [name for name in PREPARED if getattr(card, name, None) is not None]:
        raise InputError(f"model: {card.name} was prepared with these weights ({prepared[0]}); shrink it before that")
    tensors = precision.stored(weights.read_tensors(content, path), half=True, int8=int8)
    kept: Stored = "int8" if int8 else "float16"
    card = card.model_copy(update={"stored": kept})
    return weights.write(card, weights.packed(tensors, card.name), out, path.parent)
