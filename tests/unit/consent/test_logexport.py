"""Exports: written whole, read back by their files alone, and held to what a log can show."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import merkle
from privemo_consent.cosign import Cosigner
from privemo_consent.errors import (
    MalformedError,
    RegistryExistsError,
    RegistryFullError,
    SignatureError,
    TamperedError,
)
from privemo_consent.keys import SigningKey
from privemo_consent.logexport import verify_export, write_export
from privemo_consent.logexport.frontier import Frontier
from privemo_consent.times import iso
from tests.support.logs import DAY, NOTICE, SmallLog, record_id, small_log

KEY = SigningKey.generate("shop.example/log")


@pytest.fixture
def log() -> SmallLog:
    return small_log(KEY)


def fresh() -> SmallLog:
    made = SmallLog(KEY)
    made.notice()
    return made


def test_an_export_verifies_by_its_files_alone(tmp_path: Path, log: SmallLog) -> None:
    folder = log.export(tmp_path / "export")
    found = verify_export(folder, known=[key.verifying for key in log.signers])
    assert found.pinned
    assert (found.events, found.uses, found.checkpoints) == (12, 3, 10)
    assert (found.root, found.uses_root) == (log.head().root.hex(), log.head("uses").root.hex())
    assert (found.origin, found.registry_id) == (KEY.name, "r1")
    assert found.uses_signed
    assert not found.simulated
    assert found.signed_by == (KEY.name, KEY.name)
    assert not verify_export(folder).pinned


def test_an_export_is_plain_files_exactly_as_hashed(tmp_path: Path, log: SmallLog) -> None:
    folder = log.export(tmp_path / "export")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.txt",
        "checkpoint.txt",
        "checkpoints.jsonl",
        "events.hashes",
        "events.jsonl",
        "keys.txt",
        "notices",
        "uses-checkpoint.txt",
        "uses-checkpoints.jsonl",
        "uses.hashes",
        "uses.jsonl",
    ]
    assert (folder / "events.jsonl").read_bytes() == b"".join(x + b"\n" for x in log.leaves)
    assert (folder / "notices" / f"{NOTICE.hash}.json").read_bytes() == NOTICE.body
    assert (folder / "checkpoint.txt").read_text() == log.notes["events"][-1]
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert list(tmp_path.iterdir()) == [folder]


def test_a_log_of_the_first_version_names_no_key_and_verifies_too(tmp_path: Path) -> None:
    log = SmallLog(KEY)
    value = b'"key":"%s",' % str(KEY.verifying).encode()
    log.leaves[0] = log.leaves[0].replace(value, b"")
    log.notes["events"] = []
    log.notice()
    log.sign()
    found = verify_export(log.export(tmp_path / "export"), known=[KEY.verifying])
    assert (found.events, found.uses, found.uses_signed) == (2, 0, False)
    # and goes on under a key that its own entries name
    log.key_entry("begin", KEY)
    log.sign()
    assert verify_export(log.export(tmp_path / "later"), known=[KEY.verifying]).events == 3


def test_a_simulated_log_says_so(tmp_path: Path) -> None:
    log = SmallLog(KEY, mode="simulation", simulated=True)
    log.notice(simulated=True)
    log.sign()
    assert verify_export(log.export(tmp_path / "export")).simulated


def test_witnesses_are_told_when_their_keys_are_known(tmp_path: Path, log: SmallLog) -> None:
    witness = Cosigner(SigningKey.generate("witness.example"))
    log.notes["events"][-1] = witness.cosign(log.notes["events"][-1])
    folder = log.export(tmp_path / "export")
    keys = [key.verifying for key in log.signers]
    assert verify_export(folder, known=keys).witnesses == ()
    assert verify_export(folder, known=[*keys, witness.key]).witnesses == ("witness.example",)
    stated = [*(str(key) for key in keys), str(witness.key)]
    own = log.export(tmp_path / "stated", keys=stated)
    assert verify_export(own).witnesses == ("witness.example",)


def test_whoever_knows_other_keys_is_told_whose_it_is(tmp_path: Path, log: SmallLog) -> None:
    folder = log.export(tmp_path / "export")
    for known in ([], [SigningKey.generate(KEY.name).verifying]):
        with pytest.raises(SignatureError, match="none of the keys you trust"):
            verify_export(folder, known=known)
    witness = Cosigner(SigningKey.generate("witness.example"))
    log.notes["events"] = [witness.cosign(note) for note in log.notes["events"]]
    cosigned = log.export(tmp_path / "cosigned")
    with pytest.raises(SignatureError, match="none of the keys you trust"):
        verify_export(cosigned, known=[witness.key])  # a witness does not stand for the log


# -- writing -----------------------------------------------------------------------------------------


def failing() -> Any:
    yield b'{"a":1}'
    raise RuntimeError("the database went away")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"leaves": failing()}, RuntimeError),
        ({"leaves": [b'{"a":\n1}']}, MalformedError),
        ({"checkpoints": {}}, MalformedError),
        ({"checkpoints": {"uses": ["x"]}}, MalformedError),
    ],
)
def test_an_export_appears_whole_or_not_at_all(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    arguments: dict[str, Any] = {
        "leaves": [],
        "uses": [],
        "checkpoints": {"events": ["x"]},
        "notices": [],
        "keys": [],
    }
    with pytest.raises(error):
        write_export(tmp_path / "export", **(arguments | changes))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, log: SmallLog) -> None:
    folder = log.export(tmp_path / "export")
    with pytest.raises(RegistryExistsError):
        log.export(folder)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RegistryExistsError):
        log.export(tmp_path / "link")
    with pytest.raises(RegistryFullError):
        log.export(tmp_path / "no" / "such" / "place")


# -- what the entries themselves show ----------------------------------------------------------------


def backwards(log: SmallLog) -> None:
    log.now -= DAY
    log.consent("ConsentRefused")


def early_refusal(log: SmallLog) -> None:
    log.age_refusal(day=log.now - log.now % DAY - DAY)


def late_refusal(log: SmallLog) -> None:
    log.age_refusal(day=log.now - log.now % DAY + DAY)
    log.consent("ConsentRefused")


def replayed(log: SmallLog) -> None:
    again = record_id()
    log.consent("ConsentGiven", record_id=again)
    log.consent("ConsentGiven", record_id=again)


def withdrawn_twice(log: SmallLog) -> None:
    log.consent("ConsentGiven")
    log.consent("ConsentWithdrawn")
    log.consent("ConsentWithdrawn")


def renewed_after_withdrawal(log: SmallLog) -> None:
    log.consent("ConsentGiven")
    log.consent("ConsentWithdrawn")
    log.consent("RenewedConsentGiven")


def older_notice(log: SmallLog) -> None:
    log.notice()
    log.notice(version=NOTICE.version - 1)


def unknown_kind(log: SmallLog) -> None:
    log.leaves.append(b'{"kind":"gift","schema":"privemo.log/1"}')


def not_canonical(log: SmallLog) -> None:
    log.consent("ConsentGiven")
    log.leaves[-1] = log.leaves[-1].replace(b'","', b'", "', 1)


def second_genesis(log: SmallLog) -> None:
    log.leaves.append(log.leaves[0])


IMPOSSIBLE = [
    (backwards, 2, "time runs backwards"),
    (early_refusal, 2, "its day is over"),
    (late_refusal, 3, "time runs backwards"),
    (replayed, 3, "replayed"),
    (withdrawn_twice, 4, "no record for training can go to ConsentWithdrawn"),
    (renewed_after_withdrawal, 4, "no record for training can go to RenewedConsentGiven"),
    (lambda log: log.consent("ConsentWithdrawn"), 2, "no record for training"),
    (lambda log: log.consent("RenewedConsentGiven"), 2, "no record for training"),
    (lambda log: log.consent("ConsentExpired"), 2, "no record for training"),
    (lambda log: log.consent("ConsentUnknown"), 2, "ConsentUnknown"),
    (lambda log: log.consent("ConsentGiven", expires=None), 2, "a term belongs to"),
    (
        lambda log: log.consent("ConsentRefused", expires=iso(log.now + 9 * DAY)),
        2,
        "a term belongs",
    ),
    (lambda log: log.consent("ConsentGiven", expires=iso(log.now + 999 * DAY)), 2, "longer than"),
    (lambda log: log.consent("ConsentGiven", expires=iso(log.now)), 2, "empty"),
    (lambda log: log.consent("ConsentGiven", at=iso(log.now + DAY)), 2, "after it was recorded"),
    (lambda log: log.consent("ConsentGiven", recorded_at="2026-13-01T00:00:00.000000Z"), 2, "time"),
    (lambda log: log.consent("ConsentGiven", notice="ab" * 32), 2, "not yet in force"),
    (lambda log: log.consent("ConsentGiven", "marketing"), 2, "vocabulary"),
    (lambda log: log.consent("ConsentGiven", simulated=True), 2, "simulated and real"),
    (older_notice, 3, "id or version differs"),
    (lambda log: log.notice(notice="ab" * 32), 2, "is not here"),
    (lambda log: log.notice(notice_id="other"), 2, "id or version differs"),
    (lambda log: log.erasure(), 2, "more people erased"),
    (lambda log: log.exposure(notice="ab" * 32), 2, "not yet in force"),
    (lambda log: log.age_refusal(count=0), 2, "a count of 0"),
    (lambda log: log.age_refusal(count=True), 2, "a count of True"),
    (lambda log: log.key_entry("revoke", SigningKey.generate("x")), 2, "not in the ring"),
    (lambda log: log.key_entry("begin", KEY), 2, "stands twice"),
    (unknown_kind, 2, "kind"),
    (not_canonical, 2, "canonical form"),
    (second_genesis, 2, "the first entry, and no other"),
]


@pytest.mark.parametrize(("write", "seq", "told"), IMPOSSIBLE)
def test_an_entry_that_cannot_be_is_named_even_where_it_was_signed(
    tmp_path: Path, write: Callable[[SmallLog], None], seq: int, told: str
) -> None:
    log = fresh()
    log.sign()
    write(log)
    log.sign()
    with pytest.raises(TamperedError, match=told) as caught:
        verify_export(log.export(tmp_path / "export"))
    assert caught.value.entry == f"event {seq}"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"log_seq": 99}, "relies on 99 events"),
        ({"log_seq": -1}, "relies on -1 events"),
        ({"log_seq": "2"}, "not supported"),
        ({"purpose": "marketing"}, "marketing"),
        ({"simulated": True}, "simulated and real"),
        ({"at": "2030-01-01T00:00:00.000000Z"}, "used after it was recorded"),
        ({"recorded_at": "2020-01-01T00:00:00.000000Z"}, "time runs backwards"),
        ({"more": 1}, "fields"),
    ],
)
def test_a_use_that_cannot_be_is_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    log = fresh()
    log.sign()
    log.use()
    log.use(**changes)
    log.sign("uses")
    with pytest.raises(TamperedError, match=told) as caught:
        verify_export(log.export(tmp_path / "export"))
    assert caught.value.entry == "use 1"


def test_a_state_that_ends_and_begins_again_is_allowed(tmp_path: Path) -> None:
    log = fresh()
    for status in (
        *("ConsentRequested", "ConsentRefused", "ConsentGiven", "RenewedConsentGiven"),
        *("ConsentExpired", "RenewedConsentGiven", "ConsentWithdrawn", "ConsentGiven"),
        *("ConsentRevoked", "ConsentInvalidated", "ConsentRefused"),
    ):
        log.consent(status)
    log.sign()
    assert verify_export(log.export(tmp_path / "export")).events == 13


# -- keys over time ----------------------------------------------------------------------------------


def test_a_key_that_had_ended_signs_no_head(tmp_path: Path) -> None:
    log, new = fresh(), SigningKey.generate(KEY.name)
    log.key_entry("begin", new, overlap=DAY)
    log.sign()  # within the overlap the old one still counts
    assert verify_export(log.export(tmp_path / "within")).events == 3
    log.now += 2 * DAY
    log.consent("ConsentGiven")
    log.sign()
    with pytest.raises(TamperedError, match="had ended or revoked") as caught:
        verify_export(log.export(tmp_path / "after"))
    assert caught.value.entry == "checkpoint.txt"


def test_a_key_that_was_revoked_counts_for_neither_log(tmp_path: Path) -> None:
    log, new = fresh(), SigningKey.generate(KEY.name)
    log.use()
    log.sign("uses")
    log.key_entry("begin", new, overlap=DAY)
    log.sign()
    log.key_entry("revoke", KEY)
    log.signers = [new]
    log.sign()
    keys = [str(KEY.verifying), str(new.verifying)]
    with pytest.raises(TamperedError, match="had ended or revoked") as caught:
        verify_export(log.export(tmp_path / "uses", keys=keys))
    assert caught.value.entry == "uses-checkpoint.txt"
    log.use()
    log.notes["uses"] = []
    log.sign("uses")
    assert verify_export(log.export(tmp_path / "again", keys=keys)).uses == 2
    log.signers = [KEY]
    log.consent("ConsentGiven")
    log.sign()
    with pytest.raises(TamperedError, match="had ended or revoked"):
        verify_export(log.export(tmp_path / "revoked", keys=keys))


def test_a_key_that_the_log_never_began_signs_no_head(tmp_path: Path) -> None:
    log, other = fresh(), SigningKey.generate(KEY.name)
    log.signers = [other]
    log.sign()
    keys = [str(KEY.verifying), str(other.verifying)]
    with pytest.raises(TamperedError, match="had not begun"):
        verify_export(log.export(tmp_path / "export", keys=keys))


# -- the running tree --------------------------------------------------------------------------------


def test_the_running_root_is_the_root_at_every_size() -> None:
    frontier, hashes = Frontier(), [merkle.leaf_hash(bytes([i])) for i in range(140)]
    for size, value in enumerate(hashes):
        assert frontier.root() == merkle.root(hashes[:size])
        frontier.append(value)
    assert (frontier.size, frontier.root()) == (140, merkle.root(hashes))


def test_a_folder_that_is_none_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="no export"):
        verify_export(tmp_path / "nowhere")
    with pytest.raises(TamperedError, match=r"keys.txt"):
        verify_export(tmp_path)
    os.mkfifo(tmp_path / "keys.txt")
    with pytest.raises(TamperedError, match="no plain file"):
        verify_export(tmp_path)


# -- the documentation -------------------------------------------------------------------------------

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "log-format.md"


def snippet(marker: str) -> str:
    blocks = DOCS.read_text(encoding="utf-8").split("```py\n")[1:]
    (found,) = [block.split("```")[0] for block in blocks if marker in block]
    return found


def test_the_documented_script_verifies_without_this_package(tmp_path: Path, log: SmallLog) -> None:
    folder = log.export(tmp_path / "export")
    script = tmp_path / "verify_events.py"
    script.write_text(snippet("# verify_events.py"), encoding="utf-8")
    assert "privemo_consent" not in script.read_text(encoding="utf-8")

    def run(key: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", script, folder, key]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    for key in log.signers:
        assert run(str(key.verifying)).stdout == "verified: 12 entries\n"
    assert "has not signed" in run(str(SigningKey.generate("x").verifying)).stderr
    path = folder / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"IE", b"FR", 1))
    assert "not those signed" in run(str(KEY.verifying)).stderr


def test_the_documented_call_works(tmp_path: Path, log: SmallLog) -> None:
    keys = [str(key.verifying) for key in log.signers]
    names = {"EXPORT": log.export(tmp_path / "export"), "KEYS": keys}
    exec(snippet("found.pinned"), names)  # noqa: S102 - our own documentation
    assert names["found"].events == 12  # type: ignore[attr-defined]
