"""What is chosen and what it is worth, on made places whose features say the class or do not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from geoml.engine.learn import choose
from geoml.engine.learn.choose import COMMONEST, FOREST, HeadCandidate, Learnt, Standard, held_out, judged, macro_f1
from geoml.nn.metrics import MacroScores

HEADS = ("prototype", "ridge", "logistic")


def made(places: int = 24, pixels: int = 4, seed: int = 0, *, say: str = "embedding", apart: float = 2.0) -> Learnt:
    """Three classes, more of the first, two places on each piece of ground; one part says the class, the other not."""
    random = np.random.default_rng(seed)
    label = np.where(np.arange(places) % 6 < 4, np.arange(places) % 6 % 3, 0)
    place = np.repeat(np.arange(places), random.integers(1, 2 * pixels, places))
    y = label[place]
    centers = apart * np.eye(3)
    says = centers[y] + random.normal(size=(places, 3))[place] * 0.5 + 0.3 * random.normal(size=(len(y), 3))
    noise = random.normal(size=(places, 5))[place] + 0.3 * random.normal(size=(len(y), 5))
    other = "bands" if say == "embedding" else "embedding"
    return Learnt({say: says, other: noise}, y, place, place // 2, 3)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "TREES", 10)


@pytest.mark.parametrize(("say", "not_alone"), [("embedding", ("bands",)), ("bands", ("embedding",))])
def test_the_features_that_say_the_class_win(say: str, not_alone: tuple[str, ...]) -> None:
    found = choose.choose(made(say=say), HEADS, 5, 0)
    assert say in found.chosen.parts
    means = {name: np.mean(v) for name, v in found.rows.items()}
    assert means[found.chosen.name] > 0.9
    worst = [v for name, v in means.items() if name.split(", ")[0] == not_alone[0]]
    assert len(worst) == 4
    assert max(worst) < 0.6, "three heads and a forest on noise"
    assert found.other is not None
    assert found.other.parts == (("bands",) if "embedding" in found.chosen.parts else ("embedding",))


def test_forests_and_the_commonest_class_are_in_the_table_and_never_chosen() -> None:
    found = choose.choose(made(), ("ridge",), 5, 0)
    names = {"embedding + bands, ridge", "embedding, ridge", "bands, ridge", "embedding, random forest"}
    assert set(found.rows) == names | {FOREST, COMMONEST}
    assert all(len(v) == choose.REPEATS for v in found.rows.values())
    given = made()
    assert np.bincount(given.by_place[1]).tolist() == [16, 4, 4]
    expected = 2 * (given.y == 0).sum() / (len(given.y) + (given.y == 0).sum()) / 3
    assert found.rows[COMMONEST] == pytest.approx([expected] * 3)
    few, many = np.repeat(np.arange(6), [1, 1, 1, 1, 9, 9]), np.array([0, 0, 0, 0, 1, 1])
    uneven = Learnt({"bands": np.zeros((22, 2))}, many[few], few, few, 2)
    assert choose.commonest(uneven, uneven).tolist() == [1] * 22, "of most pixels, as scores count, not of most places"
    bands = choose.choose(
        Learnt({"bands": given.parts["embedding"]}, given.y, given.place, given.ground, 3), HEADS, 5, 0
    )
    assert set(bands.rows) == {f"bands, {h}" for h in HEADS} | {FOREST, COMMONEST}
    assert bands.other is None


def test_the_first_is_taken_unless_another_is_clearly_better() -> None:
    """Of heads that are worth the same."""
    found = choose.choose(made(apart=50.0), HEADS, 5, 0)
    assert (found.chosen.parts, found.chosen.head) == (("embedding", "bands"), "prototype")


def test_the_strength_is_the_largest_that_is_close_to_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a test of significance, which two folds can hardly pass: of three classes along a line, the middle one is
    lost where a head is shrunk too much."""
    random, place = np.random.default_rng(0), np.repeat(np.arange(12), 20)
    y = place % 3
    x = (y - 1.0 + 0.6 * random.normal(size=12)[place] + 0.2 * random.normal(size=len(y)))[:, None]
    given = Learnt({"bands": x}, y, place, place // 6, 3)
    assert given.fold_of(5, 0).max() == 1
    worth = {}
    for strength in (100.0, 0.01, 0.008, 0.0001):
        monkeypatch.setitem(choose.STRENGTHS, "logistic", (strength,))
        worth[strength] = np.mean(choose.choose(given, ("logistic",), 5, 0, simple=False).rows["bands, logistic"])
    close = [s for s, mean in worth.items() if mean >= max(worth.values()) - choose.CLOSE]
    assert worth[100.0] < worth[0.01] - 0.1
    assert close[0] == 0.01
    monkeypatch.setitem(choose.STRENGTHS, "logistic", tuple(worth))
    assert choose.choose(given, ("logistic",), 5, 0, simple=False).chosen.strength == 0.01


def test_why_the_highest_row_is_not_used() -> None:
    first = HeadCandidate(("bands",), "logistic", 0.15)

    def why(**means: float) -> str:
        rows = {n.replace("_", " "): [m] for n, m in means.items()}
        return choose.Choice(first, None, {"bands, logistic": [0.6], **{f"bands, {n}": m for n, m in rows.items()}}).why

    assert why(ridge=0.5, random_forest=0.6) == ""
    chance = "bands, ridge is ahead of bands, logistic by no more than chance could explain"
    assert why(ridge=0.7, random_forest=0.65) == f"Why the highest row is not used: {chance}."
    forest = "bands, random forest is for comparison only"
    assert why(ridge=0.5, random_forest=0.65) == f"Why the highest row is not used: {forest}."
    assert why(ridge=0.7, random_forest=0.75) == f"Why the highest row is not used: {chance}; {forest}."


def test_who_is_asked_has_never_been_seen() -> None:
    given, seen = made(), []

    def say(known: Learnt, asked: Learnt) -> NDArray[np.int64]:
        assert not set(known.ground) & set(asked.ground)
        assert not set(known.place) & set(asked.place)
        seen.append(len(asked.y))
        return asked.y

    fold = given.fold_of(5, 0)
    np.testing.assert_array_equal(held_out(say, given, fold), given.y)
    assert sum(seen) == len(given.y)


def test_the_curve_draws_whole_places_of_other_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    given, drawn = made(60), []

    class Spy:
        name = "spy"

        def logits(self, known: Learnt, asked: Learnt) -> NDArray[np.float64]:
            assert not set(known.ground) & set(asked.ground)
            for p in np.unique(known.place):
                assert (known.place == p).sum() == (given.place == p).sum()
            _, label, _ = known.by_place
            drawn.append(tuple(np.bincount(label, minlength=3)))
            return np.eye(3)[asked.y]

    monkeypatch.setattr(choose, "DRAWS", 4)
    found = choose.curve(Spy(), given, 5, 0)  # type: ignore[arg-type]
    assert [row["labels"] for row in found] == [1, 5, "all"], "no class has twenty to learn from"
    assert drawn[:8] == [(1, 1, 1)] * 4 + [(5, 5, 5)] * 4
    assert all(sum(n) > 40 for n in drawn[8:])
    for row in found:
        assert row["draws"] == 4
        mine, forest, common = row["macro_f1"]
        assert (mine["name"], forest["name"], common["name"]) == ("spy", FOREST, COMMONEST)
        assert (mine["mean"], mine["deviation"]) == (1.0, 0.0)
        assert common["mean"] < 0.35


def test_the_curve_passes_over_folds_that_leave_a_class_too_few() -> None:
    given = made(60)
    few = given.take(np.flatnonzero((given.y != 2) | np.isin(given.place, np.unique(given.place[given.y == 2])[:6])))
    left = [np.bincount(few.take(few.fold_of(5, n) != f).by_place[1])[2] for n in range(10) for f in range(5)]
    assert set(left) >= {4, 5}
    found = choose.curve(HeadCandidate(("bands",), "ridge", 0.1), few, 5, 0)
    assert [row["labels"] for row in found] == [1, 5, "all"]


def test_more_labels_are_worth_more() -> None:
    found = choose.curve(HeadCandidate(("embedding",), "ridge", 0.1), made(120, apart=1.0), 5, 0)
    means = [row["macro_f1"][0]["mean"] for row in found]
    assert [row["labels"] for row in found] == [1, 5, "all"]
    assert means[0] < means[1] < means[2] + 0.03
    assert means[0] > found[0]["macro_f1"][2]["mean"]


def test_scores_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth, said = random.integers(0, 3, 500), random.integers(0, 4, 500)
    expected = f1_score(truth, said, labels=[0, 1, 2], average="macro")
    assert macro_f1(truth, said, 5) == pytest.approx(expected)
    counted = MacroScores(5, 100)
    counted.update(said, np.full(500, 50), truth)
    assert counted.compute()["macro_f1"] == pytest.approx(expected)
    assert MacroScores(3, 100).compute()["macro_f1"] is None


def test_thinning_keeps_every_place() -> None:
    given = made(30, 40)
    few = given.thinned(100)
    assert set(few.place) == set(given.place)
    assert len(few.y) <= 100
    assert np.bincount(few.place).max() <= 3
    assert given.thinned(10**6) is given
    assert few.thinned(40).place.tolist() == list(range(30)), "one of each at least"


def test_where_there_are_many_places_all_classes_and_much_ground_stay() -> None:
    given = made(3000, 1)
    few = given.thinned(90)
    assert len(few.y) == 90
    assert np.bincount(few.y).tolist() == [30, 30, 30]
    for k in range(3):
        assert len(np.unique(few.ground[few.y == k])) == 30
    close = Learnt(given.parts, given.y, given.place, given.place // 6 % 2, 3)
    for k in range(3):
        assert len(np.unique(close.thinned(10).ground[close.thinned(10).y == k])) == 2
    rare = Learnt(given.parts, np.where(given.place < 2, 3, given.y), given.place, given.ground, 4)
    assert np.bincount(rare.thinned(90).y).tolist() == [22, 22, 22, 2]


def test_parts_have_the_same_share_of_the_distance() -> None:
    random = np.random.default_rng(0)
    parts = {"embedding": random.normal(size=(4000, 8)), "bands": random.normal(size=(4000, 50))}
    x = Learnt(parts, np.zeros(4000, int), np.arange(4000), np.arange(4000), 1).x(("embedding", "bands"))
    assert x.shape == (4000, 58)
    assert (x[:, :8] ** 2).sum() == pytest.approx((x[:, 8:] ** 2).sum(), rel=0.03)
    flat = Standard.of(np.ones((5, 2), np.float32))
    assert (flat.center.tolist(), flat.spread.tolist()) == ([1, 1], [1, 1]), "a feature that is constant divides by 1"


def test_sets_hold_what_they_promise_on_other_ground() -> None:
    """Pixels of a place are alike; 90 % sets hold 0.87 to 0.94 of places on ground of their own."""
    candidate, held, told = HeadCandidate(("embedding",), "ridge", 0.1), [], []
    for seed in range(12):
        given, test = made(120, 3, seed, apart=1.2), made(400, 1, 1000 + seed, apart=1.2)
        found = judged(candidate, given, given.fold_of(5, seed), 0.9)
        head = candidate.fit(given).tempered(found.temperature)
        probability = choose.softmax(head.logits(test.x(("embedding",))))
        assert found.limit is not None
        inside = choose.prediction_sets.sets(probability, found.limit)[np.arange(len(test.y)), test.y]
        held.append(inside.mean())
        told.append(found.scores["sets"]["coverage"])
        assert 1 <= found.scores["sets"]["size"] <= 3
    assert 0.87 <= np.mean(held) <= 0.94, held
    assert np.mean(told) == pytest.approx(np.mean(held), abs=0.03)


def test_what_is_said_of_a_fold_comes_from_the_others() -> None:
    given = made(60, apart=1.0)
    fold = given.fold_of(5, 0)
    one = judged(HeadCandidate(("embedding",), "ridge", 0.1), given, fold, 0.9)
    assert one.scores["pixels"] == len(given.y)
    assert np.array(one.scores["confusion"]).sum() == len(given.y)
    assert one.scores["sets"]["places"] == 60
    few = judged(HeadCandidate(("embedding",), "ridge", 0.1), made(18, apart=1.0), made(18).fold_of(3, 0), 0.9)
    assert few.limit is None
    assert few.scores["sets"] == {"level": 0.9, "places": 18, "least": 20, "limit": None}
