"""What is kept of reactions, what is learned from it, and what a recommender does with that."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from random import Random

import numpy as np
import pytest

from privemo.errors import DataError
from privemo.labels import EMOTIONS
from privemo.recommend import (
    LANGUAGES,
    AdaptationPolicy,
    Appeal,
    Ranking,
    Recommender,
    Why,
    default_policy,
    load_adaptation_policy,
)
from privemo.recommend.bandit import Bandit
from privemo.recommend.events import Events
from privemo.recommend.sums import Sums, SumsFile, randomised, spread
from privemo.recommend.words import TOLD_AS, words
from privemo_consent import Context
from tests.support.recommend import CONTEXT, EVENING, read_as, shelf, shop, taught

SAD = "sad/evening/any"


def with_learning(folder: Path, **changes: object) -> AdaptationPolicy:
    text = (files("privemo.recommend") / "data/policy.toml").read_text()
    for name, value in changes.items():
        text = text.replace("[learning]\n", f"[learning]\n{name} = {value}\n", 1)
        lines = text.split("\n")
        twice = [i for i, line in enumerate(lines) if line.startswith(f"{name} =")]
        text = "\n".join(line for i, line in enumerate(lines) if i not in twice[1:])
    path = folder / "policy.toml"
    path.write_text(text)
    return load_adaptation_policy(path)


def cells(sums: Sums, **means: tuple[int, float]) -> dict[str, np.ndarray]:
    for arm, (n, mean) in means.items():
        for number in range(n):
            sums.add(f"{SAD}/{arm}", 0.5, float(number < mean * n), number % 2)
    return sums.whole()


# -- the bandit ------------------------------------------------------------------------------------


def test_where_nothing_was_learned_the_shops_order_is_likeliest() -> None:
    policy = default_policy()
    for emotion in EMOTIONS:
        told = Bandit(policy).probabilities(f"{emotion}/any/any")
        share = policy.learning.exploration / len(told)
        assert set(told) == set(policy.arms(emotion))
        assert math.fsum(told.values()) == pytest.approx(1)
        assert told["shop"] == pytest.approx(1 - share * (len(told) - 1))
        assert all(p == pytest.approx(share) for arm, p in told.items() if arm != "shop")


def test_what_is_surely_better_becomes_likeliest_and_nothing_is_ever_impossible() -> None:
    policy = default_policy()
    found = Bandit(policy, cells(Sums("p"), shop=(400, 0.3), comfort=(200, 0.6)))
    told = found.probabilities(SAD)
    assert max(told, key=lambda arm: told[arm]) == "comfort"
    assert math.fsum(told.values()) == pytest.approx(1)
    assert min(told.values()) >= policy.learning.exploration / len(told) - 1e-6


@pytest.mark.parametrize(
    ("comfort", "why"),
    [
        ((9, 1.0), "fewer reactions than anything is learned from"),
        ((12, 0.4), "better by chance, as likely as not"),
        ((400, 0.1), "worse"),
    ],
)
def test_the_shops_order_stands_until_something_is_shown_to_be_better(
    comfort: tuple[int, float], why: str
) -> None:
    told = Bandit(default_policy(), cells(Sums("p"), shop=(400, 0.3), comfort=comfort))
    probabilities = told.probabilities(SAD)
    assert max(probabilities, key=lambda arm: probabilities[arm]) == "shop", why


def test_equal_sums_make_equal_models_whatever_order_they_came_in() -> None:
    policy = default_policy()
    first = cells(Sums("p"), shop=(300, 0.3), comfort=(200, 0.6), value=(50, 0.5))
    second = cells(Sums("p"), value=(50, 0.5), comfort=(200, 0.6), shop=(300, 0.3))
    one, other = Bandit(policy, first), Bandit(policy, second)
    assert one.sha256 == other.sha256
    assert one.probabilities(SAD) == other.probabilities(SAD)
    assert one.sha256 != Bandit(policy).sha256


# -- the sums --------------------------------------------------------------------------------------


def test_sums_come_back_as_they_were_written(tmp_path: Path) -> None:
    file = SumsFile(tmp_path, default_policy())
    assert file.read().reactions == 0
    file.add(f"{SAD}/comfort", 0.25, 1.0, 0)
    sums = file.add(f"{SAD}/comfort", 0.5, 0.5, 1)
    again = SumsFile(tmp_path, default_policy()).read()
    assert again.reactions == 2
    assert again.cells.keys() == sums.cells.keys()
    np.testing.assert_array_equal(again.cells[f"{SAD}/comfort"][0], [1, 1, 4, 4, 16, 16, 16])
    np.testing.assert_array_equal(again.cells[f"{SAD}/comfort"][1], [1, 0.5, 2, 1, 4, 2, 1])


def test_what_is_kept_is_bounded_and_old_reactions_fade(tmp_path: Path) -> None:
    policy = default_policy()
    sums = Sums(policy.sha256)
    for kind in policy.kinds():
        for number in range(8):
            sums.add(kind, 0.04, 1.0, number % 2)
    assert len(json.dumps(sums.content())) < 60_000
    before = sums.whole()[f"{SAD}/comfort"][0]
    sums.fade(1000)
    assert sums.whole()[f"{SAD}/comfort"][0] == before / 2
    with pytest.raises(DataError, match="no situation"):
        SumsFile(tmp_path, policy).add("sad/payday/any/comfort", 0.5, 1.0, 0)


def test_sums_of_another_policy_are_never_mixed_in(tmp_path: Path) -> None:
    other = with_learning(tmp_path, exploration=0.5)
    SumsFile(tmp_path, default_policy()).add(f"{SAD}/comfort", 0.5, 1.0, 0)
    assert SumsFile(tmp_path, other).read().reactions == 0


def test_a_randomised_reaction_says_little_and_its_mean_is_right() -> None:
    epsilon, rng = 1.0, Random(4)  # noqa: S311
    kept = {r: Counter(randomised(r, epsilon, rng) for _ in range(20_000)) for r in (0.0, 0.3, 1.0)}
    for reward, counts in kept.items():
        mean = sum(value * n for value, n in counts.items()) / 20_000
        assert mean == pytest.approx(reward, abs=4 * spread(epsilon) / 2 / math.sqrt(20_000))
    assert len({value for counts in kept.values() for value in counts}) == 2
    for value in kept[0.0]:
        ratio = kept[0.0][value] / kept[1.0][value]
        assert math.exp(-1.1 * epsilon) < ratio < math.exp(1.1 * epsilon)
    assert randomised(0.3, None, rng) == 0.3
    (low, high) = sorted(kept[0.0])
    assert high - low == pytest.approx(spread(epsilon))


# -- the recommender -------------------------------------------------------------------------------


def test_a_recommender_learns_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    with shop(tmp_path) as registry:
        policy = with_learning(tmp_path, refit_every=5)
        asked = {"person": "ann", "emotion": read_as("sad"), "circumstances": EVENING}
        first = Recommender(registry, CONTEXT, tmp_path / "r", policy=policy, seed=2)
        taught(tmp_path / "r", policy)
        second = Recommender(registry, CONTEXT, tmp_path / "r", policy=policy, seed=2)
        assert second.rank(shelf(), **asked).model != first.rank(shelf(), **asked).model  # type: ignore[arg-type]
        # the first, which never saw the other's lessons, meets them with its own next
        for _ in range(2):
            learned = first.learn(first.rank(shelf(), **asked), 1.0)  # type: ignore[arg-type]
            assert (learned.kept, learned.reason) == (True, "kept")
        assert first._file.read().reactions == 2002
        found = [first.rank(shelf(), **asked) for _ in range(30)]  # type: ignore[arg-type]
        assert {r.arm for r in found} >= {"comfort"}
        assert max(Counter(r.arm for r in found).items(), key=lambda x: x[1])[0] == "comfort"
        assert first.evaluate().verdict == "better"


def test_what_was_learned_from_simulated_consents_is_marked_and_never_mixed_in(
    tmp_path: Path,
) -> None:
    real, simulated = (SumsFile(tmp_path, default_policy(), simulated=s) for s in (False, True))
    simulated.add(f"{SAD}/comfort", 0.5, 1.0, 0)
    assert json.loads(simulated.path.read_text())["simulated"] is True
    assert real.read().reactions == 0
    simulated.path.rename(real.path)
    with pytest.raises(DataError, match="simulated consents among real ones"):
        real.read()


def test_a_reaction_is_randomised_before_it_is_kept_where_the_policy_says_so(
    tmp_path: Path,
) -> None:
    policy = with_learning(tmp_path, reaction_epsilon=1.0)
    with shop(tmp_path) as registry:
        recommender = Recommender(registry, CONTEXT, tmp_path / "r", policy=policy, seed=1)
        for _ in range(12):
            ranking = recommender.rank(shelf(), person="ann", emotion=read_as("sad"))
            recommender.learn(ranking, 1.0)
    whole = SumsFile(tmp_path / "r", policy).read().whole()
    kept, n = (sum(float(cell[k]) for cell in whole.values()) for k in (1, 0))
    wrong = 1 / (1 + math.e)
    turned = (n * (1 - wrong) / (1 - 2 * wrong) - kept) * (1 - 2 * wrong)
    assert n == 12
    assert turned == pytest.approx(round(turned)), "each is one of the two kept values"
    assert 0 < round(turned) < 12


@pytest.mark.parametrize(("p", "reward"), [(0.0, 1.0), (1.5, 1.0), (0.5, math.nan), (math.nan, 1)])
def test_a_reaction_that_is_none_is_not_added(tmp_path: Path, p: float, reward: float) -> None:
    file = SumsFile(tmp_path, default_policy())
    with pytest.raises(DataError, match="want odds"):
        file.add(f"{SAD}/comfort", p, reward, 0)
    assert not file.path.exists()


def test_one_ranking_teaches_once_and_a_list_without_a_choice_teaches_nothing(
    tmp_path: Path,
) -> None:
    with shop(tmp_path) as registry:
        recommender = Recommender(registry, CONTEXT, tmp_path / "r", seed=1)
        ranking = recommender.rank(shelf(), person="ann", emotion=read_as("sad"))
        assert recommender.learn(ranking, 1.0).reason == "kept"
        assert recommender.learn(ranking, 1.0).reason == "twice"
        plain = recommender.rank(shelf(), person="tom", emotion=read_as("sad"))
        assert recommender.learn(plain, 1.0).reason == "nothing_chosen"
        other = with_learning(tmp_path, exploration=0.5)
        elsewhere = Recommender(registry, CONTEXT, tmp_path / "r", policy=other, seed=1)
        fresh = recommender.rank(shelf(), person="ann", emotion=read_as("sad"))
        assert elsewhere.learn(fresh, 1.0).reason == "other_policy"
        for nonsense in (1.5, -0.1, math.nan, "1", True):
            with pytest.raises(DataError, match="reward"):
                recommender.learn(fresh, nonsense)  # type: ignore[arg-type]


def test_minors_staff_and_places_of_work_see_the_shops_list(tmp_path: Path) -> None:
    with shop(tmp_path) as registry:
        recommender = Recommender(registry, CONTEXT, tmp_path / "r", seed=1)
        for word, fields in (
            ("minor", {"attested_age_band": "13_15"}),
            ("unknown_age", {"attested_age_band": "unknown"}),
            ("suspected_minor", {"estimated_age": 19.0}),
        ):
            ranking = recommender.rank(shelf(), person="ann", emotion=read_as("sad"), **fields)  # type: ignore[arg-type]
            assert (ranking.why, ranking.detail) == (Why.NOT_PERMITTED, word)
        at_work = Context(setting="workplace", jurisdiction="IE")
        office = Recommender(registry, at_work, tmp_path / "o")
        ranking = office.rank(shelf(), person="ann", emotion=read_as("sad"))
        assert (ranking.why, ranking.detail) == (Why.NOT_PERMITTED, "wrong_context")


def test_each_decision_is_logged_by_day_and_reason_and_names_nobody_and_nothing_read(
    tmp_path: Path,
) -> None:
    taught(tmp_path / "r")
    with shop(tmp_path) as registry:
        recommender = Recommender(registry, CONTEXT, tmp_path / "r", seed=1)
        for person in ("ann", "tom", None):
            recommender.rank(shelf(), person=person, emotion=read_as("sad"), circumstances=EVENING)
        counts = recommender.events.counts()
    assert counts["ranked", "wrong_purpose"] == counts["ranked", "no_session"] == 1
    assert sum(counts.values()) == 3
    (path,) = (tmp_path / "r").glob("events-*.jsonl")
    text = path.read_text()
    for line in map(json.loads, text.splitlines()):
        assert set(line) == {"schema", "day", "event", "reason", "policy", "model", "simulated"}
        assert line["policy"] == default_policy().sha256
        assert len(line["day"]) == 10
    kept = text + SumsFile(tmp_path / "r", default_policy()).path.read_text()
    assert "ann" not in text
    assert "tom" not in kept
    assert not any(word in text for word in (*EMOTIONS, *Appeal))
    copy = tmp_path / "r" / f"policy-{default_policy().sha256[:16]}.toml"
    assert load_adaptation_policy(copy).sha256 == default_policy().sha256


def test_logs_are_kept_for_six_months_at_least_and_then_named_as_overdue(tmp_path: Path) -> None:
    policy = default_policy()
    assert policy.log.keep_days >= 184
    for month in ("2026-01", "2026-11"):
        (tmp_path / f"events-{month}.jsonl").write_text('{"event": "ranked", "reason": "x"}\n{"ev')
    events = Events(tmp_path, policy, now=lambda: datetime(2027, 2, 5, tzinfo=UTC))
    assert [path.name for path in events.overdue()] == ["events-2026-01.jsonl"]
    events.add("ranked", "adapted", None)
    assert events.counts() == {("ranked", "x"): 2, ("torn", ""): 2, ("ranked", "adapted"): 1}
    assert len(list(tmp_path.iterdir())) == 3, "nothing is ever deleted"


def test_a_ranking_says_nothing_of_the_person(tmp_path: Path) -> None:
    with shop(tmp_path) as registry:
        recommender = Recommender(registry, CONTEXT, tmp_path / "r", seed=1)
        ranking = recommender.rank(shelf(), person="ann", emotion=read_as("sad"))
    assert "ann" not in repr(ranking)
    assert "ann" not in json.dumps(ranking.content())


# -- words -----------------------------------------------------------------------------------------


def ranking(why: Why, arm: str | None = None, emotion: str | None = None) -> Ranking:
    return Ranking(items=(), why=why, policy="", arm=arm, emotion=emotion, places=2)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_answer_is_told_in_one_sentence_of_each_language(language: str) -> None:
    assert set(TOLD_AS) == set(Why)
    told = words(language)
    assert {"emotions", "appeals", "sentences"} == set(told)
    assert set(told["emotions"]) == set(EMOTIONS)
    assert set(told["appeals"]) == set(Appeal)
    assert set(told["sentences"]) == set(TOLD_AS.values())
    for why in Why:
        sentence = ranking(why, "comfort", "sad").sentence(language)
        assert sentence.endswith(".")
        assert sentence.count(".") == 1
        assert "{" not in sentence
    for emotion in EMOTIONS:
        for appeal in Appeal:
            sentence = ranking(Why.ADAPTED, appeal, emotion).sentence(language)
            assert told["emotions"][emotion] in sentence
            assert told["appeals"][appeal] in sentence
            assert "2" in sentence


def test_no_two_languages_say_the_same_and_a_regional_one_is_told_in_its_language() -> None:
    for table in ("emotions", "appeals", "sentences"):
        for key in words("en")[table]:
            said = [words(language)[table][key] for language in LANGUAGES]
            assert len(set(said)) >= len(said) - 1, (table, key)  # "neutral" twice
    plain = ranking(Why.FAILED)
    assert plain.sentence("de-AT") == plain.sentence("de")
    from privemo.errors import SettingsError

    with pytest.raises(SettingsError, match="choose one of en, de, fr, es, pl, ar"):
        plain.sentence("tlh")


def test_recommending_loads_nothing_heavy() -> None:
    code = (
        "import privemo, sys\n"
        "privemo.Recommender; from privemo.recommend.bandit import Bandit\n"
        "from privemo.recommend import default_policy\n"
        "Bandit(default_policy())\n"
        "print(*{m.partition('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "vowpalwabbit" in loaded
    assert not loaded & {"torch", "pandas", "scipy", "sklearn", "matplotlib", "fairlearn"}
