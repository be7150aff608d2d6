"""Mixtures on the sphere against numerical integration, Monte Carlo and forms that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ive
from scipy.stats import vonmises_fisher

from geoml.errors import InputError
from geoml.geolocation.density import density as densities
from geoml.geolocation.density import vmf
from geoml.geolocation.density.density import Density
from geoml.grid import sphere

R = sphere.EARTH_RADIUS_KM


def mixture(n: int = 6, k: int = 12, seed: int = 0, shared: bool = True) -> Density:
    rng = np.random.default_rng(seed)
    shape = (k,) if shared else (n, k)
    return Density(rng.dirichlet(np.full(k, 0.4), n), rng.normal(size=(*shape, 3)), np.exp(rng.uniform(1, 9, shape)))


def drawn(density: Density, row: int, n: int = 40_000) -> np.ndarray:
    """(n, 3) random points of one picture of a shared mixture, by scipy."""
    rng = np.random.default_rng(5)
    counts = rng.multinomial(n, density.weight[row])
    return np.concatenate([
        vonmises_fisher(mu, kappa).rvs(c, random_state=rng).reshape(-1, 3)
        for mu, kappa, c in zip(density.xyz, density.kappa, counts, strict=True) if c
    ])  # fmt: skip


def one(lon: float, lat: float, kappa: float) -> Density:
    return Density(np.ones((1, 1)), sphere.to_xyz([lon], [lat]), np.array([kappa]))


@settings(max_examples=60)
@given(st.floats(0.1, 2000), st.floats(0, np.pi), st.floats(0.001, np.pi))
def test_mass_in_a_cap_is_that_of_a_numerical_integral(kappa: float, apart: float, radius: float) -> None:
    def ring(theta: float) -> float:
        """Density of the angle to the cap's centre, from scipy's Bessel function: an integral over other rings."""
        a = kappa * np.sin(theta) * np.sin(apart)
        log = kappa * (np.cos(theta) * np.cos(apart) - 1) + a + vmf.log_peak(kappa)
        return float(2 * np.pi * np.sin(theta) * ive(0, a) * np.exp(log))

    points = np.clip([apart - 3 / np.sqrt(kappa), apart, apart + 3 / np.sqrt(kappa)], 1e-9, radius - 1e-9)
    expected, _ = quad(ring, 0, radius, points=sorted(points), limit=200)
    assert vmf.mass_in_cap(kappa, apart, radius) == pytest.approx(expected, abs=1e-4)


@given(st.floats(1e-6, 1e9), st.floats(0.001, 0.999))
def test_quantile_and_concentration_turn_the_mass_around(kappa: float, p: float) -> None:
    angle = vmf.quantile(kappa, p)
    assert vmf.mass(kappa, angle) == pytest.approx(p, abs=1e-9)
    if kappa > 1e-3:
        assert vmf.concentration(angle * R, p) == pytest.approx(kappa, rel=1e-3)


def test_concentration_follows_the_known_approximation_and_its_limits() -> None:
    assert vmf.concentration(100.0, 0.9) == pytest.approx(-np.log(0.1) / (1 - np.cos(100 / R)), rel=1e-6)
    assert vmf.concentration(np.pi * R, 0.9) == 0
    assert np.isfinite(vmf.concentration(0.0))
    with pytest.raises(InputError, match="radius"):
        vmf.concentration(-1.0)


@pytest.mark.parametrize("kappa", [0.5, 30.0, 2500.0])
def test_log_density_is_that_of_scipy(kappa: float) -> None:
    made = one(30.0, -60.0, kappa)
    points = np.random.default_rng(0).normal(size=(50, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    lon, lat = sphere.to_lonlat(points)
    expected = vonmises_fisher(made.xyz[0], kappa).logpdf(points)
    np.testing.assert_allclose(made.log_density(lon[None], lat[None])[0], expected, rtol=1e-9, atol=1e-7)


def test_uniform_density_is_one_in_four_pi() -> None:
    made = one(0, 0, 0)
    assert made.log_density([170.0], [-80.0])[0] == pytest.approx(-np.log(4 * np.pi), abs=1e-5)
    assert made.entropy()[0] == pytest.approx(np.log(4 * np.pi), abs=1e-5)
    radius, area = made.credible(0.5)
    assert radius[0] == pytest.approx(np.pi / 2 * R, rel=2e-3)
    assert area[0] == pytest.approx(2 * np.pi * R**2, rel=1e-3)


@pytest.mark.parametrize("shared", [True, False])
def test_within_counts_what_monte_carlo_counts(shared: bool) -> None:
    made = mixture(shared=True)
    if not shared:
        made = Density(made.weight, np.tile(made.xyz, (len(made), 1, 1)), np.tile(made.kappa, (len(made), 1)))
    lon, lat = made.mode()
    found = {km: made.within(lon, lat, km) for km in (200.0, 750.0, 5000.0)}
    for row in range(2):
        points = drawn(mixture(), row)
        km = sphere.distance(lon[row], lat[row], *sphere.to_lonlat(points))
        for radius, mass in found.items():
            assert mass[row] == pytest.approx((km <= radius).mean(), abs=0.01)


def test_regions_scores_and_entropy_are_those_of_monte_carlo() -> None:
    made = mixture()
    lon, lat = made.mode()
    scores, entropy = made.expected_geoscore(), made.entropy()
    for p in (0.5, 0.9):
        radius, area = made.credible(p)
        for row in range(3):
            points = drawn(made, row)
            x, y = sphere.to_lonlat(points)
            km = sphere.distance(lon[row], lat[row], x, y)
            assert (km <= radius[row]).mean() == pytest.approx(p, abs=0.01)
            own = Density(made.weight[row : row + 1], made.xyz, made.kappa)
            log_f = own.log_density(x[None], y[None])[0]
            region = np.exp(-log_f[log_f > np.quantile(log_f, 1 - p)]).sum() / len(points) * R**2
            assert area[row] == pytest.approx(region, rel=0.1)
            assert entropy[row] == pytest.approx(-log_f.mean(), abs=0.05)
            assert scores[row] == pytest.approx(5000 * np.exp(-km / 1492.7).mean(), abs=30)


@pytest.mark.parametrize("at", [(0.0, 0.0), (179.9, 10.0), (0.0, 90.0), (45.0, -90.0)])
@pytest.mark.parametrize("km", [20.0, 800.0])
def test_one_component_knows_its_regions_exactly(at: tuple[float, float], km: float) -> None:
    made = one(*at, float(vmf.concentration(km, 0.9)))
    lon, lat = made.mode()
    assert sphere.distance(lon, lat, *at)[0] < 1e-3
    radius, area = made.credible(0.9)
    assert radius[0] == pytest.approx(km, rel=2e-3)
    assert area[0] == pytest.approx(float(sphere.cap_area(km)), rel=0.02)
    assert made.within(*at, km)[0] == pytest.approx(0.9, abs=1e-6)


def test_the_mode_is_not_below_any_place_of_a_fine_search() -> None:
    made = mixture(n=8, k=20, seed=3)
    points = np.random.default_rng(1).normal(size=(20_000, 3))
    lon, lat = sphere.to_lonlat(points)
    at_mode = made.log_density(*made.mode())
    searched = made.log_density(np.tile(lon, (8, 1)), np.tile(lat, (8, 1))).max(1)
    assert (at_mode >= searched - 1e-6).all()


def test_two_antipodes_stay_two_answers() -> None:
    made = Density(np.array([[0.6, 0.4]]), sphere.to_xyz([10, -170], [20, -20]), np.array([500.0, 500.0]))
    lon, lat, p = made.top(3, 2000)
    assert sphere.distance(lon[0, :2], lat[0, :2], [10, -170], [20, -20]).max() < 1
    assert p[0, :2] == pytest.approx([0.6, 0.4], abs=0.01)
    assert np.isnan([lon[0, 2], lat[0, 2], p[0, 2]]).all()
    radius, area = made.credible(0.9)
    assert radius[0] > 15_000  # a cap about one has to reach to the other: the region of two pieces is far smaller
    assert area[0] < float(sphere.cap_area(radius[0])) / 50


def test_places_of_the_top_lie_apart_and_share_no_mass() -> None:
    made = mixture(n=10, k=25, seed=2)
    lon, lat, p = made.top(5, 1000)
    for i in range(10):
        full = np.isfinite(p[i])
        km = sphere.distance(lon[i, full, None], lat[i, full, None], lon[i, full], lat[i, full])
        assert (km[~np.eye(full.sum(), dtype=bool)] >= 1000).all()
    assert (np.nansum(p, axis=1) <= 1 + 1e-6).all()
    at = made.mode()
    assert sphere.distance(lon[:, 0], lat[:, 0], *at).max() < 1e-6


def test_temperature_is_a_power_of_one_component_and_keeps_the_order_of_many() -> None:
    made = one(10, 20, 300.0)
    lon, lat = np.array([[10.0, 12, 30]]), np.array([[20.0, 22, 10]])
    base, warm = made.log_density(lon, lat)[0], made.tempered(2.5).log_density(lon, lat)[0]
    np.testing.assert_allclose(np.diff(warm), np.diff(base) / 2.5)
    many = mixture()
    for t in (0.5, 3.0):
        other = many.tempered(t)
        assert (np.diff(np.take_along_axis(other.weight, many.weight.argsort(1), 1)) >= 0).all()
        assert ((other.entropy() > many.entropy()) == (t > 1)).all()
    np.testing.assert_array_equal(many.tempered(2.0, spread=1.0).kappa, many.kappa)


def test_a_prior_moves_mass_and_none_is_left_where_it_forbids() -> None:
    made = Density(np.array([[0.6, 0.4]]), sphere.to_xyz([10, -170], [20, -20]), np.array([500.0, 500.0]))
    south = made.with_prior(lambda lon, lat: np.where(lat < 0, 0.0, -np.inf))
    assert south.weight.tolist() == [[0.0, 1.0]]
    even = made.with_prior(lambda lon, lat: np.where(lat < 0, np.log(3.0), 0.0))
    np.testing.assert_allclose(even.weight, [[0.6 / 1.8, 1.2 / 1.8]])
    with pytest.raises(InputError, match="log_prior"):
        made.with_prior(lambda lon, lat: np.full_like(lat, -np.inf))


def test_pictures_do_not_depend_on_each_other() -> None:
    made = mixture(n=300, k=5)
    alone = Density(made.weight[123:124], made.xyz, made.kappa)
    for name in ("mode", "entropy", "expected_geoscore"):
        whole, part = getattr(made, name)(), getattr(alone, name)()
        np.testing.assert_allclose(np.atleast_2d(whole)[:, 123], np.atleast_2d(part)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(np.array(made.credible(0.9))[:, 123], np.array(alone.credible(0.9))[:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("weight", "xyz", "kappa"),
    [
        (np.ones((2, 3)), np.ones((4, 3)), np.ones(3)),
        (np.zeros((2, 3)), np.ones((3, 3)), np.ones(3)),
        (np.full((2, 3), np.nan), np.ones((3, 3)), np.ones(3)),
        (np.ones((2, 3)), np.zeros((3, 3)), np.ones(3)),
        (np.ones((2, 3)), np.ones((3, 3)), -np.ones(3)),
    ],
)
def test_refuses_what_is_no_density(weight: np.ndarray, xyz: np.ndarray, kappa: np.ndarray) -> None:
    with pytest.raises(InputError, match="density"):
        Density(weight, xyz, kappa)


def test_questions_share_sorted_components_and_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for kind, name in ((Density, "_cut"), (densities._Part, "nodes")):
        real = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda *a, real=real, name=name: made.append(name) or real(*a))
    random = np.random.default_rng(0)
    given = random.dirichlet(np.ones(9), 4), random.normal(size=(9, 3)), np.full(9, 50.0)

    def asked() -> list[np.ndarray]:
        density = Density(*given)
        lon, lat = density.mode()
        parts = [*density.credible(0.5), *density.credible(0.9), density.entropy(), density.expected_geoscore()]
        return [lon, lat, *parts, *(density.within(lon, lat, km) for km in (25, 200, 750))]

    kept = asked()
    assert made.count("nodes") == 1
    assert made.count("_cut") == 3  # one for each number of points, however many questions
    monkeypatch.setattr(densities, "KEPT", 0)
    monkeypatch.setattr(densities, "CACHED", 1)
    for a, b in zip(kept, asked(), strict=True):
        np.testing.assert_array_equal(a, b)
