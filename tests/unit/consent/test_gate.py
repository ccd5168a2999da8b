"""The door: nothing passes without a record, nothing is opened that did not pass."""

from __future__ import annotations

import copy
import pickle
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo_consent import (
    ConsentGate,
    ConsentRegistry,
    Context,
    MalformedError,
    ModeMismatchError,
    Purpose,
    Reason,
    RefusalCounts,
    SealedFaces,
)

TRAINING = Purpose.TRAINING


class Camera:
    """Pictures that remember which of them were looked at."""

    def __init__(self, size: int) -> None:
        self.pixels = np.arange(size)
        self.opened: list[list[int]] = []

    def __call__(self, rows: Any) -> Any:
        self.opened.append(rows.tolist())
        return self.pixels[rows]


def sealed(persons: list[str], **evidence: Any) -> tuple[SealedFaces[Any], Camera]:
    camera = Camera(len(persons))
    faces = SealedFaces(persons, [f"f{i}" for i in range(len(persons))], camera, **evidence)
    return faces, camera


@pytest.fixture
def gate(registry: ConsentRegistry, yes: Any) -> ConsentGate:
    for person in ("ann", "bob", "kim"):
        registry.grant(person, [TRAINING], **yes())
    registry.withdraw("kim")
    return ConsentGate(registry)


def test_only_what_passed_is_opened(gate: ConsentGate, shop: Context, clock: Any) -> None:
    faces, camera = sealed(["ann", "kim", "nobody", "bob", "ann"])
    admitted = gate.admit(faces, TRAINING, shop)
    assert camera.opened == [[0, 3, 4]]
    assert admitted.faces.tolist() == admitted.rows.tolist() == [0, 3, 4]
    assert admitted.at == clock.time
    assert admitted.log_seq == gate._registry.log_seq
    assert admitted.counts.as_dict() == {
        "asked": {"faces": 5, "persons": 4},
        "admitted": {"faces": 3, "persons": 2},
        "refused": {
            "faces": {"no_record": 1, "withdrawn": 1},
            "persons": {"no_record": 1, "withdrawn": 1},
        },
    }


def test_a_purpose_opens_its_own_door_only(gate: ConsentGate, shop: Context) -> None:
    faces, camera = sealed(["ann", "bob"])
    admitted = gate.admit(faces, Purpose.FAIRNESS_AUDIT, shop)
    assert camera.opened == [[]]
    assert admitted.counts.refused_faces == {Reason.WRONG_PURPOSE: 2}


@pytest.mark.parametrize("setting", ["workplace", "education"])
def test_no_face_is_read_at_work_or_at_school(gate: ConsentGate, setting: str) -> None:
    faces, camera = sealed(["ann"])
    admitted = gate.admit(faces, TRAINING, Context(setting=setting, jurisdiction="IE"))  # type: ignore[arg-type]
    assert camera.opened == [[]]
    assert admitted.counts.refused_persons == {Reason.WRONG_CONTEXT: 1}


def test_age_evidence_of_one_face_refuses_the_whole_person(
    gate: ConsentGate, shop: Context
) -> None:
    faces, camera = sealed(["ann", "ann", "bob", "bob"], estimated_age=[np.nan, 19.0, 44.0, np.nan])
    admitted = gate.admit(faces, TRAINING, shop)
    assert camera.opened == [[2, 3]]
    assert admitted.counts.refused_faces == {Reason.SUSPECTED_MINOR: 2}
    assert admitted.counts.refused_persons == {Reason.SUSPECTED_MINOR: 1}


def test_minors_without_any_record_are_counted_as_minors(gate: ConsentGate, shop: Context) -> None:
    faces, camera = sealed(
        ["zoe", "leo", "ann", "bob", "eve"],
        attested_age_band=["under_13", "16_17", "25_34", "unknown", "25_34"],
    )
    admitted = gate.admit(faces, TRAINING, shop)
    assert camera.opened == [[2]]
    assert admitted.counts.refused_persons == {
        Reason.MINOR: 2,
        Reason.UNKNOWN_AGE: 1,
        Reason.NO_RECORD: 1,
    }


def test_the_challenge_age_is_the_gates(registry: ConsentRegistry, yes: Any, shop: Context) -> None:
    registry.grant("ann", [TRAINING], **yes())
    faces, _ = sealed(["ann"], estimated_age=[30.0])
    assert len(ConsentGate(registry).admit(faces, TRAINING, shop).rows) == 1
    assert len(ConsentGate(registry, challenge_age=31).admit(faces, TRAINING, shop).rows) == 0
    with pytest.raises(MalformedError, match="challenge age"):
        ConsentGate(registry, challenge_age=17.9)


def test_an_empty_table_opens_nothing(gate: ConsentGate, shop: Context) -> None:
    faces, camera = sealed([])
    admitted = gate.admit(faces, TRAINING, shop)
    assert camera.opened == [[]]
    assert admitted.counts == RefusalCounts()


def test_withdrawal_acts_before_the_next_batch(
    gate: ConsentGate, registry: ConsentRegistry, clock: Any, shop: Context
) -> None:
    # GDPR 7(3)
    batch = ["ann", "bob", "ann", "nobody"]
    assert gate.still_permitted(batch, TRAINING, shop).tolist() == [True, True, True, False]
    with ConsentRegistry.open(registry.path, mode="production", clock=clock) as kiosk:
        kiosk.withdraw("ann")
    assert gate.still_permitted(batch, TRAINING, shop).tolist() == [False, True, False, False]


def test_expiry_acts_without_any_event(gate: ConsentGate, clock: Any, shop: Context) -> None:
    assert gate.still_permitted(["ann"], TRAINING, shop).tolist() == [True]
    clock.forward(days=366)
    assert gate.still_permitted(["ann"], TRAINING, shop).tolist() == [False]


def test_a_clock_set_back_stops_everything(gate: ConsentGate, clock: Any, shop: Context) -> None:
    faces, camera = sealed(["ann"])
    clock.forward(hours=-1)
    admitted = gate.admit(faces, TRAINING, shop)
    assert camera.opened == [[]]
    assert admitted.counts.refused_faces == {Reason.CLOCK_BACKWARDS: 1}
    assert not gate.still_permitted(["ann"], TRAINING, shop).any()


def test_a_registry_gone_bad_refuses_everyone(
    gate: ConsentGate, registry: ConsentRegistry, shop: Context, tmp_path: Path
) -> None:
    faces, camera = sealed(["ann", "ann", "bob"])
    registry.close()
    for file in tmp_path.glob("consent.sqlite*"):
        file.write_bytes(b"x" * file.stat().st_size)
    admitted = gate.admit(faces, TRAINING, shop)
    assert camera.opened == [[]]
    assert admitted.counts.refused_faces == {Reason.REGISTRY_UNREADABLE: 3}
    assert admitted.counts.refused_persons == {Reason.REGISTRY_UNREADABLE: 2}
    assert admitted.log_seq == -1
    assert not gate.still_permitted(["ann", "bob"], TRAINING, shop).any()


def test_a_table_missing_from_the_registry_refuses_everyone(
    gate: ConsentGate, registry: ConsentRegistry, shop: Context
) -> None:
    registry.close()
    with sqlite3.connect(registry.path) as raw:
        raw.execute("DROP TABLE events")
    raw.close()
    faces, camera = sealed(["ann"])
    assert gate.admit(faces, TRAINING, shop).counts.refused_faces == {Reason.REGISTRY_UNREADABLE: 1}
    assert camera.opened == [[]]


def test_a_log_that_grew_shorter_refuses_everyone(
    gate: ConsentGate, registry: ConsentRegistry, shop: Context
) -> None:
    assert gate.still_permitted(["ann"], TRAINING, shop).all()
    last = registry.log_seq - 1
    with sqlite3.connect(registry.path) as raw:
        raw.execute("DROP TRIGGER events_no_delete")
        raw.execute("DELETE FROM events WHERE seq = ?", (last,))
    raw.close()
    assert not gate.still_permitted(["ann"], TRAINING, shop).any()


def test_a_failure_in_deciding_leaves_a_trace_without_names(
    gate: ConsentGate, registry: ConsentRegistry, shop: Context, caplog: Any
) -> None:
    registry.close()
    registry.path.unlink()
    assert not gate.still_permitted(["ann"], TRAINING, shop).any()
    assert "RegistryUnreadableError" in caplog.text
    assert "ann" not in caplog.text.replace("cannot", "")


def test_a_production_gate_takes_no_simulation(
    registry: ConsentRegistry, simulation: ConsentRegistry
) -> None:
    with pytest.raises(ModeMismatchError, match="production gate"):
        ConsentGate(simulation, mode="production")
    with pytest.raises(ModeMismatchError):
        ConsentGate(registry, mode="simulation")
    ConsentGate(registry, mode="production")


# -- sealed faces ----------------------------------------------------------------------------------


def test_there_is_no_way_to_the_pixels_but_the_gate() -> None:
    faces, camera = sealed(["ann", "bob"])
    for name in dir(faces):
        value = getattr(faces, name)
        assert value is not camera
        assert value is not camera.pixels
        assert not callable(value) or name.startswith("__")
    with pytest.raises(TypeError):
        vars(faces)
    with pytest.raises(AttributeError):
        faces.pixels = camera.pixels  # type: ignore[attr-defined]
    assert repr(faces) == "SealedFaces(2 faces)"
    assert camera.opened == []


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps])
def test_sealed_faces_do_not_travel(act: Any) -> None:
    faces, _ = sealed(["ann"])
    with pytest.raises(TypeError, match="neither copied nor sent"):
        act(faces)


def test_who_is_in_the_table_cannot_be_changed_afterwards() -> None:
    names = np.array(["ann", "bob"])
    faces = SealedFaces(names, ["1", "2"], lambda rows: rows, estimated_age=[30.0, 40.0])
    names[1] = "ann"
    assert faces.person.tolist() == ["ann", "bob"]
    for array in (faces.person, faces.face_id, faces.estimated_age):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    with pytest.raises(AttributeError):
        faces.person = names  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"face_id": ["1"]}, "face_id"),
        ({"face_id": ["1", "1"]}, "twice"),
        ({"estimated_age": [30.0]}, "estimated_age"),
        ({"estimated_age": [[30.0], [40.0]]}, "estimated_age"),
        ({"attested_age_band": ["25_34"] * 3}, "attested_age_band"),
        ({"person": [["ann"], ["bob"]]}, "person"),
        ({"person": np.array([["ann"], ["bob"]])}, "person"),
        ({"person": ["ann", None]}, "person"),
        ({"person": ["ann", 7]}, "person"),
        ({"person": ["ann", "ann\0"]}, "person"),
        ({"person": np.array(["ann", None], dtype=object)}, "person"),
        ({"open_": None}, "open_"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change: dict[str, Any], what: str) -> None:
    fields: dict[str, Any] = {
        "person": ["ann", "bob"],
        "face_id": ["1", "2"],
        "open_": lambda rows: rows,
    }
    with pytest.raises(MalformedError, match=what):
        SealedFaces(**(fields | change))


# -- counts ----------------------------------------------------------------------------------------


def test_counts_add_up_and_merge(gate: ConsentGate, shop: Context) -> None:
    one = gate.admit(sealed(["ann", "kim"])[0], TRAINING, shop).counts
    two = gate.admit(sealed(["bob", "nobody", "nobody"])[0], TRAINING, shop).counts
    both = one + two
    assert both.asked_faces == both.admitted_faces + sum(both.refused_faces.values()) == 5
    assert both.asked_persons == both.admitted_persons + sum(both.refused_persons.values()) == 4
    assert both.refused_faces == {Reason.WITHDRAWN: 1, Reason.NO_RECORD: 2}
    assert both + RefusalCounts() == both
    with pytest.raises(TypeError):
        both.refused_faces[Reason.MINOR] = 0  # type: ignore[index]


def test_a_later_moment_can_be_asked_about(gate: ConsentGate, clock: Any, shop: Context) -> None:
    faces, _ = sealed(["ann"])
    later = clock.time + timedelta(days=400)
    admitted = gate.admit(faces, TRAINING, shop, at=later)
    assert (admitted.at, admitted.counts.refused_faces) == (later, {Reason.EXPIRED: 1})
