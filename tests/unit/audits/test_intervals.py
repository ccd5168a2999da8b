from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from privemo_audits import intervals as iv


def sample(label: list[int], said: list[int], person: list[int] | None = None) -> iv.Sample:
    who = np.arange(len(label)) if person is None else np.array(person)
    return iv.Sample.of(np.array(label), np.array(said), who, 4)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (57, 400)])
def test_clopper_pearson_is_scipys_exact_interval(k: int, n: int) -> None:
    want = binomtest(k, n).proportion_ci(0.95, "exact")
    assert iv.clopper_pearson(k, n) == pytest.approx((want.low, want.high), abs=1e-12)


def test_no_trials_say_nothing() -> None:
    assert iv.clopper_pearson(0, 0) == (0.0, 1.0)


def test_confusion_counts_true_by_said() -> None:
    s = sample([0, 0, 1, 3], [0, 1, 1, 2], [7, 7, 8, 9])
    want = np.zeros((4, 4), dtype=int)
    want[0, 0] = want[0, 1] = want[1, 1] = want[3, 2] = 1
    assert (s.confusion == want).all()
    assert (s.n_faces, s.n_people, s.repeated) == (4, 3, True)


def test_draws_without_repeats_keep_every_true_class_at_its_size() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, 80).tolist()
    s = sample(label, rng.integers(0, 4, 80).tolist())
    drawn = s.draw(200)
    assert (drawn.sum(axis=2) == s.confusion.sum(axis=1)).all()
    assert drawn.std(axis=0).max() > 0


def test_draws_of_people_keep_the_number_of_people() -> None:
    # Everyone has two pictures, both right or both wrong: a draw keeps pairs together.
    person = np.repeat(np.arange(30), 2)
    right = np.repeat(np.arange(30) % 3 > 0, 2)
    s = sample([0] * 60, np.where(right, 0, 1).tolist(), person.tolist())
    drawn = s.draw(300)
    assert (drawn.sum(axis=(1, 2)) == 60).all()
    assert (drawn[:, 0, 0] % 2 == 0).all()


def test_draws_are_the_same_for_the_same_seed() -> None:
    s = sample([0, 1, 2, 3] * 5, [0, 1, 2, 0, 0, 1, 3, 3, 1, 0] * 2)
    assert (s.draw(50) == s.draw(50)).all()
    assert (s.draw(50) != s.draw(50, seed=1)).any()


def test_pictures_that_agree_with_one_another_widen_the_interval() -> None:
    """Ten identical pictures of each person are no more evidence than one."""
    right = np.arange(40) % 4 > 0
    one = sample([0] * 40, np.where(right, 0, 1).tolist())
    ten = sample(
        [0] * 400, np.repeat(np.where(right, 0, 1), 10).tolist(), np.repeat(range(40), 10).tolist()
    )
    narrow, method_one = iv.proportion_interval(30, 40, one, iv.accuracies(one.draw()))
    wide, method_ten = iv.proportion_interval(300, 400, ten, iv.accuracies(ten.draw()))
    assert (method_one, method_ten) == ("clopper_pearson", "person_bootstrap")
    assert wide[1] - wide[0] > 0.8 * (narrow[1] - narrow[0])
    exact = iv.clopper_pearson(300, 400)
    assert wide[1] - wide[0] > 2 * (exact[1] - exact[0])
    assert ten.design_effect() == pytest.approx(10, rel=0.1)


def test_faultless_repeated_pictures_are_counted_as_people() -> None:
    s = sample([0] * 100, [0] * 100, np.repeat(range(10), 10).tolist())
    interval, method = iv.proportion_interval(100, 100, s, iv.accuracies(s.draw()))
    assert method == "clopper_pearson_persons"
    assert interval == pytest.approx(iv.clopper_pearson(10, 10))


def test_a_faultless_emotion_does_not_get_a_perfect_interval() -> None:
    s = sample([0] * 12 + [1] * 12, [0] * 12 + [1] * 12)
    low, high = iv.f1_interval(12, 12, s, iv.f1_scores(s.draw())[:, 0])
    assert high == 1.0
    assert low < 0.9


@pytest.mark.parametrize("n", [5, 20, 200])
def test_accuracy_interval_covers_at_its_nominal_rate(n: int) -> None:
    rng = np.random.default_rng(n)
    right = rng.binomial(n, 0.7, size=1000)
    inside = [low <= 0.7 <= high for low, high in (iv.clopper_pearson(int(k), n) for k in right)]
    assert np.mean(inside) >= 0.94


@pytest.mark.parametrize("n", [20, 200])
def test_f1_interval_covers_at_its_nominal_rate(n: int) -> None:
    rng = np.random.default_rng(n)
    truth = np.array([[0.8, 0.2], [0.3, 0.7]])
    want = 2 * 0.8 / (2 * 0.8 + 0.2 + 0.3)
    covered = []
    for _ in range(300):
        table = np.array([rng.multinomial(n // 2, row) for row in truth])
        label = np.repeat([0, 0, 1, 1], table.ravel())
        said = np.repeat([0, 1, 0, 1], table.ravel())
        s = iv.Sample.of(label, said, np.arange(n), 2)
        union = int(table[0].sum() + table[1, 0])
        low, high = iv.f1_interval(int(table[0, 0]), union, s, iv.f1_scores(s.draw(500))[:, 0])
        covered.append(low <= want <= high)
    assert np.mean(covered) >= 0.92


def test_newcombe_example() -> None:
    """Newcombe (1998), table II, case (a): 56/70 against 48/80, method 10 from Wilson intervals."""
    high, low = (56 / 70, (0.6918, 0.8772)), (48 / 80, (0.4904, 0.7004))
    assert iv.difference_interval(high, low) == pytest.approx((0.0524, 0.3339), abs=2e-3)


def test_scores_of_absent_classes_are_unknown() -> None:
    table = np.zeros((1, 3, 3))
    table[0, 0, 0] = 5
    assert np.isnan(iv.recalls(table)[0, 1])
    assert np.isnan(iv.f1_scores(table)[0, 1])
    assert iv.balanced_accuracies(table)[0] == 1.0
    assert iv.percentile_interval(iv.recalls(table)[:, 1]) is None
