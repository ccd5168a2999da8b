"""A store counts whom it asks by look: numbers alone, and of a minor no look at all."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo.asked import DIFFERS, count_asked, digest_of, write_asked
from privemo.errors import DataError, RunError
from privemo.faces import FaceTable, load_faces
from privemo.runs import Run
from privemo.store import Store
from privemo_consent import AgeBand, ConsentRegistry, Context, Party, Purpose
from tests.support.notices import whole_notice
from tests.unit.privemo.test_capture import SHOP, registry, table, taken
from tests.unit.privemo.test_records import stated

__all__ = ["registry", "table"]

PARTY = Party(id="shop", name="Shop Ltd", address="1 High St", contact="privacy@shop.example")


def counted(registry: ConsentRegistry, table: FaceTable, *columns: str) -> dict[str, Any]:
    return count_asked(
        registry, table, np.arange(len(table)), columns=columns, context=SHOP, challenge_age=25
    )


def test_each_is_counted_once_by_group_and_reason(
    registry: ConsentRegistry, table: FaceTable
) -> None:
    """Ann and Bob agreed, Cid said no, Eve is staff, Joe never came; the others are refused for age."""
    counts = counted(registry, table, "age_band")
    refused = {"minor": 1, "no_record": 1, "refused": 1, "staff": 1}
    refused |= {"suspected_minor": 2, "unknown_age": 1}
    assert counts["persons"] == {"admitted": 2, "refused": refused}
    bands = counts["columns"]["age_band"]
    assert bands["apart"] == {"admitted": 0, "refused": {}}
    assert bands["groups"]["13_15"] == {"admitted": 0, "refused": {"minor": 1}}
    assert bands["groups"]["unknown"] == {"admitted": 0, "refused": {"unknown_age": 1}}
    assert bands["groups"]["35_44"] == {"admitted": 1, "refused": {}}


def test_of_a_minor_no_look_but_the_age_band_is_counted(
    registry: ConsentRegistry, table: FaceTable
) -> None:
    """Fay is a child, Gus gave no age, Hal and Ian look too young: of none is the gender counted."""
    gender = counted(registry, table, "gender")["columns"]["gender"]
    assert gender["apart"] == {
        "admitted": 0,
        "refused": {"minor": 1, "suspected_minor": 2, "unknown_age": 1},
    }
    reasons = {r for each in gender["groups"].values() for r in each["refused"]}
    assert reasons == {"no_record", "refused", "staff"}


def test_pictures_that_disagree_make_a_group_of_their_own(
    registry: ConsentRegistry, table: FaceTable
) -> None:
    """Everybody in this table has one picture as a woman and one as a man."""
    assert set(counted(registry, table, "gender")["columns"]["gender"]["groups"]) == {DIFFERS}


def test_the_gate_admits_whom_the_counts_say(registry: ConsentRegistry, table: FaceTable) -> None:
    counts = counted(registry, table, "age_band")
    away = taken(registry, table)
    assert {r: c.persons for r, c in away.items() if r in ("minor", "unknown_age")} == {
        r: n for r, n in counts["persons"]["refused"].items() if r in ("minor", "unknown_age")
    }


def test_a_column_of_many_numbers_is_left_out_and_ages_are_cut_alike(tmp_path: Path) -> None:
    n = 24
    np.savez(
        tmp_path / "faces.npz",
        images=np.zeros((n, 48, 48), dtype=np.uint8),
        label=np.arange(n) % 4,
        label_names=np.array(["happy", "sad", "neutral", "surprise"]),
        identity=np.array([f"p{i}" for i in range(n)]),
        yaw=np.linspace(-1, 1, n),
        age=np.where(np.arange(n) % 2 == 0, 30.0, np.nan),
    )
    with ConsentRegistry.create(
        tmp_path / "consent.sqlite", mode="simulation", controller=PARTY
    ) as empty:
        counts = counted(empty, load_faces(tmp_path / "faces.npz"), "yaw", "age")
    assert counts["left_out"] == ["yaw"]
    assert set(counts["columns"]["age"]["groups"]) == {"25-34", "not recorded"}


def test_in_production_who_did_not_agree_to_be_measured_is_not_looked_at(tmp_path: Path) -> None:
    """Demographic labels need a purpose of their own (EU AI Act 10(5)); an age band is said for the gate."""
    people = ("ann", "bob", "cid")
    np.savez(
        tmp_path / "faces.npz",
        images=np.zeros((3, 48, 48), dtype=np.uint8),
        label=np.zeros(3, dtype=np.int64),
        label_names=np.array(["happy", "sad", "neutral", "surprise"]),
        identity=np.array(people),
        age_band=np.array(["25_34"] * 3),
        gender=np.array(["woman"] * 3),
    )
    notice = whole_notice(PARTY)
    with ConsentRegistry.create(
        tmp_path / "consent.sqlite", mode="production", controller=PARTY
    ) as real:
        real.notice(notice)
        yes: Any = {"age_band": AgeBand.FROM_25, "jurisdiction": "IE", "notice": notice}
        real.grant("ann", [Purpose.TRAINING, Purpose.FAIRNESS_AUDIT], **yes)
        real.grant("bob", [Purpose.TRAINING], **yes)
        counts = counted(real, load_faces(tmp_path / "faces.npz"), "gender", "age_band")
    gender, bands = counts["columns"]["gender"], counts["columns"]["age_band"]
    assert gender["groups"] == {"woman": {"admitted": 1, "refused": {}}}
    assert gender["apart"] == {"admitted": 1, "refused": {"no_record": 1}}
    assert bands["groups"] == {"25_34": {"admitted": 2, "refused": {"no_record": 1}}}


def test_a_column_that_is_not_there_is_named(registry: ConsentRegistry, table: FaceTable) -> None:
    with pytest.raises(DataError, match="no column 'height'"):
        counted(registry, table, "height")


def test_a_place_where_nobody_may_be_read_admits_nobody(
    registry: ConsentRegistry, table: FaceTable
) -> None:
    office = Context(setting="workplace", jurisdiction="IE")
    counts = count_asked(
        registry, table, np.arange(len(table)), columns=["age_band"], context=office
    )
    assert counts["persons"]["admitted"] == 0


# -- in a run --------------------------------------------------------------------------------------


def test_a_run_keeps_them_in_each_store_without_a_row_of_anybody(run: Run) -> None:
    for name in run.stores:
        raw = (run.folder / "stores" / name / "asked.json").read_text()
        content = json.loads(raw)
        assert (content["schema"], content["store"]) == ("privemo.asked/1", name)
        with ConsentRegistry.open(
            run.folder / "stores" / name / "consent.sqlite", mode="simulation"
        ) as consents:
            assert not [person for person in consents.persons() if f'"{person}"' in raw]


def test_they_are_what_the_first_round_asks_about(store: Store) -> None:
    content = json.loads((store.folder / "asked.json").read_text())
    store._admit("train", "a run", 1)
    line = json.loads((store.folder / "admissions.jsonl").read_text())
    assert line["admitted"]["persons"] == content["persons"]["admitted"]
    assert line["refused"]["persons"] == content["persons"]["refused"]


def test_every_statement_names_their_hash_and_the_server_learns_nothing_of_them(
    run: Run, store: Store
) -> None:
    digest = sha256((store.folder / "asked.json").read_bytes()).hexdigest()
    assert digest_of(store.folder) == digest
    signed = stated(run, store)
    line = json.loads((store.folder / "statements.jsonl").read_text())
    assert line["details"]["asked"] == digest
    sent = signed["text"]
    assert isinstance(sent, bytes)
    assert digest.encode() not in sent
    assert b"asked" not in sent


def test_they_are_written_once(tmp_path: Path) -> None:
    counts = {"persons": {}, "columns": {}, "left_out": []}
    write_asked(tmp_path, counts, run_id="r", store="s")
    with pytest.raises(RunError, match="counted once"):
        write_asked(tmp_path, counts, run_id="r", store="s")
    assert digest_of(tmp_path / "nowhere") is None
