"""Whoever wants a receipt to say something else: each is refused, and told why.

Rows under *with the registry's key* are signed as the registry signs: what a registry that lies, or
whoever stole its key, can try. The rest is what anybody with a receipt can try.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import traceback
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from privemo_consent import MalformedError, ProofError, SignatureError
from privemo_consent.checkpoint import Checkpoint, sign_checkpoint
from privemo_consent.keys import SigningKey, VerifyingKey
from privemo_consent.leaves import notice_leaf
from privemo_consent.note import sign_note
from privemo_consent.qr import DICTIONARY, PREFIX, _to_base45, from_qr_text, qr_text
from privemo_consent.receipts import verify_receipt
from privemo_consent.receipttoken import MAX_TOKEN_BYTES
from tests.unit.consent.test_receipts import NOTICE, Shop, leaf

SHOP = Shop()
SIMULATED = Shop(simulated=True, origin="simulated.example/log")
OTHER = Shop(origin="other.example/log", person="q-1")
THIEF = SigningKey.generate(SHOP.origin)
TOKEN = SHOP.issue()
KEYS = [SHOP.key.verifying]
KID = f"{SHOP.origin}+{SHOP.key.key_id.hex()}"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def raw(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def parts(token: str = TOKEN) -> tuple[dict[str, Any], dict[str, Any]]:
    header, payload, _ = token.split(".")
    return json.loads(raw(header)), json.loads(raw(payload))


Sign = Callable[[bytes], bytes]


def forge(header: object, payload: object, sign: Sign = SHOP.key.sign) -> str:
    """A token of the given parts; bytes stand as they are."""
    both = (part if isinstance(part, bytes) else encoded(part) for part in (header, payload))
    text = ".".join(map(b64, both))
    return f"{text}.{b64(sign(text.encode()))}"


def headed(sign: Sign = SHOP.key.sign, **changes: Any) -> str:
    header, payload = parts()
    return forge(header | changes, payload, sign)


def said(token: str = TOKEN, **changes: Any) -> str:
    header, payload = parts(token)
    return forge(header, payload | changes)


def inside(change: Callable[[dict[str, Any]], object]) -> str:
    header, payload = parts()
    change(payload)
    return forge(header, payload)


def refusal(token: str | bytes, keys: list[VerifyingKey] = KEYS, **more: Any) -> Exception:
    """The error, which quotes neither the person nor the key, nor does its traceback."""
    with pytest.raises((MalformedError, SignatureError, ProofError)) as caught:
        verify_receipt(token, keys, **more)
    told = "".join(traceback.format_exception(caught.value))
    for secret in (SHOP.person, "p-000042", SHOP.subject_key.hex()):
        assert secret not in told
    return caught.value


def check(token: str | bytes, error: type[Exception], reason: str, **more: Any) -> None:
    found = refusal(token, **more)
    assert type(found) is error, found
    assert reason in str(found)


def test_what_is_forged_below_would_hold_without_the_forgery() -> None:
    header, payload = parts()
    assert forge(header, payload) == TOKEN
    verify_receipt(headed(), KEYS)
    verify_receipt(said(), KEYS, origin=SHOP.origin)


# -- with a receipt and no key ---------------------------------------------------------------------


def hs256(secret: bytes) -> str:
    """The classic: HMAC under the public key, which everybody has."""
    return headed(lambda text: hmac.digest(secret, text, "sha256"), alg="HS256")


PUBLIC = Ed25519PublicKey.from_public_bytes(SHOP.key.verifying.public)
PEM = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
JWK = {"kty": "OKP", "crv": "Ed25519", "x": b64(THIEF.verifying.public)}
NAMED = {"kid": f"{THIEF.name}+{THIEF.key_id.hex()}"}
HEAD, PAYLOAD, SIGNATURE = TOKEN.split(".")
#: the last character of 64 bytes has four bits that say nothing: the same bytes, spelled otherwise
RESPELLED = TOKEN[:-1] + chr(ord(TOKEN[-1]) + 1)


@pytest.mark.parametrize(
    ("token", "error", "reason"),
    [
        pytest.param(
            ".".join((b64(encoded(parts()[0] | {"alg": "none"})), PAYLOAD, "")),
            SignatureError,
            "got algorithm 'none'",
            id="no algorithm, no signature",
        ),
        pytest.param(headed(alg="None"), SignatureError, "algorithm 'None'", id="None"),
        pytest.param(f"{HEAD}.{PAYLOAD}.", SignatureError, "bad signature", id="no signature"),
        pytest.param(
            hs256(SHOP.key.verifying.public), SignatureError, "'HS256'", id="HS256, raw key"
        ),
        pytest.param(hs256(PEM), SignatureError, "'HS256'", id="HS256, PEM"),
        pytest.param(hs256(encoded(JWK)), SignatureError, "'HS256'", id="HS256, JWK"),
        pytest.param(headed(alg="Ed448"), SignatureError, "'Ed448'", id="another curve"),
        pytest.param(headed(alg=["EdDSA"]), SignatureError, "algorithm ['EdDSA']", id="a list"),
        pytest.param(headed(THIEF.sign), SignatureError, "bad signature", id="other key, same kid"),
        pytest.param(headed(THIEF.sign, **NAMED), SignatureError, "no key that is known", id="kid"),
        pytest.param(headed(kid=None), SignatureError, "no key that is known", id="kid null"),
        pytest.param(headed(THIEF.sign, jwk=JWK), MalformedError, "got 'jwk'", id="jwk"),
        pytest.param(headed(jwk=JWK), MalformedError, "got 'jwk'", id="jwk under the right key"),
        pytest.param(headed(jku="https://x.example"), MalformedError, "got 'jku'", id="jku"),
        pytest.param(headed(x5u="https://x.example"), MalformedError, "got 'x5u'", id="x5u"),
        pytest.param(headed(x5c=["MII"]), MalformedError, "got 'x5c'", id="x5c"),
        pytest.param(headed(crit=["exp"], exp=1), MalformedError, "got 'crit'", id="crit"),
        pytest.param(headed(b64=False), MalformedError, "got 'b64'", id="b64"),
        pytest.param(headed(typ="JWT"), MalformedError, "got type 'JWT'", id="another type"),
        pytest.param(
            forge(b'{"alg":"none",' + raw(HEAD)[1:], parts()[1]),
            MalformedError,
            "header: a field stands twice",
            id="alg twice",
        ),
        pytest.param(forge(b"[1]", {}), MalformedError, "not a JSON object", id="header a list"),
        pytest.param(forge(b"\xff", {}), MalformedError, "header: not JSON", id="header not UTF-8"),
        pytest.param(forge(b"[" * 500, {}), MalformedError, "header: not JSON", id="header deep"),
        pytest.param(forge(b" " * 513, {}), MalformedError, "513 bytes, want at most", id="header"),
        pytest.param("", MalformedError, "got 1 parts", id="nothing"),
        pytest.param(TOKEN + ".", MalformedError, "got 4 parts", id="four parts"),
        pytest.param(HEAD + "." + PAYLOAD, MalformedError, "got 2 parts", id="two parts"),
        pytest.param(TOKEN + "\n", MalformedError, "the signature is not base64url", id="newline"),
        pytest.param(TOKEN + "==", MalformedError, "the signature is not base64url", id="padding"),
        pytest.param(RESPELLED, MalformedError, "the signature is not base64url", id="respelled"),
        pytest.param(
            TOKEN.replace(".", "\uff0e"), MalformedError, "got 1 parts", id="a dot that is none"
        ),
        pytest.param(b"\xff" + TOKEN.encode(), MalformedError, "the header is not", id="no ASCII"),
        pytest.param(TOKEN.encode("utf-16"), MalformedError, "the header is not", id="UTF-16"),
        pytest.param(
            "A" * (MAX_TOKEN_BYTES + 1), MalformedError, "want at most 65536", id="oversized"
        ),
        pytest.param(
            TOKEN + "A" * MAX_TOKEN_BYTES, MalformedError, "want at most 65536", id="padded out"
        ),
        pytest.param(
            forge(parts()[0], parts(OTHER.issue())[1], OTHER.key.sign),
            SignatureError,
            "bad signature",
            id="receipt of another registry under this kid",
        ),
        pytest.param(
            OTHER.issue(), SignatureError, "no key that is known", id="receipt of another registry"
        ),
        pytest.param(
            f"{HEAD}.{PAYLOAD}.{SHOP.issue().split('.')[2]}",
            SignatureError,
            "bad signature",
            id="signature of another receipt",
        ),
    ],
)
def test_nobody_makes_a_receipt_without_the_key(
    token: str | bytes, error: type[Exception], reason: str
) -> None:
    check(token, error, reason)


def test_every_byte_is_signed() -> None:
    for at in range(len(TOKEN)):
        other = "B" if TOKEN[at] != "B" else "C"
        refusal(TOKEN[:at] + other + TOKEN[at + 1 :])


def test_every_bit_of_what_it_says_is_signed() -> None:
    payload = raw(PAYLOAD)
    for at in range(0, 8 * len(payload), 13):
        flipped = bytearray(payload)
        flipped[at // 8] ^= 1 << at % 8
        check(f"{HEAD}.{b64(bytes(flipped))}.{SIGNATURE}", SignatureError, "bad signature")


def test_no_part_of_a_receipt_is_one() -> None:
    for size in range(len(TOKEN)):
        refusal(TOKEN[:size])


@pytest.mark.parametrize("token", [None, 7, ["a"], bytearray(b"a.b.c")])
def test_what_is_no_text_is_no_receipt(token: Any) -> None:
    check(token, MalformedError, "want a receipt as text")


# -- what the verifier trusts ----------------------------------------------------------------------


def test_without_a_key_nothing_is_believed() -> None:
    check(TOKEN, SignatureError, "no key that is known", keys=[])
    check(TOKEN, SignatureError, "no key that is known", keys=[THIEF.verifying])


def test_a_receipt_of_another_registry_one_also_trusts_is_refused_where_one_is_asked_for() -> None:
    both = [OTHER.key.verifying, *KEYS]
    assert verify_receipt(OTHER.issue(), both).person == OTHER.person
    check(OTHER.issue(), MalformedError, "want 'shop.example/log'", keys=both, origin=SHOP.origin)
    check(TOKEN, MalformedError, "want 'x'", origin="x")


def test_two_keys_of_one_kid_are_told_and_not_tried() -> None:
    # A key id has 32 bits, so that among 2**17 keys of one name two are likely to share theirs.
    ids: dict[bytes, VerifyingKey] = {}
    while True:
        key = VerifyingKey(SHOP.origin, secrets.token_bytes(32))
        other = ids.setdefault(key.key_id, key)
        if other != key:
            break
    kid = f"{key.name}+{key.key_id.hex()}"
    check(headed(kid=kid), MalformedError, "two known keys are called", keys=[key, other])
    assert verify_receipt(TOKEN, [*KEYS, *KEYS, key])  # the same key twice is one key


# -- with the registry's key -----------------------------------------------------------------------


def of_another_person(payload: dict[str, Any]) -> None:
    """The neighbour's leaf with its true proof: it is in the log, and it is someone else's."""
    seq = SHOP.first - 1
    proof = [value.hex() for value in SHOP.log.proof(seq)]
    told = {"seq": seq, "leaf": SHOP.log.leaves[seq].decode(), "path": list(range(len(proof)))}
    payload.update(entries=[told], proof=proof)


def never_logged(payload: dict[str, Any]) -> None:
    """A consent of this person that the log has not: the subject tag holds, the proof does not."""
    payload["entries"][0]["leaf"] = leaf(SHOP.person, SHOP.subject_key).decode()


def swapped_proofs(payload: dict[str, Any]) -> None:
    first, second = payload["entries"][:2]
    first["path"], second["path"] = second["path"], first["path"]


def swapped_leaves(payload: dict[str, Any]) -> None:
    first, second = payload["entries"][:2]
    first["leaf"], second["leaf"] = second["leaf"], first["leaf"]


def longer_term(payload: dict[str, Any]) -> None:
    entry = payload["entries"][0]
    entry["leaf"] = entry["leaf"].replace('"expires":"2026', '"expires":"2036')


def spaced_leaf(payload: dict[str, Any]) -> None:
    entry = payload["entries"][0]
    entry["leaf"] = entry["leaf"].replace(",", ", ")


def other_leaf(body: bytes) -> Callable[[dict[str, Any]], object]:
    return lambda payload: payload["entries"][0].update(leaf=body.decode())


def real_consent_simulated(payload: dict[str, Any]) -> None:
    payload["registry"]["simulated"] = True


def head(**changes: Any) -> Checkpoint:
    true = SHOP.log.head(SHOP.origin)
    fields = {"origin": true.origin, "size": true.size, "root": true.root} | changes
    return Checkpoint(**fields)


def signed(found: Checkpoint, *keys: SigningKey) -> str:
    return sign_checkpoint(found, *(keys or (SHOP.key,)), previous=None, proof=[])


NOTICE_LEAF = notice_leaf(
    notice=NOTICE.hash, notice_id="faces", version=1, recorded=0, simulated=False
)
SIMULATED_LEAF = leaf(SHOP.person, SHOP.subject_key, simulated=True)
NO_TIME = leaf(SHOP.person, SHOP.subject_key, at="2026-13-41T09:00:00.000000Z")
DOUBLED = raw(PAYLOAD)[:-1] + b',"subject_key":' + encoded("00" * 32) + b"}"


@pytest.mark.parametrize(
    ("token", "error", "reason"),
    [
        # whose consent it is
        pytest.param(
            inside(of_another_person),
            ProofError,
            "entry 700000: the leaf is not of this receipt's person",
            id="leaf of another person",
        ),
        pytest.param(
            said(person="someone else"), ProofError, "not of this receipt's", id="another person"
        ),
        pytest.param(
            said(subject_key=secrets.token_hex(32)), ProofError, "not of this receipt's", id="key"
        ),
        pytest.param(said(subject_key="00"), MalformedError, "subject_key: ", id="short key"),
        pytest.param(said(subject_key="AB" * 32), MalformedError, "subject_key: ", id="upper case"),
        # whether it is in the log
        pytest.param(inside(never_logged), ProofError, "entry 700001: inclusion", id="not logged"),
        pytest.param(inside(longer_term), ProofError, "entry 700001: inclusion", id="longer term"),
        pytest.param(inside(swapped_proofs), ProofError, "inclusion of leaf", id="proof swapped"),
        pytest.param(inside(swapped_leaves), ProofError, "inclusion of leaf", id="leaves swapped"),
        pytest.param(
            inside(lambda p: p["proof"].reverse()), ProofError, "inclusion of leaf", id="reversed"
        ),
        pytest.param(
            inside(lambda p: p["entries"][0]["path"].pop()), ProofError, "want 20", id="short proof"
        ),
        pytest.param(
            inside(lambda p: p["entries"][0]["path"].append(0)), ProofError, "want 20", id="long"
        ),
        pytest.param(
            inside(lambda p: p["entries"][0].update(seq=700_009)), ProofError, "inclusion", id="seq"
        ),
        pytest.param(
            inside(lambda p: p["entries"][0].update(seq=1_000_000)),
            MalformedError,
            "want 0 <= index < size",
            id="past the end",
        ),
        pytest.param(
            inside(lambda p: p["entries"][0]["path"].__setitem__(0, 99)),
            MalformedError,
            "its path leads out",
            id="path out of range",
        ),
        pytest.param(
            inside(lambda p: p["entries"][0]["path"].__setitem__(0, -1)),
            MalformedError,
            "its path leads out",
            id="path from the end",
        ),
        # the checkpoint
        pytest.param(
            said(checkpoint=OTHER.checkpoint),
            SignatureError,
            "no key that is known has signed",
            id="checkpoint of another log",
        ),
        pytest.param(
            said(checkpoint=signed(head(origin=OTHER.origin))),
            MalformedError,
            "got a checkpoint of 'other.example/log'",
            id="checkpoint of another log by this key",
        ),
        pytest.param(
            said(checkpoint=signed(head(size=2_000_000))), ProofError, "want 21", id="another size"
        ),
        pytest.param(
            said(checkpoint=signed(head(size=700_000))), MalformedError, "want 0 <=", id="too small"
        ),
        pytest.param(
            said(checkpoint=signed(head(root=bytes(32)))), ProofError, "inclusion", id="other root"
        ),
        pytest.param(
            said(checkpoint=SHOP.checkpoint.replace("\n1000000\n", "\n1000001\n")),
            SignatureError,
            "bad signature",
            id="size altered",
        ),
        pytest.param(
            said(checkpoint=head().text), MalformedError, "a note has a text", id="unsigned"
        ),
        pytest.param(
            said(checkpoint=head().text + "\n"), MalformedError, "a note has", id="no signature"
        ),
        pytest.param(
            said(checkpoint=signed(head(), THIEF)), SignatureError, "no key that", id="thief's"
        ),
        pytest.param(
            said(checkpoint=sign_note("agreed\n", SHOP.key)),
            MalformedError,
            "a checkpoint has lines",
            id="a note that is no checkpoint",
        ),
        # which registry
        pytest.param(
            inside(lambda p: p["registry"].update(origin=OTHER.origin)),
            MalformedError,
            "got a checkpoint of 'shop.example/log'",
            id="origin altered",
        ),
        pytest.param(
            inside(lambda p: p["registry"].pop("simulated")),
            MalformedError,
            "registry.simulated: Field required",
            id="simulated flag removed",
        ),
        pytest.param(
            inside(real_consent_simulated), MalformedError, "simulated=False", id="flag turned"
        ),
        pytest.param(
            inside(other_leaf(SIMULATED_LEAF)),
            MalformedError,
            "simulated=True",
            id="simulated leaf",
        ),
        # what was shown
        pytest.param(
            inside(lambda p: p["notice"].update(hash="00" * 32)),
            MalformedError,
            "consents to another notice",
            id="another notice",
        ),
        # what a leaf is
        pytest.param(
            inside(other_leaf(NOTICE_LEAF)), MalformedError, "a notice leaf, want", id="notice leaf"
        ),
        pytest.param(inside(spaced_leaf), MalformedError, "canonical", id="leaf not canonical"),
        pytest.param(inside(other_leaf(b"{}")), MalformedError, "schema None", id="empty leaf"),
        pytest.param(inside(other_leaf(NO_TIME)), MalformedError, "want a time", id="no time"),
        # the form
        pytest.param(
            forge(parts()[0], DOUBLED), MalformedError, "duplicate key", id="duplicate JSON keys"
        ),
        pytest.param(
            forge(parts()[0], raw(PAYLOAD) + b" "), MalformedError, "not in canonical", id="spaces"
        ),
        pytest.param(forge(parts()[0], b""), MalformedError, "not a JSON object", id="no payload"),
        pytest.param(forge(parts()[0], b"[]"), MalformedError, "want an object", id="a list"),
        pytest.param(
            forge(parts()[0], b'{"a":' * 2000), MalformedError, "not a JSON object", id="deep"
        ),
        pytest.param(said(exp=1), MalformedError, "exp: Extra inputs", id="unknown field"),
        pytest.param(
            inside(lambda p: p["entries"][0].update(note="x")),
            MalformedError,
            "entries.0.note: Extra inputs",
            id="unknown field in an entry",
        ),
        pytest.param(
            inside(lambda p: p["registry"].update(mode="x")),
            MalformedError,
            "registry.mode: Extra inputs",
            id="unknown field in the registry",
        ),
        pytest.param(
            inside(lambda p: p["controller"].update(vat="x")),
            MalformedError,
            "controller.vat: Extra inputs",
            id="unknown field in the controller",
        ),
        pytest.param(
            said(schema_version="privemo.receipt/2"), MalformedError, "schema_version", id="version"
        ),
        pytest.param(said(receipt_id="1"), MalformedError, "receipt_id", id="no id"),
        pytest.param(said(person=7), MalformedError, "person: ", id="a number for a person"),
        pytest.param(
            said(issued_at="2026-03-01T09:00:01Z"), MalformedError, "not written as", id="time"
        ),
        pytest.param(
            said(issued_at="2026-03-01T09:00:01.000000"), MalformedError, "timezone", id="no zone"
        ),
        pytest.param(said(entries=[]), MalformedError, "entries: ", id="no entry"),
        pytest.param(
            inside(lambda p: p["entries"].extend(p["entries"] * 11)),
            MalformedError,
            "entries: ",
            id="too many entries",
        ),
        pytest.param(
            inside(lambda p: p["entries"].append(p["entries"][2])),
            MalformedError,
            "stand twice or out of order",
            id="an entry twice",
        ),
        pytest.param(
            inside(lambda p: p["entries"].reverse()), MalformedError, "out of order", id="order"
        ),
        pytest.param(
            inside(lambda p: p["proof"].append("00" * 32)),
            MalformedError,
            "a hash that no entry uses",
            id="a hash too many",
        ),
    ],
)
def test_a_registry_that_lies_contradicts_itself(
    token: str, error: type[Exception], reason: str
) -> None:
    check(token, error, reason)


def test_the_key_of_another_registry_signs_for_its_own_alone() -> None:
    """Both keys are trusted; neither vouches for the other's log."""
    keys = [SHOP.key.verifying, OTHER.key.verifying]
    header, _ = parts(OTHER.issue())
    hijacked = forge(header, parts()[1], OTHER.key.sign)
    check(hijacked, MalformedError, "for another registry, 'shop.example/log'", keys=keys)
    # and a head of this log that only the other key has signed is no head of it
    lent = said(checkpoint=signed(head(), OTHER.key))
    check(lent, SignatureError, "not signed by the log 'shop.example/log' itself", keys=keys)


def test_a_bad_signature_of_the_log_is_not_made_good_by_a_witness() -> None:
    witness = SigningKey.generate("witness.example")
    note = signed(head(), SHOP.key, witness).replace("\n1000000\n", "\n999999\n")
    check(said(checkpoint=note), SignatureError, "bad sig", keys=[*KEYS, witness.verifying])


def test_simulated_consent_does_not_pass_as_real() -> None:
    token = SIMULATED.issue()
    keys = [SIMULATED.key.verifying]
    header, payload = parts(token)
    payload["registry"]["simulated"] = False
    check(forge(header, payload), SignatureError, "bad signature", keys=keys)
    turned = forge(header, payload, SIMULATED.key.sign)
    check(turned, MalformedError, "simulated=True", keys=keys)


# -- the QR code -----------------------------------------------------------------------------------


def packed(data: bytes, dictionary: bytes = DICTIONARY) -> bytes:
    packer = zlib.compressobj(level=9, zdict=dictionary)
    return packer.compress(data) + packer.flush()


CODE = qr_text(TOKEN)
STREAM = packed(b"\n".join(raw(part) for part in TOKEN.split(".")))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "want PRIVEMO1:", id="nothing"),
        pytest.param(None, "want PRIVEMO1:", id="no text"),
        pytest.param("https://example.org/", "want PRIVEMO1:", id="another code"),
        pytest.param(CODE.replace("O1:", "O2:"), "want PRIVEMO1:", id="another version"),
        pytest.param(CODE + "0" * 4296, "at most 4296", id="too long"),
        pytest.param(CODE.lower(), "want PRIVEMO1:", id="lower case"),
        pytest.param(PREFIX + CODE[9:].replace("A", "a"), "no base45", id="lower case inside"),
        pytest.param(PREFIX + ":::" + CODE[12:], "no base45", id="base45 too large"),
        pytest.param(PREFIX + "::", "no base45", id="base45 tail too large"),
        pytest.param(PREFIX + "BB81", "no base45", id="base45 of one character"),
        pytest.param(PREFIX + "\u0661\u0661\u0661", "no base45", id="other digits"),
        pytest.param(PREFIX, "torn", id="empty"),
        pytest.param(PREFIX + "BB8", "no zlib stream", id="not packed"),
        pytest.param(PREFIX + _to_base45(STREAM[:-20]), "torn", id="torn"),
        pytest.param(PREFIX + _to_base45(STREAM + b"x"), "torn", id="something after it"),
        pytest.param(
            PREFIX + _to_base45(packed(raw(PAYLOAD), b"abc")), "no zlib stream", id="dictionary"
        ),
        pytest.param(
            PREFIX + _to_base45(packed(bytes(2_000_000))), "over 65536 bytes", id="zip bomb"
        ),
        pytest.param(PREFIX + _to_base45(packed(b"a\nb\nc")), "want header", id="short"),
        pytest.param(
            PREFIX + _to_base45(packed(b"\n\n" + bytes(64))), "want header", id="empty parts"
        ),
        pytest.param(PREFIX + _to_base45(packed(b"a" * 200)), "want header", id="one part"),
    ],
)
def test_what_is_no_code_is_not_unpacked(text: Any, reason: str) -> None:
    with pytest.raises(MalformedError) as caught:
        from_qr_text(text)
    assert reason in str(caught.value)


def test_a_bomb_costs_no_more_memory_than_a_receipt() -> None:
    import tracemalloc

    bomb = PREFIX + _to_base45(packed(bytes(2_000_000)))
    assert len(bomb) < 4296
    tracemalloc.start()
    with pytest.raises(MalformedError):
        from_qr_text(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * MAX_TOKEN_BYTES


def test_a_code_that_was_changed_verifies_nowhere() -> None:
    for at in range(len(PREFIX), len(CODE), 7):
        text = CODE[:at] + ("0" if CODE[at] != "0" else "1") + CODE[at + 1 :]
        try:
            token = from_qr_text(text)
        except MalformedError:
            continue
        if token != TOKEN:  # a spare bit of the stream may change without a meaning
            refusal(token)


def test_what_is_no_receipt_makes_no_code() -> None:
    for token in ("", "a.b", f"{HEAD}.{PAYLOAD}.", TOKEN[:-4], TOKEN + "\n"):
        with pytest.raises(MalformedError):
            qr_text(token)
