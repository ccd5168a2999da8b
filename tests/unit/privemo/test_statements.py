"""What a store signs: nobody else can say it, and nothing private is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from privemo.errors import UpdateRejected
from privemo.statements import FIRST, LedgerHead, Signed, Statement, details_of, sign

KEY = Ed25519PrivateKey.generate()
ROSTER = {"store-01": KEY.public_key().public_bytes_raw()}


def statement(**changes: Any) -> Statement:
    facts: dict[str, Any] = {
        "run_id": "r",
        "round": 1,
        "store": "store-01",
        "order": "1" * 64,
        "model_in": "2" * 64,
        "history": FIRST,
        "status": "trained",
        "update_sha256": "3" * 64,
        "consent_log_root": "4" * 64,
        "ledger": LedgerHead(entries=1, hash="5" * 64),
        "epsilon": 0.1 + 0.2,
        "details": "6" * 64,
        "versions": {"privemo": "0.1.0"},
    }
    return Statement(**(facts | changes))


def test_what_was_signed_is_read_back() -> None:
    said = statement()
    assert sign(said, KEY).verified(ROSTER) == said
    assert sign(said, KEY).facts()["statement"]["epsilon"] == 0.1 + 0.2


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_can_be_changed(at: int, bit: int) -> None:
    signed = sign(statement(), KEY)
    whole = bytearray(signed.text + signed.signature)
    whole[at % len(whole)] ^= 1 << bit
    n = len(signed.text)
    with pytest.raises(UpdateRejected):
        Signed(bytes(whole[:n]), bytes(whole[n:])).verified(ROSTER)


def test_a_stranger_is_told_apart() -> None:
    with pytest.raises(UpdateRejected, match="no such store"):
        sign(statement(store="store-09"), KEY).verified(ROSTER)
    with pytest.raises(UpdateRejected, match="not signed by this store"):
        sign(statement(), Ed25519PrivateKey.generate()).verified(ROSTER)


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[" * 100_000, b"{}", b'{"schema": "privemo.statement/1"}', b"\xff"]
)
def test_what_is_no_statement_is_refused(text: bytes) -> None:
    with pytest.raises(UpdateRejected, match="malformed"):
        Signed(text, b"").verified(ROSTER)


def test_there_is_one_way_to_write_a_statement() -> None:
    """Two texts of one content would be two hashes of one thing."""
    spaced = json.dumps(json.loads(statement().to_bytes())).encode()
    with pytest.raises(UpdateRejected, match="one encoding"):
        Signed(spaced, KEY.sign(b"privemo.statement/1\n" + spaced)).verified(ROSTER)


def test_a_signature_under_something_else_is_none_under_a_statement() -> None:
    text = statement().to_bytes()
    with pytest.raises(UpdateRejected, match="not signed"):
        Signed(text, KEY.sign(text)).verified(ROSTER)


def test_equal_numbers_of_people_have_unequal_details() -> None:
    """Else whoever has the hash could try the numbers one by one."""
    line = {"admitted": {"faces": 3, "persons": 2}}
    assert details_of(line)["admission"] == line
    assert details_of(line)["nonce"] != details_of(line)["nonce"]


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "refused", "reason": "budget_exhausted"},  # and an update all the same
        {"status": "refused", "update_sha256": None},
        {"update_sha256": None},
        {"reason": "no_faces"},
        {"epsilon": 1e16},
        {"epsilon": float("nan")},
        {"round": 0},
        {"ledger": {"entries": 2**53, "hash": FIRST}},
    ],
)
def test_a_store_trained_and_names_its_update_or_did_not_and_says_why(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        statement(**changes)
