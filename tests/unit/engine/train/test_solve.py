"""Networks that are solved at once: scikit-learn is the oracle of the optimum, and no order of channels counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from geoml.data.recipe import TrainRecipe
from geoml.engine.train.solve import penalties_of
from geoml.errors import InputError
from geoml.models.spectral import Config, Spectral
from geoml.testing import spectra

WAVELENGTHS = spectra.SENSOR.wavelengths
CLASSES = np.random.default_rng(1).integers(0, 3, (12, 20))


def solved(order: np.ndarray, penalty: float = 0.03) -> tuple[Spectral, torch.Tensor]:
    """A network of channels in an order, and its standardised (1, channel, y, x) input."""
    sensor = spectra.Sensor(tuple(WAVELENGTHS[k] for k in order), 15.0)
    data = spectra.scene(spectra.Sensor(WAVELENGTHS, 15.0), CLASSES, 2)[order] * 1e-4
    mean, std = data.mean((1, 2)), data.std((1, 2))
    net = Spectral(Config(40, 3, reach=3)).eval()
    net.describe(mean.tolist(), std.tolist(), sensor.wavelengths)
    x = torch.from_numpy(((data - mean[:, None, None]) / std[:, None, None]).astype(np.float32))
    net.solve(x.flatten(1).T.contiguous(), torch.from_numpy(CLASSES.ravel()), penalty)
    return net, x[None]


@torch.no_grad()
def test_the_optimum_is_that_of_scikit_learn() -> None:
    net, x = solved(np.arange(40))
    features = net.norm(net.features(x))[0].flatten(1).T.numpy()
    oracle = LogisticRegression(C=1 / (0.03 * len(features)), max_iter=2000, tol=1e-8)
    expected = oracle.fit(features, CLASSES.ravel()).predict_proba(features)
    found = net(x)[0].softmax(0).flatten(1).T.numpy()
    np.testing.assert_allclose(found, expected, atol=5e-3)


@torch.no_grad()
def test_the_order_of_channels_does_not_count() -> None:
    order = np.random.default_rng(5).permutation(40)
    (plain, x), (other, y) = solved(np.arange(40)), solved(order)
    torch.testing.assert_close(other(y).softmax(1), plain(x).softmax(1), atol=2e-3, rtol=0)


def test_what_a_loop_alone_could_do_is_refused() -> None:
    fields = {
        "name": "s",
        "model": {"architecture": "spectral"},
        "bands": ["red"],
        "gsd": 30,
        "classes": [{"value": k, "name": str(k), "color": "#102030"} for k in range(2)],
        "source": {"kind": "pairs", "root": "r", "images": "{id}.tif", "labels": "{id}.tif", "file_bands": ["red"]},
        "split": {"kind": "files"},
    }
    assert penalties_of(TrainRecipe.model_validate(fields))
    for wrong in ({"loss": {"weights": "auto"}}, {"freeze": "encoder"}, {"init": "imagenet"}):
        with pytest.raises(InputError, match="spectral is solved for the cross entropy of classes"):
            penalties_of(TrainRecipe.model_validate(fields | wrong))
