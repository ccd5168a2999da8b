"""Cosignatures: what public witnesses published, and every way to pretend one saw a head."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from privemo_consent import ClockBackwardsError, MalformedError, SignatureError
from privemo_consent.checkpoint import Checkpoint, open_checkpoint
from privemo_consent.cosign import (
    Cosigner,
    CosignerKey,
    parse_key,
    verify_cosignatures,
)
from privemo_consent.keys import SigningKey, VerifyingKey
from privemo_consent.note import SignatureLine, add_signature, open_note, sign_note

# A head of a public staging log for certificates, cosigned by public witnesses; the keys as their
# operators publish them. Source of note and two of the keys: the tests of tlog-scales; the others:
# https://witness.stagemole.eu/about, https://transparency.dev/witnesses.
BODY = (
    "arche2025h1.staging.ct.transparency.dev\n1432088532\n"
    "U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n"
)
LINES = (
    "\u2014 arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGR"
    "EPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n"
    "\u2014 arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzb"
    "C3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n"
    "\u2014 transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzw"
    "Z2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n"
    "\u2014 remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX"
    "9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n"
    "\u2014 witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+A"
    "JmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==\n"
)
PUBLISHED = f"{BODY}\n{LINES}"
ARCHE = (
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
)
REMORA = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
OTHERS = (
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
)
SAID = datetime(2026, 5, 23, 21, 50, 24, tzinfo=UTC)  # 1779573024, as all three of them state
LATER = SAID + timedelta(days=1)


def test_what_public_witnesses_signed_verifies() -> None:
    keys = [CosignerKey.parse(text) for text in (REMORA, *OTHERS)]
    found = verify_cosignatures(PUBLISHED, keys, now=LATER, quorum=3)
    assert {(c.key.name, c.time) for c in found} == {(key.name, SAID) for key in keys}


def test_a_published_head_opens_by_the_logs_key_and_keeps_its_witnesses() -> None:
    log, witness = VerifyingKey.parse(ARCHE), CosignerKey.parse(REMORA)
    head, note = open_checkpoint(PUBLISHED, [log, witness], origin=log.name)
    assert head.size == 1432088532
    assert note.keys == (log, witness)
    assert str(note) == PUBLISHED


@pytest.mark.parametrize("text", [REMORA, *OTHERS])
def test_published_keys_read_and_write_back(text: str) -> None:
    assert str(CosignerKey.parse(text)) == text == str(parse_key(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "remora.n621.de",
        ARCHE,  # a log's key is no cosigner's
        REMORA.replace("da77ade7", "da77ade8"),
        REMORA.replace("da77ade7", "DA77ADE7"),
        REMORA.replace("+BOvN", "+AOvN"),
        REMORA[:-1],
        REMORA + "\n",
        REMORA.replace("remora", "rem ora"),
    ],
)
def test_a_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        CosignerKey.parse(text)


NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
LOG = SigningKey.generate("shop.example/log")
HEAD = Checkpoint(LOG.name, 1, bytes(32))
SIGNED = sign_note(HEAD.text, LOG)
KEY = SigningKey.generate("witness.example")
WITNESS = Cosigner(KEY, clock=lambda: NOW)


def test_a_cosignature_is_added_and_verifies() -> None:
    note = WITNESS.cosign(SIGNED)
    assert note.startswith(SIGNED)
    (found,) = verify_cosignatures(note, [WITNESS.key], now=NOW)
    assert (found.key, found.time) == (WITNESS.key, NOW)
    assert open_note(note, [LOG.verifying, WITNESS.key]).verified == (LOG.name, KEY.name)
    # neither kind of key takes the other kind's signature
    assert WITNESS.key.key_id != KEY.key_id
    with pytest.raises(SignatureError, match="no key that is known"):
        open_note(note, [KEY.verifying])


def test_the_latest_of_several_times_is_told() -> None:
    later = Cosigner(KEY, clock=lambda: NOW + timedelta(hours=1))
    note = later.cosign(WITNESS.cosign(SIGNED))
    (found,) = verify_cosignatures(note, [WITNESS.key], now=LATER)
    assert found.time == NOW + timedelta(hours=1)


def stamped(time: int, key: SigningKey = KEY) -> str:
    """A cosignature that really is over ``time``, whatever that is."""
    message = b"cosignature/v1\ntime %d\n" % time + HEAD.text.encode()
    public = CosignerKey(key.name, key.verifying.public)
    line = SignatureLine(key.name, public.key_id, time.to_bytes(8, "big") + key.sign(message))
    return add_signature(SIGNED, line)


def moved(note: str, seconds: int) -> str:
    """The same note with another time written into its cosignature."""
    opened = open_note(note, [LOG.verifying])
    line = opened.signatures[-1]
    time = int.from_bytes(line.signature[:8], "big") + seconds
    other = SignatureLine(line.name, line.key_id, time.to_bytes(8, "big") + line.signature[8:])
    return add_signature(SIGNED, other)


def twice(name: str) -> tuple[str, list[CosignerKey]]:
    """One private key under two names, which a signature of this kind cannot tell apart."""
    private = KEY._private
    other = Cosigner(SigningKey(name, private), clock=lambda: NOW)
    return other.cosign(WITNESS.cosign(SIGNED)), [WITNESS.key, other.key]


@pytest.mark.parametrize(
    ("attack", "note", "keys", "quorum", "told"),
    [
        (
            "another head",
            WITNESS.cosign(SIGNED).replace("\n1\n", "\n2\n"),
            None,
            1,
            "bad signature",
        ),
        ("a later time", moved(WITNESS.cosign(SIGNED), 1), None, 1, "bad signature"),
        ("an earlier time", moved(WITNESS.cosign(SIGNED), -86400), None, 1, "bad signature"),
        ("an extension", PUBLISHED.replace("Ro=\n\n", "Ro=\nx\n\n"), REMORA, 1, "bad signature"),
        ("the future", stamped(int(NOW.timestamp()) + 301), None, 1, "of the future"),
        ("the far future", stamped(2**63 - 1), None, 1, "of the future"),
        ("beyond 2**63", stamped(2**63), None, 1, "2\\*\\*63"),
        ("no time", stamped(0), None, 1, "got time 0"),
        ("the log's own signature", SIGNED, None, 1, "no key that is known"),
        ("one of two", WITNESS.cosign(SIGNED), None, 2, "of 1 keys, want 2"),
        ("one key, two names", *twice("other.example"), 2, "of 1 keys, want 2"),
        ("somebody else's", stamped(1, SigningKey.generate(KEY.name)), None, 1, "no key that is"),
    ],
)
def test_what_no_witness_said_is_refused(
    attack: str, note: str, keys: object, quorum: int, told: str
) -> None:
    known = keys if isinstance(keys, list) else [WITNESS.key]
    if isinstance(keys, str):
        known = [CosignerKey.parse(keys)]
    with pytest.raises(SignatureError, match=told):
        verify_cosignatures(note, known, now=NOW, quorum=quorum)


@pytest.mark.parametrize("length", [0, 8, 64, 71, 73])
def test_a_signature_of_another_length_is_none(length: int) -> None:
    with pytest.raises(SignatureError, match="72 bytes"):
        WITNESS.key.verify(bytes(length), b"x")


def test_five_minutes_between_two_clocks_are_no_future() -> None:
    verify_cosignatures(stamped(int(NOW.timestamp()) + 300), [WITNESS.key], now=NOW)


@pytest.mark.parametrize(
    "note", [sign_note("no checkpoint\n", LOG), "nothing", sign_note(f"{LOG.name}\n01\n", LOG)]
)
def test_only_checkpoints_are_cosigned(note: str) -> None:
    with pytest.raises(MalformedError):
        WITNESS.cosign(note)


def test_a_log_does_not_witness_itself() -> None:
    with pytest.raises(MalformedError, match="a witness is another"):
        Cosigner(LOG, clock=lambda: NOW).cosign(SIGNED)


def test_a_clock_that_cannot_be_right_signs_nothing() -> None:
    empty = Cosigner(KEY, clock=lambda: datetime(1970, 1, 1, tzinfo=UTC))
    with pytest.raises(ClockBackwardsError, match="set the clock"):
        empty.cosign(SIGNED)
    with pytest.raises(ClockBackwardsError):
        WITNESS.cosign(SIGNED, not_before=int(NOW.timestamp()) + 1)
    assert "Private" not in repr(WITNESS.key)
