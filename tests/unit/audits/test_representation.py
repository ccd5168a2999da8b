"""Who was measured, against whom the model is for: shares, their doubt, and what must not be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from privemo_audits import PolicyError, build_report
from privemo_audits.cells import measure_groups
from privemo_audits.report_performance import Representation
from privemo_audits.representation import measure_representation
from tests.support.audit_runs import LABELS, RunMaker


def table(**people: int) -> pd.DataFrame:
    """Two faces of each of so many people, by region; nobody is read rightly or wrongly on purpose."""
    region = np.repeat([name.replace("_", " ") for name in people], list(people.values()))
    n = len(region)
    frame = pd.DataFrame(
        {
            "store": "store-01",
            "person": np.arange(n).astype(str),
            "region": np.where(region == "none", "", region),
        }
    )
    frame = pd.concat([frame, frame], ignore_index=True)
    frame["face"] = np.arange(2 * n).astype(str)
    frame["label"] = np.arange(2 * n) % 4
    frame["prediction"] = np.arange(2 * n) % 4
    return frame


def measured(frame: pd.DataFrame, reference: dict[str, float]) -> dict[str, Representation]:
    cells, _, _ = measure_groups(frame, ["region"], LABELS)
    found = measure_representation(frame, cells, {"region": reference})
    return {each.group: each for each in found}


def test_shares_are_of_people_and_not_of_faces() -> None:
    found = measured(table(north=30, south=70), {"north": 0.5, "south": 0.5})
    assert found["north"].share == 0.3
    assert found["north"].ratio == pytest.approx(0.6)
    assert found["south"].persons == 70
    low, high = found["north"].ci or (0, 0)
    alpha = 0.05 / 2  # two groups are looked at together
    assert low == pytest.approx(beta.ppf(alpha / 2, 30, 71))
    assert high == pytest.approx(beta.ppf(1 - alpha / 2, 31, 70))


def test_a_group_that_nobody_is_of_has_a_share_of_none_and_its_doubt() -> None:
    found = measured(table(north=30, south=20), {"north": 0.5, "south": 0.4, "east": 0.1})
    assert (found["east"].persons, found["east"].share, found["east"].ratio) == (0, 0.0, 0.0)
    assert found["east"].ci is not None
    assert 0 < found["east"].ci[1] < 0.15


def test_a_group_that_the_reference_does_not_name_is_told() -> None:
    found = measured(table(north=30, elsewhere=20), {"north": 1.0})
    assert found["elsewhere"].reference is None
    assert found["elsewhere"].ratio is None
    assert found["elsewhere"].share == 0.4


def test_people_whose_group_is_not_recorded_count_for_none() -> None:
    found = measured(table(north=30, south=30, none=40), {"north": 0.5, "south": 0.5})
    assert set(found) == {"north", "south"}
    assert found["north"].share == 0.5


def test_a_cell_that_could_single_someone_out_is_not_told() -> None:
    found = measured(table(north=50, south=3, west=8), {"north": 0.8, "south": 0.1, "west": 0.1})
    for group in ("south", "west"):  # the second, for else the first would follow from it
        assert found[group].status == "suppressed"
        assert (found[group].persons, found[group].share, found[group].ratio) == (None, None, None)


def test_hidden_people_without_a_group_do_not_give_others_away() -> None:
    """Of 3 in the south and 6 without a group both are hidden; shares would tell them apart."""
    found = measured(table(north=50, south=3, none=6), {"north": 0.9, "south": 0.1})
    assert {each.status for each in found.values()} == {"suppressed"}


# -- in a policy -----------------------------------------------------------------------------------

HEAD = 'schema = "privemo.policy/1"\n'


def policy(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(HEAD + text)
    return path


def region_shares(run: RunMaker) -> dict[str, float]:
    """Shares of the truthful run's first sensitive column, as measured."""
    report = build_report(run.directory)
    feature = report.run.sensitive[0]
    cells = [c for c in report.groups if c.feature == feature and c.persons is not None]
    total = sum(c.persons or 0 for c in cells)
    return {c.group: (c.persons or 0) / total for c in cells}


def rules(run: RunMaker, shares: dict[str, float], least: float) -> str:
    feature = build_report(run.directory).run.sensitive[0]
    lines = [f'"{group}" = {share}' for group, share in shares.items()]
    return (
        f"[representation]\nleast_ratio = {least}\n[representation.reference.{feature}]\n"
        + "\n".join(lines)
    )


def test_people_who_are_there_pass(run: RunMaker, tmp_path: Path) -> None:
    report = build_report(
        run.directory, policy=policy(tmp_path, rules(run, region_shares(run), 0.8))
    )
    assert report.representation
    (check,) = [c for c in report.checks if c.id == "policy.representation"]
    assert check.passed


def test_a_group_that_is_missing_fails_the_audit(run: RunMaker, tmp_path: Path) -> None:
    shares = {name: share * 0.3 for name, share in region_shares(run).items()}
    shares["people of the moon"] = 0.7
    report = build_report(run.directory, policy=policy(tmp_path, rules(run, shares, 0.8)))
    assert "policy.representation" in report.failed_checks
    (check,) = [c for c in report.checks if c.id == "policy.representation"]
    assert "people of the moon" in check.evidence


def test_what_cannot_be_judged_does_not_pass(
    run: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = [
        Representation(feature="skin", group=group, status="suppressed", reference=0.5)
        for group in ("light", "dark")
    ]
    monkeypatch.setattr("privemo_audits.found.measure_representation", lambda *_: hidden)
    report = build_report(
        run.directory, policy=policy(tmp_path, rules(run, region_shares(run), 0.8))
    )
    (check,) = [c for c in report.checks if c.id == "policy.representation"]
    assert not check.passed
    assert "none can be judged" in check.evidence


def test_without_a_reference_nothing_is_said(run: RunMaker) -> None:
    assert build_report(run.directory).representation == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[representation.reference.skin]\na = 0.2\nb = 0.2", "add up to 0.4"),
        ("[representation.reference.skin]\na = 1.2\nb = -0.2", "reference"),
        ("[representation]\nleast_ratio = 0.8", "least_ratio is of a reference"),
        ("[representation.reference.shoe_size]\na = 1.0", "shoe_size"),
    ],
)
def test_a_reference_that_makes_no_sense_is_named(
    run: RunMaker, tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(PolicyError, match=words):
        build_report(run.directory, policy=policy(tmp_path, text))
