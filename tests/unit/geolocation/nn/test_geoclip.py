"""GeoCLIP's location encoder: the projection against pyproj, the layers by hand, its weights where installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from pyproj import Proj

from geoml.errors import MissingExtra, ModelError
from geoml.geolocation.nn import geoclip


def test_the_projection_is_that_of_another_program() -> None:
    lon, lat = torch.meshgrid(
        torch.linspace(-180, 180, 13, dtype=torch.float64), torch.linspace(-90, 90, 13, dtype=torch.float64)
    , indexing="ij")  # fmt: skip
    x, y = Proj("+proj=eqearth +R=1 +over")(lon.numpy(), lat.numpy())
    found = geoclip.equal_earth(lon, lat)
    torch.testing.assert_close(found[..., 0], torch.from_numpy(x), rtol=0, atol=1e-9)
    torch.testing.assert_close(found[..., 1], torch.from_numpy(y), rtol=0, atol=1e-9)


def test_the_answer_is_the_sum_of_its_scales() -> None:
    torch.manual_seed(0)
    made = geoclip.LocationEncoder().double().eval()
    lon, lat = torch.tensor([2.35, -179.9]).double(), torch.tensor([48.85, 90.0]).double()
    v = geoclip.equal_earth(lon, lat) * 66.50336 / 180
    with torch.no_grad():
        expected = torch.zeros(2, 512, dtype=torch.float64)
        for place in range(3):
            w = {k.removeprefix(f"LocEnc{place}."): x for k, x in made.state_dict().items() if f"LocEnc{place}." in k}
            turn = 2 * torch.pi * v @ w["capsule.0.b"].T
            x = torch.cat([torch.cos(turn), torch.sin(turn)], 1)
            for layer in (1, 3, 5):
                x = torch.relu(x @ w[f"capsule.{layer}.weight"].T + w[f"capsule.{layer}.bias"])
            expected += x @ w["head.0.weight"].T + w["head.0.bias"]
        torch.testing.assert_close(made(lon, lat), expected, atol=1e-5, rtol=1e-4)
    assert sum(p.numel() for p in made.parameters()) == 9_449_472
    scale = [float(part.capsule[0].b.std()) for part in made.children()]
    assert scale == pytest.approx([1, 16, 256], rel=0.2)


def test_says_what_to_install_or_what_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"geoml\[geoclip\]"):
        geoclip.load()
    monkeypatch.undo()
    (tmp_path / "geoclip").mkdir()
    (tmp_path / "geoclip" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match="published"):
        geoclip.load()


def test_published_weights_put_like_with_like_or_their_absence_is_named() -> None:
    """Cosines of the published module: Paris, Lyon 0.48; two places of the Sahara 0.66; Paris, Versailles 0.43."""
    if importlib.util.find_spec("geoclip") is None:
        with pytest.raises(MissingExtra, match="geoclip"):
            geoclip.load()
        return
    made = geoclip.load()
    lon = torch.tensor([2.3522, 4.8357, 10.0, 15.0, 2.1301])
    lat = torch.tensor([48.8566, 45.7640, 23.0, 23.0, 48.8049])
    with torch.no_grad():
        y = torch.nn.functional.normalize(made(lon, lat), dim=1)
    assert (y[0] @ y[1]).item() == pytest.approx(0.48, abs=0.02)
    assert (y[2] @ y[3]).item() == pytest.approx(0.66, abs=0.02)
    assert (y[0] @ y[4]).item() == pytest.approx(0.43, abs=0.02)
