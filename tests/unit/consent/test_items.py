"""One item: sealed, bound to its place, opened there and nowhere else."""

from __future__ import annotations

import os
from typing import Any

import pytest

from privemo_consent import ItemKind, MalformedError, TamperedError
from privemo_consent.items import KINDS, item_number, open_body, open_head, seal_item
from privemo_consent.sealing import PersonSecrets

ANN = PersonSecrets("ann", os.urandom(32), os.urandom(32))
BOB = PersonSecrets("bob", os.urandom(32), os.urandom(32))
#: Somebody else's id under Ann's keys, as if her row had been renamed.
MASK = PersonSecrets("bob", ANN.key, ANN.subject_key)
FACTS = {"label": 3, "estimated_age": 31.5, "attested_age_band": None, "part": "train"}


def row(item_id: str = "f1", **changes: Any) -> dict[str, Any]:
    given = {"item_id": item_id, "facts": FACTS, "body": b"pixels" * 9} | changes
    return seal_item("reg", 7, ANN, ItemKind.FACE, **given)


def opened(sealed: dict[str, Any], **changes: Any) -> bytes:
    place = {
        "registry_id": "reg",
        "iid": sealed["iid"],
        "pid": 7,
        "kind": ItemKind.FACE,
        "secrets": ANN,
    } | changes
    head = open_head(sealed=sealed["head"], **place)
    return open_body(place["registry_id"], head, sealed["body"], place["secrets"])


def test_what_was_sealed_comes_back() -> None:
    sealed = row()
    head = open_head("reg", sealed["iid"], 7, ItemKind.FACE, sealed["head"], ANN)
    assert (head.item_id, head.facts, head.person) == ("f1", FACTS, "ann")
    assert opened(sealed) == b"pixels" * 9
    assert opened(row(body=b"")) == b""


@pytest.mark.parametrize(
    "place",
    [
        {"registry_id": "other"},
        {"iid": 5},
        {"kind": ItemKind.DEMOGRAPHIC},
        {"secrets": BOB},
        {"secrets": MASK},
    ],
)
def test_an_item_opens_in_its_own_place_only(place: dict[str, Any]) -> None:
    with pytest.raises(TamperedError, match="item"):
        opened(row(), **place)


def test_the_body_of_one_item_does_not_pass_for_anothers() -> None:
    one, two = row("f1"), row("f2")
    with pytest.raises(TamperedError):
        opened(one | {"body": two["body"]})
    with pytest.raises(TamperedError):
        opened(one | {"body": one["head"]})
    with pytest.raises(TamperedError):
        opened(one | {"head": two["head"]})


@pytest.mark.parametrize("part", ["head", "body"])
def test_every_flipped_bit_and_every_cut_is_found(part: str) -> None:
    sealed = row(body=b"px")
    data = sealed[part]
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TamperedError):
            opened(sealed | {part: bytes(changed)})
    for length in range(len(data)):
        with pytest.raises(TamperedError):
            opened(sealed | {part: data[:length]})


def test_the_number_of_a_row_says_nothing_without_the_key_and_is_the_same_with_it() -> None:
    assert row("f1")["iid"] == row("f1")["iid"] == item_number(ANN, ItemKind.FACE, "f1")
    numbers = {
        item_number(who, kind, name)
        for who in (ANN, BOB)
        for kind in ItemKind
        for name in ("f1", "f2", "f1\x1f", "")
    }
    assert len(numbers) == 2 * 3 * 4
    assert all(0 <= number < 2**62 for number in numbers)


def test_the_same_item_is_never_sealed_the_same_twice() -> None:
    one, two = row(), row()
    assert one["head"] != two["head"]
    assert one["body"] != two["body"]


@pytest.mark.parametrize(
    "fact", [float("nan"), float("inf"), b"bytes", {1}, object(), [float("nan")]]
)
def test_a_fact_that_json_cannot_say_is_refused_without_being_repeated(fact: object) -> None:
    with pytest.raises(MalformedError) as caught:
        row(facts={"secret name": fact})
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_codes_of_kinds_are_for_good() -> None:
    assert [kind.value for kind in KINDS] == ["face", "demographic", "refusal"]


def test_nothing_of_a_head_is_shown() -> None:
    sealed = row()
    head = open_head("reg", sealed["iid"], 7, ItemKind.FACE, sealed["head"], ANN)
    for word in ("ann", "f1", "31.5", "train"):
        assert word not in repr(head)
