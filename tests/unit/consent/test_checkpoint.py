"""Signed notes and checkpoints: the published format, and every way to cheat with one."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from privemo_consent import (
    ConsentRegistry,
    MalformedError,
    ProofError,
    Purpose,
    SignatureError,
    merkle,
)
from privemo_consent.checkpoint import (
    Checkpoint,
    check_extends,
    open_checkpoint,
    sign_checkpoint,
    uses_origin,
)
from privemo_consent.keys import SigningKey, VerifyingKey
from privemo_consent.note import open_note, sign_note

PETER = VerifyingKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
# The example of the documentation of golang.org/x/mod/sumdb/note.
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
SIGNATURE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngot"
    "pRZb6KE6RyyBwJnAM=\n"
)
PUBLISHED = f"{TEXT}\n{SIGNATURE}"
LOG = SigningKey.generate("shop.example/log")


def test_a_published_note_opens() -> None:
    note = open_note(PUBLISHED, [PETER])
    assert (note.text, note.verified) == (TEXT, ("PeterNeumann",))
    assert open_note(PUBLISHED.encode(), [PETER]) == note
    assert str(note.signatures[0]) == SIGNATURE


def test_what_is_signed_opens_with_every_signature_kept() -> None:
    witness = SigningKey.generate("witness.example")
    signed = sign_note("text\n\nwith a gap\n", LOG, witness)
    note = open_note(signed, [LOG.verifying])
    assert note.text == "text\n\nwith a gap\n"
    assert note.verified == (LOG.name,)
    assert [line.name for line in note.signatures] == [LOG.name, witness.name]


def forged(key: SigningKey) -> str:
    """A line in the name and id of ``key`` with another key's signature."""
    wrong = SigningKey.generate("x").sign(b"x\n")
    return f"\u2014 {key.name} {base64.b64encode(key.key_id + wrong).decode()}\n"


def test_an_unknown_key_is_ignored_and_a_bad_signature_of_a_known_one_is_not() -> None:
    # REQUIREMENTS 31; C2SP signed-note
    stranger = SigningKey.generate("stranger")
    signed = sign_note("x\n", LOG)
    assert open_note(signed + forged(stranger), [LOG.verifying]).verified == (LOG.name,)
    with pytest.raises(SignatureError, match="bad signature"):
        open_note(signed + forged(LOG), [LOG.verifying])
    with pytest.raises(SignatureError, match="no key that is known"):
        open_note(signed, [stranger.verifying])
    with pytest.raises(SignatureError, match="no key that is known"):
        open_note(signed, [])


def test_a_key_of_the_same_name_is_another_key() -> None:
    with pytest.raises(SignatureError, match="no key that is known"):
        open_note(sign_note("x\n", LOG), [SigningKey.generate(LOG.name).verifying])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        TEXT,
        TEXT + SIGNATURE,
        f"{TEXT}\n",
        PUBLISHED[:-1],
        f"\n{SIGNATURE}",
        PUBLISHED.replace("\u2014", "-"),
        PUBLISHED.replace("\u2014 ", "\u2014"),
        PUBLISHED.replace("x08go", "x08g!"),
        PUBLISHED.replace("AM=\n", "AN=\n"),
        PUBLISHED.replace("AM=\n", "AM\n"),
        PUBLISHED.replace("PeterNeumann ", "Peter+Neumann "),
        PUBLISHED.replace("your", "yo\tur"),
        PUBLISHED + "\n",
        PUBLISHED + SIGNATURE * 100,
        b"\xff" + PUBLISHED.encode(),
        f"{TEXT}\n\u2014 PeterNeumann AAAA\n",
    ],
)
def test_what_is_no_note_is_refused(note: Any) -> None:
    with pytest.raises((MalformedError, SignatureError)):
        open_note(note, [PETER])


@pytest.mark.parametrize("text", ["", "no newline", "a\rb\n", "a\0b\n", "x" * 1_000_001 + "\n"])
def test_what_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(MalformedError):
        sign_note(text, LOG)
    with pytest.raises(MalformedError, match="give a key"):
        sign_note("text\n")


# -- checkpoints -----------------------------------------------------------------------------------

HASHES = [merkle.leaf_hash(bytes([i])) for i in range(9)]


def head(size: int, hashes: list[bytes] = HASHES, origin: str = "shop.example/log") -> Checkpoint:
    return Checkpoint(origin, size, merkle.root(hashes[:size]))


def test_a_checkpoint_has_the_published_form() -> None:
    assert head(0).text == ("shop.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
    extended = Checkpoint("o", 1, HASHES[0], ("one more line",))
    assert Checkpoint.parse(extended.text) == extended


def test_a_signed_checkpoint_opens_for_its_log_alone() -> None:
    signed = sign_checkpoint(head(9), LOG, previous=None, proof=[])
    found, note = open_checkpoint(signed, [LOG.verifying], origin="shop.example/log")
    assert found == head(9)
    assert note.verified == (LOG.name,)
    with pytest.raises(MalformedError, match="want 'other'"):
        open_checkpoint(signed, [LOG.verifying], origin="other")
    with pytest.raises(SignatureError):
        open_checkpoint(signed.replace("\n9\n", "\n8\n"), [LOG.verifying], origin=LOG.name)


ROOT = base64.b64encode(HASHES[0]).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n1\n",
        f"o\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"o\n01\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n1 \n{ROOT}\n",
        f"o\n\u0661\n{ROOT}\n",
        f"o\n{2**63}\n{ROOT}\n",
        f"o\n{10**30}\n{ROOT}\n",
        f"o\n1\n{ROOT[:-4]}\n",
        f"o\n1\n{ROOT[:-1]}\n",
        f"o\n1\n{ROOT[:-2]}!=\n",
        f"o\n0\n{ROOT}\n",
        f"o\n1\n{ROOT}\n\n",
    ],
)
def test_a_checkpoint_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        Checkpoint.parse(text)


FORKED = [*HASHES[:3], merkle.leaf_hash(b"forged"), *HASHES[4:]]


@pytest.mark.parametrize(
    ("attack", "new", "previous", "proof"),
    [
        ("a rewritten entry", head(9, FORKED), head(5), merkle.consistency_proof(FORKED, 5)),
        ("another proof", head(9), head(5), merkle.consistency_proof(HASHES, 6)),
        ("no proof", head(9), head(5), []),
        ("a rollback", head(4), head(5), []),
        ("two roots of one size", head(5, FORKED), head(5), []),
        ("another log", head(9, origin="other"), head(5), merkle.consistency_proof(HASHES, 5)),
        ("a first with a past", head(9), None, merkle.consistency_proof(HASHES, 5)),
    ],
)
def test_an_inconsistent_head_is_never_signed(
    attack: str, new: Checkpoint, previous: Checkpoint | None, proof: list[bytes]
) -> None:
    # REQUIREMENTS 30; C2SP tlog-checkpoint
    with pytest.raises(ProofError):
        sign_checkpoint(new, LOG, previous=previous, proof=proof)


def test_a_registry_signs_its_way_forward(registry: ConsentRegistry, yes: Any) -> None:
    origin = f"privemo/{registry.registry_id}"
    previous = None
    for i in range(6):
        registry.grant(f"p{i}", [Purpose.TRAINING], **yes())
        size, root = registry.head()
        new = Checkpoint(origin, size, bytes.fromhex(root))
        proof = [] if previous is None else registry.consistency_proof(previous.size, size)
        signed = sign_checkpoint(new, LOG, previous=previous, proof=proof)
        previous, _ = open_checkpoint(signed, [LOG.verifying], origin=origin)
    assert previous == new


def test_what_extends_a_head_is_shown_by_a_proof_alone() -> None:
    check_extends(head(5), head(9), merkle.consistency_proof(HASHES, 5))
    check_extends(head(5), head(5), [])
    check_extends(head(0), head(9), [])
    for later in (head(4), head(5, FORKED), head(9, FORKED), head(9, origin="other")):
        with pytest.raises(ProofError):
            check_extends(head(5), later, merkle.consistency_proof(HASHES, 5))


def test_the_two_logs_of_a_registry_have_origins_of_their_own() -> None:
    uses = Checkpoint(uses_origin(LOG.name), 9, head(9).root)
    signed = sign_checkpoint(uses, LOG, previous=None, proof=[])
    with pytest.raises(MalformedError, match=r"want 'shop.example/log'"):
        open_checkpoint(signed, [LOG.verifying], origin=LOG.name)


# c2sp.org/tlog-checkpoint, the example: its text is as we would sign it
PUBLISHED_HEAD = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
)


def test_the_published_example_reads_and_writes_back() -> None:
    found = Checkpoint.parse(PUBLISHED_HEAD)
    assert (found.origin, found.size, found.extensions) == (
        "example.com/behind-the-sofa",
        20852163,
        (),
    )
    assert found.text == PUBLISHED_HEAD
