"""Signed notes against what other implementations published, and what no note may hold."""

from __future__ import annotations

from typing import Any

import pytest

from privemo_consent import MalformedError, SignatureError
from privemo_consent.checkpoint import Checkpoint, open_checkpoint
from privemo_consent.keys import SigningKey, VerifyingKey
from privemo_consent.note import (
    MAX_SIGNATURES,
    SignatureLine,
    add_signature,
    open_note,
    sign_note,
    split_note,
)

# golang.org/x/mod, sumdb/note/note_test.go (TestOpen)
PETER = VerifyingKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
ENOCH = VerifyingKey.parse("EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop")
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_LINE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngo"
    "tpRZb6KE6RyyBwJnAM=\n"
)
NOTE = f"{TEXT}\n{PETER_LINE}"
ENOCH_LINE = (
    "\u2014 EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLo"
    "x33WWd1RvMc+QQ=\n"
)
# c2sp.org/signed-note, the test vector
FOO = VerifyingKey.parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
FOO_NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2"
    "ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# A head of the Go checksum database, as sum.golang.org served it, and its key (cmd/go, key.go).
SUMDB = VerifyingKey.parse("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
SUMDB_NOTE = (
    "go.sum database tree\n19777102\n+g50vJoV4VVGa6aiQF3LYGUZHEP4pvGkW38vlR7WKtU=\n\n"
    "\u2014 sum.golang.org Az3griMTLHyRzj7jMuyEt85a2JnegVME6Lx3xLEBdzTd3FMDiD5y3bHV24rcl0yijOtWxV0zyy"
    "gwTdo/rnaennuoqgU=\n"
)
# c2sp.org/signed-note, the example at its head: text beyond ASCII, a key that is not published
POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\n"
    "ed \u00e8 subito sera.\n\n\u2014 quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5"
    "ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)


@pytest.mark.parametrize(
    ("note", "known", "verified", "lines"),
    [
        (FOO_NOTE, [FOO], ("example.com/foo",), 1),
        (SUMDB_NOTE, [SUMDB], ("sum.golang.org",), 1),
        (f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}", [PETER], ("PeterNeumann",), 2),
        (f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}", [PETER, ENOCH], ("PeterNeumann", "EnochRoot"), 2),
        # a key that is known twice, unlike two keys of one name and id, is one key
        (f"{TEXT}\n{ENOCH_LINE}", [ENOCH, PETER, ENOCH], ("EnochRoot",), 1),
        # duplicates of a known key count once, of an unknown one not at all; all are kept
        (f"{TEXT}\n{PETER_LINE * 2}{ENOCH_LINE * 2}", [PETER], ("PeterNeumann",), 4),
        # a broken line of a key that is not known
        (
            f"{TEXT}\n{PETER_LINE}{ENOCH_LINE[:60]}ABCD{ENOCH_LINE[60:]}",
            [PETER],
            ("PeterNeumann",),
            2,
        ),
    ],
)
def test_published_notes_open_and_write_back(
    note: str, known: list[VerifyingKey], verified: tuple[str, ...], lines: int
) -> None:
    for form in (note, note.encode()):
        opened = open_note(form, known)
        assert opened.verified == verified
        assert [key.name for key in opened.keys] == list(verified)
        assert len(opened.signatures) == lines
        assert str(opened) == note


def test_a_published_head_opens_as_a_checkpoint() -> None:
    head, _ = open_checkpoint(SUMDB_NOTE, [SUMDB], origin="go.sum database tree")
    assert (head.size, head.root.hex()[:8]) == (19777102, "fa0e74bc")
    assert Checkpoint.parse(head.text) == head


def test_a_published_note_without_a_published_key_is_read_and_not_trusted() -> None:
    text, lines = split_note(POEM)
    assert text.endswith("ed \u00e8 subito sera.\n")
    assert text.count("\n\n") == 1
    assert (lines[0].name, lines[0].key_id.hex()) == ("quasimodo.example/salvatore", "367ba04b")
    with pytest.raises(SignatureError, match=r"signed by quasimodo.example/salvatore\+367ba04b"):
        open_note(POEM, [PETER])


def clash() -> list[VerifyingKey]:
    """Two different keys that a note cannot tell apart: what an attacker would search for."""

    class Clashing(VerifyingKey):
        @property
        def key_id(self) -> bytes:
            return PETER.key_id

    return [PETER, Clashing(PETER.name, FOO.public)]


@pytest.mark.parametrize(
    ("attack", "note", "known", "error"),
    [
        ("the text", f"{TEXT.replace('your', 'my')}\n{PETER_LINE}", [PETER], SignatureError),
        (
            "the signature",
            f"{TEXT}\n{PETER_LINE[:60]}ABCD{PETER_LINE[60:]}",
            [PETER],
            SignatureError,
        ),
        (
            "a good line before a bad one of the same key",
            f"{TEXT}\n{PETER_LINE}{PETER_LINE[:60]}ABCD{PETER_LINE[60:]}",
            [PETER],
            SignatureError,
        ),
        ("nobody known", f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}", [], SignatureError),
        (
            "its name",
            f"{TEXT}\n{ENOCH_LINE.replace('EnochRoot', PETER.name)}",
            [PETER],
            SignatureError,
        ),
        ("two keys of one id", f"{TEXT}\n{PETER_LINE}", clash(), MalformedError),
        ("101 signatures", f"{TEXT}\n{PETER_LINE * 101}", [PETER], MalformedError),
        # the malformed ones of sumdb/note
        ("no signatures", TEXT, [PETER], MalformedError),
        ("an empty line alone", f"{TEXT}\n", [PETER], MalformedError),
        ("no last newline", f"{TEXT}\n{PETER_LINE[:-1]}", [PETER], MalformedError),
        ("a control character", f"\x01{TEXT}\n{PETER_LINE}", [PETER], MalformedError),
        ("not UTF-8", b"\xff" + f"{TEXT}\n{PETER_LINE}".encode(), [PETER], MalformedError),
        (
            "a blank in a name",
            f"{TEXT}\n{PETER_LINE.replace('Neu', ' Neu')}",
            [PETER],
            MalformedError,
        ),
        ("a line more", f"{TEXT}\n{PETER_LINE}Unexpected line.\n", [PETER], MalformedError),
        # C2SP: no Unicode spaces in a name, no control characters anywhere
        ("a wide blank", NOTE.replace("rN", "r\u2003N"), [PETER], MalformedError),
        ("a hard blank", NOTE.replace("rN", "r\u00a0N"), [PETER], MalformedError),
        ("a bell in a name", NOTE.replace("rN", "r\aN"), [PETER], MalformedError),
        ("a return", NOTE.replace("\n", "\r\n"), [PETER], MalformedError),
    ],
)
def test_what_must_not_open_does_not(
    attack: str, note: Any, known: list[VerifyingKey], error: type[Exception]
) -> None:
    # REQUIREMENTS 31; C2SP signed-note
    with pytest.raises(error):
        open_note(note, known)


def test_sixteen_signatures_of_five_kilobytes_are_accepted() -> None:
    # C2SP signed-note: "MUST accept at least up to 16 signatures", "up to nearly 5kB in size"
    log = SigningKey.generate("log")
    note = sign_note("x\n", log)
    for i in range(15):
        note = add_signature(note, SignatureLine(f"w{i}", bytes([0, 0, 0, i]), bytes(5000)))
    assert len(open_note(note, [log.verifying]).signatures) == 16


def test_a_signature_is_added_once_and_the_others_stay_byte_for_byte() -> None:
    line = SignatureLine("w", b"abcd", b"signature")
    more = add_signature(SUMDB_NOTE, line)
    assert more == SUMDB_NOTE + str(line)
    assert add_signature(more, line) == more
    assert str(open_note(more, [SUMDB])) == more
    full = sign_note("x\n", SigningKey.generate("log"))
    for i in range(MAX_SIGNATURES - 1):
        full = add_signature(full, SignatureLine(f"w{i}", b"abcd", b"s"))
    with pytest.raises(MalformedError, match="at most"):
        add_signature(full, line)


def test_a_key_says_which_of_two_of_its_name_has_signed() -> None:
    old, new = SigningKey.generate("log"), SigningKey.generate("log")
    opened = open_note(sign_note("x\n", old, new), [new.verifying])
    assert (opened.verified, opened.keys) == (("log",), (new.verifying,))
    both = open_note(sign_note("x\n", old, new), [old.verifying, new.verifying])
    assert (both.verified, both.keys) == (("log",), (old.verifying, new.verifying))
