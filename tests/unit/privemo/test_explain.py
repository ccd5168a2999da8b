"""Where a model looks: sums that must come out, parts that must be hit, and doubt that must be told."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from privemo import models, simulation
from privemo import weights as w
from privemo.errors import MissingExtra, RunError, SettingsError
from privemo.explain import METHODS, PARTS, attribute, cover, explain_run
from privemo.explain import run as explaining
from privemo.explain.answer import verdict
from privemo.explain.attribution import coarse_layer, without_details
from privemo.explain.covering import alone, elsewhere_as_large, grown
from privemo.explain.looks import read_looks, write_looks
from privemo.explain.over import change, mean_over_people, rate
from privemo.explain.parts import draw_people, part_of
from privemo.explain.run import covered
from privemo.explain.subject import subject_of
from privemo.models import to_input
from privemo.runs import Run
from privemo.synthetic import REGIONS, SyntheticPeople
from tests.support.small_runs import small_run


@cache
def drawn() -> SyntheticPeople:
    """Twenty adults who do not exist, each with every emotion."""
    return draw_people(20, seed=5)


@cache
def shipped() -> nn.Module:
    weights, _ = w.initial_weights("nobody", model="emotion-cnn", channels=1, seed=0)
    return w.model_for("emotion-cnn", weights)


class Linear(nn.Module):
    """Reads four sums over the picture, one for each emotion; its true attribution is known."""

    channels = 1

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)  # (4, s, s)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,khw->nk", x, self.weight)


# -- attribution ---------------------------------------------------------------------------------


def test_attributions_of_a_linear_model_are_its_weights_times_the_details() -> None:
    weight = torch.randn(4, 48, 48, generator=torch.Generator().manual_seed(1))
    pixels, label = drawn().images[:6], drawn().label[:6]
    found = attribute(Linear(weight), pixels, label, steps=2)
    x = to_input(torch.from_numpy(pixels))
    details = (x - without_details(x))[:, 0]
    margin = weight - weight.mean(0)
    expected = details * margin[torch.from_numpy(label.astype(np.int64))]
    np.testing.assert_allclose(found.signed, expected.numpy(), atol=1e-5)


def test_attributions_add_up_to_the_difference_they_explain() -> None:
    """Completeness of integrated gradients, of the network that ships."""
    pixels, label = drawn().images[:8], drawn().label[:8]
    found = attribute(shipped(), pixels, label)
    assert found.unexplained is not None
    np.testing.assert_allclose(
        found.unexplained, found.margin - found.signed.sum((1, 2)), atol=1e-4
    )
    missed = np.abs(found.unexplained) / np.maximum(np.abs(found.margin), 1.0)
    assert np.median(missed) < 0.05
    assert missed.max() < 0.2
    # With one point of the path the sums do not come out: so this test can fail.
    crude = attribute(shipped(), pixels, label, steps=1, refine=False)
    assert crude.unexplained is not None
    assert np.abs(crude.unexplained).mean() > 5 * np.abs(found.unexplained).mean()


def test_a_number_added_to_every_answer_explains_nothing() -> None:
    weight = torch.zeros(4, 48, 48)
    weight[0, :24] = 1.0
    pixels, label = drawn().images[:4], drawn().label[:4]
    plain = attribute(Linear(weight), pixels, label, steps=2)
    shifted = attribute(
        Linear(weight + torch.randn(48, 48, generator=torch.Generator().manual_seed(2))),
        pixels,
        label,
        steps=2,
    )
    np.testing.assert_allclose(plain.signed, shifted.signed, atol=1e-5)


def test_a_model_that_reads_one_part_looks_there_alone() -> None:
    people = drawn()
    assert people.regions is not None
    part = part_of(people.regions)
    for k in range(len(PARTS)):
        weight = torch.zeros(4, 48, 48)
        weight[0] = torch.from_numpy((part[0] == k).astype(np.float32))
        found = attribute(Linear(weight), people.images[:1], people.label[:1], steps=2)
        shares = found.shares(part[:1], len(PARTS))[0]
        assert shares[k] == pytest.approx(1.0)


def test_shares_sum_to_one_and_nothing_attributed_is_no_share() -> None:
    people = drawn()
    assert people.regions is not None
    part = part_of(people.regions[:4])
    found = attribute(shipped(), people.images[:4], people.label[:4], steps=4, refine=False)
    np.testing.assert_allclose(found.shares(part, 4).sum(1), 1.0)
    blind = attribute(Linear(torch.zeros(4, 48, 48)), people.images[:4], people.label[:4], steps=1)
    assert np.isnan(blind.shares(part, 4)).all()


def test_grad_cam_finds_the_half_that_is_read() -> None:
    torch.manual_seed(0)
    read = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.constant_(read.weight, 1 / 9)
    head = nn.Linear(48 * 48, 4, bias=False)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[0].view(48, 48)[30:] = 1.0
    model = nn.Sequential(read, nn.Flatten(), head)
    assert coarse_layer(model, torch.zeros(1, 1, 48, 48)) is read
    bright = np.zeros((1, 48, 48), dtype=np.uint8)
    bright[:, 30:] = 200
    found = attribute(model, bright, np.zeros(1, dtype=np.int64), method="grad_cam")
    assert found.unexplained is None
    assert found.signed.min() >= 0
    assert found.signed[0, 30:].sum() > 0.9 * found.signed.sum() > 0


def test_what_cannot_be_attributed_is_said() -> None:
    pixels, label = drawn().images[:1], drawn().label[:1]
    coarse = nn.Sequential(nn.Conv2d(1, 4, 24, stride=24), nn.Flatten(), nn.Linear(16, 4))
    with pytest.raises(SettingsError, match="use integrated_gradients"):
        attribute(coarse, pixels, label, method="grad_cam")
    with pytest.raises(SettingsError, match="choose one of"):
        attribute(coarse, pixels, label, method="guess")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="at least 1"):
        attribute(coarse, pixels, label, steps=0)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", models.MODELS)
def test_each_of_the_studys_models_can_be_asked_in_gray_and_in_colour(
    name: str, channels: int
) -> None:
    pixels = drawn().images[:2] if channels == 1 else np.stack([drawn().images[:2]] * 3, axis=-1)
    model = models.build_model(name, channels=channels)
    for method in METHODS:
        found = attribute(model, pixels, drawn().label[:2], method=method, steps=3, refine=False)
        assert found.signed.shape == (2, 48, 48)
        assert np.isfinite(found.signed).all()


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(MissingExtra, match=r"privemo\[explain\]"):
        attribute(shipped(), drawn().images[:1], drawn().label[:1])


def test_the_model_is_left_as_it_was() -> None:
    model = models.build_model("emotion-cnn").train()
    before = w.sha256(w.from_model(model))
    attribute(model, drawn().images[:2], drawn().label[:2], steps=1, refine=False)
    assert model.training
    assert w.sha256(w.from_model(model)) == before
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


# -- parts and people ----------------------------------------------------------------------------


def test_every_region_is_in_one_part_and_brows_belong_to_the_eyes() -> None:
    named = dict(zip(REGIONS, part_of(np.arange(len(REGIONS), dtype=np.uint8)), strict=True))
    assert PARTS[named["eyes"]] == PARTS[named["brows"]] == "eyes"
    assert PARTS[named["mouth"]] == "mouth"
    assert PARTS[named["cheeks"]] == "cheeks"
    rest = {"background", "other", "nose", "forehead", "jaw", "hair"}
    assert {name for name, k in named.items() if PARTS[k] == "elsewhere"} == rest


def test_only_adults_are_drawn_and_each_shows_every_emotion() -> None:
    people = drawn()
    assert people.age.min() >= 18
    shown = {(who, int(k)) for who, k in zip(people.identity, people.label, strict=True)}
    assert len(shown) == len(people) == 80


def test_too_few_people_are_refused() -> None:
    with pytest.raises(SettingsError, match="draw 20 or more"):
        draw_people(19, seed=1)


# -- doubt ---------------------------------------------------------------------------------------


def test_pictures_of_one_person_are_one_observation() -> None:
    rng = np.random.default_rng(3)
    values, person = rng.random(30), np.arange(30).astype(np.str_)
    once = mean_over_people(values, person)
    again = mean_over_people(np.repeat(values, 4), np.repeat(person, 4))
    assert again == pytest.approx(once)
    assert once.n == 30


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    person = np.arange(12).astype(np.str_)
    draws = [mean_over_people(rng.normal(0.3, 0.1, 12), person) for _ in range(600)]
    assert 0.92 < np.mean([d.low <= 0.3 <= d.high for d in draws]) < 0.98


def test_no_change_seen_is_not_no_change_proved() -> None:
    right, person = np.ones(40, dtype=bool), np.arange(40).astype(np.str_)
    found = change(right, right, person)
    assert found.mean == 0
    assert found.low < 0 < found.high < 0.1
    alone = mean_over_people(np.array([0.5]), np.array(["p"]), bounds=(0.0, 1.0))
    assert (alone.low, alone.high) == (0.0, 1.0)
    all_right = rate(right, person)
    assert 0.9 < all_right.low < 1.0 == all_right.high


# -- covering ------------------------------------------------------------------------------------


def test_what_is_covered_leaves_no_trace_not_even_its_outline() -> None:
    """Two pictures that differ inside the region alone become the same."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (1, 48, 48), dtype=np.uint8)
    where = np.zeros((1, 48, 48), dtype=bool)
    where[:, 20:30, 15:33] = True
    other = base.copy()
    other[where] = 255 - other[where]
    one, two = cover(base, where), cover(other, where)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[~where], base[~where])
    flat = np.full((1, 48, 48), 90, dtype=np.uint8)
    flat[where] = 10
    assert np.unique(cover(flat, where)).tolist() == [90]


def test_covering_takes_colour_and_pictures_without_the_part() -> None:
    rng = np.random.default_rng(1)
    colour = rng.integers(0, 255, (2, 48, 48, 3), dtype=np.uint8)
    where = np.zeros((2, 48, 48), dtype=bool)
    where[0, 10:14, 10:14] = True
    out = cover(colour, where)
    assert out.shape == colour.shape
    np.testing.assert_array_equal(out[1], colour[1])
    for k in range(3):
        np.testing.assert_array_equal(out[..., k], cover(colour[..., k].copy(), where))


def test_a_patch_elsewhere_is_as_large_and_stays_clear_where_it_can() -> None:
    where = np.zeros((3, 48, 48), dtype=bool)
    where[:, 4:10, 4:20] = True
    moved = elsewhere_as_large(where, where, np.random.default_rng(0))
    assert (moved.sum((1, 2)) == where.sum((1, 2))).all()
    assert not (moved & where).any()


def test_alone_leaves_the_part_and_one_gray() -> None:
    picture = np.random.default_rng(2).integers(0, 255, (1, 48, 48), dtype=np.uint8)
    where = grown(np.pad(np.ones((1, 4, 4), dtype=bool), ((0, 0), (20, 24), (20, 24))), 1)
    assert where.sum() == 16 + 4 * 4
    out = alone(picture, where)
    np.testing.assert_array_equal(out[where], picture[where])
    assert len(np.unique(out[~where])) == 1


def test_the_shipped_model_needs_eyes_and_mouth_more_than_as_much_of_anything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(explaining, "COVERED", (("eyes",), ("mouth",), ("eyes", "mouth")))
    found = covered(shipped(), drawn(), 1, lambda *_: None)
    both = found["covered"]["eyes and mouth"]
    assert both["lost_more_than_elsewhere"]["low"] > 0.1
    assert abs(both["lost_elsewhere"]["mean"]) < 0.15
    assert both["alone"]["mean"] > found["covered"]["mouth"]["alone"]["mean"]
    assert found["lost_on_top"]["eyes"]["low"] > 0


def numbers(lost: dict[str, float], on_top: dict[str, float]) -> dict[str, Any]:
    def one(low: float) -> dict[str, float]:
        return {"mean": low + 0.1, "low": low, "high": low + 0.2}

    part = {p: {k: one(v) for k in ("lost_more_than_elsewhere", "lost", "alone")}
            for p, v in lost.items()}  # fmt: skip
    part["eyes and mouth"] = {"alone": one(0.5)}
    return {"covered": part, "lost_on_top": {p: one(v) for p, v in on_top.items()}}


@pytest.mark.parametrize(
    ("eyes", "mouth", "answer"),
    [
        ((0.1, -0.1), (0.1, -0.1), "Eyes too."),
        ((-0.1, 0.1), (0.1, 0.1), "Eyes too."),
        ((-0.1, -0.1), (0.1, 0.1), "The mouth only."),
        ((0.1, 0.1), (-0.1, -0.1), "The eyes only."),
        ((-0.1, -0.1), (-0.1, -0.1), "Neither is shown to be needed."),
    ],
)
def test_the_answer_follows_from_what_covering_loses(
    eyes: tuple[float, float], mouth: tuple[float, float], answer: str
) -> None:
    found = numbers({"eyes": eyes[0], "mouth": mouth[0]}, {"eyes": eyes[1], "mouth": mouth[1]})
    assert verdict(found).startswith(answer)


# -- a run ---------------------------------------------------------------------------------------


def tiny(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 8, stride=8), nn.Flatten(), nn.Linear(144, 4))


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run of a small network, whose stores are gone."""
    monkeypatch.setattr(models, "MODELS", {**models.MODELS, "tiny": tiny})
    run = small_run(tmp_path, model="tiny", rounds=1)
    simulation.run(run)
    simulation.finish(run)
    shutil.rmtree(run.folder / "stores")
    return run


def test_a_run_is_explained_without_its_stores_the_same_for_the_same_seed(
    finished: Run, tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in finished.folder.rglob("*") if p.is_file()}
    found = explain_run(finished, tmp_path / "out", people=20)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "answer.md",
        "explain.json",
        "maps.png",
        "shares.csv",
        "shares.png",
    ]
    looks = read_looks(finished.folder)
    assert looks.model_sha256 == hashlib.sha256(finished.model_path.read_bytes()).hexdigest()
    assert looks.run_id == finished.run_id
    assert looks.people == 20
    assert set(looks.by_group) == {"gender", "age_band", "skin_tone"}
    assert looks.by_emotion["happy"].share["eyes"].mean == pytest.approx(
        found["by_emotion"]["happy"]["share"]["eyes"]["mean"]
    )
    after = {p: p.read_bytes() for p in finished.folder.rglob("*") if p.is_file()}
    assert set(after) - set(before) == {finished.folder / "looks.json"}
    assert all(after[p] == content for p, content in before.items())
    assert "do not exist" in (tmp_path / "out/answer.md").read_text()
    explain_run(finished, tmp_path / "again", people=20)  # the same seed, the same files
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_stores_with_layers_of_their_own_have_no_one_model_to_look_into(tmp_path: Path) -> None:
    """What the server has would be read with the head that the run began with."""
    made = small_run(tmp_path, personal="head", model="gray-cnn")
    w.save_weights(made.model_path, made.last_whole_round()[1])
    with pytest.raises(SettingsError, match="no one model to look into"):
        explain_run(made, tmp_path / "out", people=20)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_where_something_fails(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="20 or more"):
        explain_run(finished, tmp_path / "out", people=3)
    assert not (tmp_path / "out").exists()
    assert not (finished.folder / "looks.json").exists()
    with pytest.raises(RunError, match="not empty"):
        explain_run(finished, finished.folder, people=20)
    finished.model_path.unlink()
    with pytest.raises(RunError, match="finish the run, or resume it"):
        explain_run(finished, tmp_path / "out", people=20)
    with pytest.raises(RunError, match="neither a run nor"):
        subject_of("somebody")


CHANGES: dict[str, Any] = {
    "another schema": {"schema": "privemo.looks/2"},
    "a key that nobody knows": {"note": "trust me"},
    "a share over 1": {"area": {"eyes": 1.5, "mouth": 0, "cheeks": 0, "elsewhere": -0.5}},
    "areas that are not whole": {"area": {"eyes": 0.1, "mouth": 0.1, "cheeks": 0, "elsewhere": 0}},
    "a part left out": {"area": {"eyes": 0.5, "mouth": 0.5}},
    "regions in another order": {"regions": ["mouth", "eyes", "cheeks", "elsewhere"]},
    "no people": {"people": 0},
    "an emotion that is none": {"by_emotion": {"bored": {"n": 1, "share": {}}}},
    "a hash that is none": {"model_sha256": "trust me"},
    "a time without a zone": {"made": "2026-11-29T12:00:00"},
}


@pytest.mark.parametrize("what", CHANGES)
def test_looks_that_were_changed_are_refused(what: str, tmp_path: Path) -> None:
    means = {"eyes": 0.5, "mouth": 0.25, "cheeks": 0.125, "elsewhere": 0.125}
    share = {part: {"mean": m, "low": 0.0, "high": 1.0} for part, m in means.items()}
    write_looks(
        tmp_path,
        run_id="a",
        model_sha256="0" * 64,
        method="grad_cam",
        people=20,
        area=means,
        by_emotion={"happy": {"n": 20, "share": share}},
        by_group={"gender": {"feminine": {"n": 9, "share": share}}},
    )
    assert read_looks(tmp_path).area["eyes"] == 0.5
    path = tmp_path / "looks.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **CHANGES[what]}))
    with pytest.raises(RunError, match=r"looks\.json"):
        read_looks(tmp_path)
