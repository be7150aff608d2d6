"""Heads, dissimilarity and the other model on features, as numpy has them; gaps; what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geoml import models
from geoml.errors import InputError
from geoml.models import few_labels
from geoml.models.few_labels import Decision, FewLabels, channels
from geoml.nn.applicability import nearest
from geoml.nn.linear_heads import likeness

BANDS, DATES, CLASSES, REFERENCES = 3, 4, 5, 7
SIZE = (6, 9)


def made(encoder: str | None = None, **changes: Any) -> FewLabels:
    """A module whose heads and training pixels are drawn by chance; an encoder sees the bands 2 and 0."""
    torch.manual_seed(0)
    about: dict[str, Any] = {"features": ["bands"], "references": REFERENCES}
    if encoder:
        tiny = models.find(encoder).TINY
        about |= {"encoder": encoder, "encoder_config": {**tiny, "ndvi": [0, 1], "groups": [[0], [1]]}}
        about |= {"encoder_bands": [2, 0], "features": ["embedding", "bands"], "other": ["bands"]}
    about |= changes
    raw = channels(CLASSES, references=bool(about["references"]), other=bool(about.get("other")))
    module = models.build("few_labels", {"bands": BANDS, "dates": DATES, "classes": raw, **about})
    assert isinstance(module, FewLabels)
    for name, buffer in module.named_buffers():
        if name.rsplit(".", 1)[-1] in ("references", "weights", "offset", "landmarks", "scale"):
            buffer.copy_(torch.rand(buffer.shape))
    module.reach.fill_(1.7)
    return module.eval()


def given(seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    looks = torch.rand(2, DATES, *SIZE, generator=random) < 0.6
    looks[:, :, 0, 0] = False
    x = torch.randn(2, DATES * BANDS, *SIZE, generator=random)
    months = torch.tensor([[0, 3, 6, 9]] * 2)
    place = torch.rand(2, 2, *SIZE, generator=random) * 50
    return {"x": x * looks.repeat_interleave(BANDS, 1), "looks": looks, "months": months, "place": place}


def head(decision: Decision, rows: np.ndarray) -> np.ndarray:
    layer = decision.linear
    assert layer.bias is not None
    weight, bias = (t.detach().double().numpy() for t in (layer.weight[..., 0, 0], layer.bias))
    landmarks, scale, offset = (getattr(decision, n).double().numpy() for n in ("landmarks", "scale", "offset"))
    return (likeness(rows * scale - offset, landmarks) if len(landmarks) else rows) @ weight.T + bias


@pytest.mark.parametrize("landmarks", [{}, {"landmarks": 6}, {"landmarks": 4, "other_landmarks": 3}])
@pytest.mark.parametrize("encoder", [None, "presto", "galileo"])
@torch.no_grad()
def test_every_channel_is_what_numpy_makes_of_the_features(encoder: str | None, landmarks: dict[str, int]) -> None:
    module = made(encoder, **landmarks)
    features = {n: f.double().movedim(1, -1).flatten(0, 2).numpy() for n, f in module.features(**given()).items()}
    mine = np.concatenate([features[n] for n in module.config.features], 1)
    found = module(**given()).movedim(1, -1).flatten(0, 2).numpy()
    expected = [head(module.head, mine)]
    references, weights, offset = (getattr(module, n).double().numpy() for n in ("references", "weights", "offset"))
    expected.append(nearest(mine * weights - offset, references)[:, None] / 1.7)
    if module.other is not None:
        expected.append(head(module.other, features["bands"]))
    np.testing.assert_allclose(found, np.concatenate(expected, 1), atol=2e-4, rtol=2e-4)
    assert found.shape[1] == channels(CLASSES, references=True, other=encoder is not None)


@pytest.mark.parametrize("encoder", [None, "presto", "galileo"])
@torch.inference_mode()
def test_strips_change_no_bit_and_bound_what_is_in_memory(encoder: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = made(encoder, landmarks=6)
    monkeypatch.setattr(few_labels, "ROWS", 64)
    whole = module(**given())
    seen: list[int] = []
    features = module.features
    monkeypatch.setattr(module, "features", lambda x, *more: (seen.append(x.shape[-2]), features(x, *more))[1])
    monkeypatch.setattr(few_labels, "STRIP", 2 * SIZE[1] * 4)
    assert torch.equal(module(**given()), whole)
    assert max(seen) == 4
    assert sum(seen) == SIZE[0]


@torch.no_grad()
def test_the_encoder_sees_its_bands_in_its_order() -> None:
    module, context = made("presto"), given()
    assert module.encoder is not None
    chosen = [d * BANDS + b for d in range(DATES) for b in (2, 0)]
    more = {k: v for k, v in context.items() if k != "x"}
    expected = module.encoder(context["x"][:, chosen], **more)
    torch.testing.assert_close(module.features(**context)["embedding"], expected, rtol=0, atol=0)


@torch.no_grad()
def test_a_gap_is_filled_and_what_stands_in_it_changes_nothing() -> None:
    module, context = made("presto"), given()
    hidden = ~context["looks"].repeat_interleave(BANDS, 1)
    other = {**context, "x": context["x"].masked_fill(hidden, 99.0)}
    torch.testing.assert_close(module(**other), module(**context), rtol=0, atol=0)
    bands = module.features(**context)["bands"].unflatten(1, (DATES, BANDS))
    seen = context["looks"][:, :, None]
    mean = (context["x"].unflatten(1, (DATES, BANDS)) * seen).sum(1) / seen.sum(1).clamp(min=1)
    torch.testing.assert_close(bands[:, 1], torch.where(seen[:, 1], context["x"][:, BANDS : 2 * BANDS], mean))
    assert torch.isfinite(module(**context)).all()
    assert not module.features(**context)["embedding"][:, :, 0, 0].any(), "a pixel without any look"


@torch.no_grad()
def test_a_training_pixel_is_no_distance_away_and_reach_is_one() -> None:
    module = made(dates=1, bands=2, references=2)
    module.references.copy_(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    module.weights.copy_(torch.tensor([1.0, 2.0]))
    module.offset.copy_(torch.tensor([1.0, 0.0]))
    module.reach.fill_(5.0)
    x = torch.tensor([[1.0, 0.0], [4.0, 2.0], [-4.0, 0.0], [1.0, 25.0]]).T[None, :, :, None]
    found = module(x)[0, CLASSES, :, 0]
    expected = [0.0, 0.0, 1.0, float(np.hypot(3, 46)) / 5]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_without_references_or_another_model_there_are_logits_alone() -> None:
    module = made(references=0)
    assert module.config.logits == CLASSES
    assert module(given()["x"]).shape[1] == CLASSES


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"features": ["bands", "height"]}, r"features: \['height'\]; expected some of"),
        ({"features": []}, "features: none given"),
        ({"features": ["embedding"]}, "features: an embedding needs an encoder"),
        ({"other": ["embedding"]}, "other: an embedding needs an encoder"),
        ({"other": ["bands"], "classes": 6}, "classes: 6 channels"),
        ({"encoder": "presto", "dates": 25}, "dates: 25; presto takes at most 24"),
        ({"encoder": "unet"}, "unet"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], says: str) -> None:
    about = {"bands": 2, "dates": 1, "classes": 5, "references": 2, **changes}
    with pytest.raises(InputError, match=says):
        models.build("few_labels", about)
