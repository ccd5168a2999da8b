"""Keys stay secret, files stay closed, and a ring trusts whom it should."""

from __future__ import annotations

import copy
import pickle
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from privemo_consent import KeyFileError, MalformedError, SignatureError
from privemo_consent.keys import KeyPeriod, KeyRing, SigningKey, VerifyingKey

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# The key of the documentation of golang.org/x/mod/sumdb/note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def test_a_published_key_reads_and_writes_back() -> None:
    key = VerifyingKey.parse(PETER)
    assert (key.name, key.key_id.hex(), str(key)) == ("PeterNeumann", "c74f20a3", PETER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER.replace("+ARpc", "+BRpc"),
        PETER[:-1],
        PETER + "AA",
        PETER + "\n",
        PETER.replace("PeterNeumann", "Peter Neumann"),
        PETER.replace("PeterNeumann", ""),
        PETER.replace("ARpc", "AR\u00e9c"),
    ],
)
def test_a_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        VerifyingKey.parse(text)


@pytest.mark.parametrize(
    ("text", "why"), [("Peter", "printed it$"), (PETER[:-1], "; its last part")]
)
def test_whoever_mistypes_a_key_is_told_where_to_find_it(text: str, why: str) -> None:
    told = f"^a public key is one line, name.id.base64, as `privemo audit key` .*{why}"
    with pytest.raises(MalformedError, match=told):
        VerifyingKey.parse(text)


def test_signatures_hold_for_their_message_alone() -> None:
    key, other = SigningKey.generate("log"), SigningKey.generate("log")
    signature = key.sign(b"message")
    key.verifying.verify(signature, b"message")
    for verifier, claimed, message in (
        (key.verifying, signature, b"Message"),
        (other.verifying, signature, b"message"),
        (key.verifying, signature[:-1], b"message"),
        (key.verifying, bytes(64), b"message"),
        (key.verifying, signature.hex(), b"message"),
    ):
        with pytest.raises(SignatureError, match="log"):
            verifier.verify(claimed, message)  # type: ignore[arg-type]


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_key_survives_its_file(tmp_path: Path, passphrase: bytes | None) -> None:
    key, path = SigningKey.generate("log"), tmp_path / "log.pem"
    key.save(path, passphrase=passphrase)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey.load("log", path, passphrase=passphrase).verifying == key.verifying
    with pytest.raises(KeyFileError, match="never overwritten"):
        key.save(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_key_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "log.pem"
    SigningKey.generate("log").save(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        SigningKey.load("log", path)


def secrets(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    return [line for line in lines if not line.startswith(("-", "name: "))]


@pytest.mark.parametrize("wrong", [None, b"", b"wrong horse"])
def test_nothing_secret_is_told_when_the_passphrase_is_wrong(
    tmp_path: Path, wrong: bytes | None
) -> None:
    path = tmp_path / "log.pem"
    SigningKey.generate("log").save(path, passphrase=b"correct horse")
    with pytest.raises(KeyFileError) as caught:
        SigningKey.load("log", path, passphrase=wrong)
    told = "".join(traceback.format_exception(caught.value))
    assert not [line for line in [*secrets(path), "wrong horse"] if line in told]


def test_an_empty_passphrase_is_none(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="protects nothing"):
        SigningKey.generate("log").save(tmp_path / "k", passphrase=b"")
    assert not (tmp_path / "k").exists()


def test_files_that_hold_no_key(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    with pytest.raises(KeyFileError, match="cannot be read"):
        SigningKey.load("log", path)
    with pytest.raises(KeyFileError, match="cannot be written"):
        SigningKey.generate("log").save(tmp_path / "no" / "k")
    rsa = generate_private_key(65537, 2048)
    for body in (
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ):
        path.write_bytes(body)
        path.chmod(0o600)
        with pytest.raises(KeyFileError, match=r"no key|another kind"):
            SigningKey.load("log", path)


def test_a_key_signs_under_the_name_that_its_file_says(tmp_path: Path) -> None:
    key, path = SigningKey.generate("anna"), tmp_path / "anna.key"
    key.save(path)
    assert SigningKey.load(None, path).verifying == key.verifying
    with pytest.raises(KeyFileError, match="is the key of anna, not of bert"):
        SigningKey.load("bert", path)
    bare = path.read_bytes().partition(b"\n")[2]
    assert bare.startswith(b"-----BEGIN PRIVATE KEY-----")
    path.write_bytes(bare)  # of another program
    with pytest.raises(KeyFileError, match="give its name"):
        SigningKey.load(None, path)
    assert SigningKey.load("anna", path).verifying == key.verifying


def test_a_signing_key_shows_nothing_and_does_not_travel(tmp_path: Path) -> None:
    key = SigningKey.generate("log")
    key.save(tmp_path / "k")
    raw = key._private.private_bytes_raw()
    for shown in (repr(key), str(key), f"{key!r}", repr(vars(SigningKey))):
        assert raw.hex() not in shown
        assert not [line for line in secrets(tmp_path / "k") if line in shown]
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor sent"):
            act(key)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "\u2003x", None])
def test_names_that_would_break_a_note_are_refused(name: Any) -> None:
    with pytest.raises(MalformedError, match="name"):
        SigningKey.generate(name)


def names(ring: KeyRing, at: datetime) -> list[bytes]:
    return [key.key_id for key in ring.valid(at)]


def test_rotation_overlaps_and_ends() -> None:
    old, new = (SigningKey.generate("log").verifying for _ in range(2))
    ring = KeyRing([KeyPeriod(key=old, begins=NOW)])
    day = timedelta(days=1)
    rotated = ring.rotate(new, at=NOW + 10 * day, overlap=2 * day)
    assert names(rotated, NOW - day) == []
    assert names(rotated, NOW + 9 * day) == [old.key_id]
    assert names(rotated, NOW + 11 * day) == [old.key_id, new.key_id]
    assert names(rotated, NOW + 12 * day) == [new.key_id]
    assert names(ring, NOW + 12 * day) == [old.key_id], "a ring is a value"
    with pytest.raises(MalformedError, match="twice"):
        rotated.rotate(old, at=NOW + 20 * day, overlap=day)
    with pytest.raises(MalformedError, match="negative"):
        rotated.rotate(SigningKey.generate("log").verifying, at=NOW, overlap=-day)


def test_a_later_rotation_does_not_lengthen_an_old_key() -> None:
    keys = [SigningKey.generate("log").verifying for _ in range(3)]
    day = timedelta(days=1)
    ring = KeyRing([KeyPeriod(key=keys[0], begins=NOW)])
    ring = ring.rotate(keys[1], at=NOW + day, overlap=day)
    ring = ring.rotate(keys[2], at=NOW + 2 * day, overlap=30 * day)
    assert names(ring, NOW + 3 * day) == [keys[1].key_id, keys[2].key_id]


def test_a_revoked_key_counts_for_no_moment() -> None:
    old, new = (SigningKey.generate("log").verifying for _ in range(2))
    ring = KeyRing([KeyPeriod(key=old, begins=NOW)])
    ring = ring.rotate(new, at=NOW + timedelta(days=1), overlap=timedelta(days=9))
    revoked = ring.revoke(old, at=NOW + timedelta(days=5))
    for days in (0, 1, 4, 6):  # a thief dates back
        assert old.key_id not in names(revoked, NOW + timedelta(days=days))
    with pytest.raises(MalformedError, match="not in the ring"):
        revoked.revoke(SigningKey.generate("log").verifying, at=NOW)
