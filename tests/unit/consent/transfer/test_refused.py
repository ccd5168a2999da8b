"""A file that is damaged, cut, sealed or for somewhere else: refused, and nothing was made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    ConsentRegistry,
    ModeMismatchError,
    RegistryExistsError,
    RegistryMissingError,
    TamperedError,
)
from privemo_consent.copies.transfer import read_transfer, write_transfer
from privemo_consent.errors import (
    ClockBackwardsError,
    ConsentError,
    KeyFileError,
    MalformedError,
)
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.keyfolder.roots import PassphraseRoot
from privemo_consent.vault import NewItem, Vault
from tests.support.consent import PARTY
from tests.support.notices import whole_notice
from tests.unit.consent.conftest import MovableClock, Yes
from tests.unit.consent.transfer.moves import SHOP, Sent, fill


def test_every_damaged_line_is_named(sent: Sent) -> None:
    for number, line in enumerate(sent.lines):
        at = len(line) // 2
        broken = line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]
        sent.file.write_bytes(b"".join([*sent.lines[:number], broken, *sent.lines[number + 1 :]]))
        error = sent.refuse(TamperedError, f"^line {number + 1}: ")
        assert "anna" not in str(error)


@pytest.mark.parametrize("kind", ["notice", "person", "event", "use", "checkpoint", "item"])
@pytest.mark.parametrize("how", ["dropped", "doubled", "swapped", "cut off"])
def test_lines_stand_as_they_were_written(sent: Sent, kind: str, how: str) -> None:
    first = sent.numbers(kind)[0]
    lines = list(sent.lines)
    if how == "dropped":
        del lines[first]
    elif how == "doubled":
        lines.insert(first, lines[first])
    elif how == "swapped":
        lines[first], lines[first + 1] = lines[first + 1], lines[first]
    else:
        del lines[first:]
    sent.file.write_bytes(b"".join(lines))
    error = sent.refuse(TamperedError, None)
    assert isinstance(error, TamperedError)
    assert error.entry in (f"line {first + 1}", f"line {first + 2}")


@pytest.mark.parametrize(
    ("data", "entry"),
    [
        (b"", "line 1"),
        (b"\n", "line 1"),
        (b"[]\n", "line 1"),
        (b"\xff\xfe\n", "line 1"),
        (b'{"line":"registry"}\n', "line 1"),
    ],
)
def test_no_transfer_is_refused(sent: Sent, data: bytes, entry: str) -> None:
    sent.file.write_bytes(data)
    sent.refuse(TamperedError, f"^{entry}: ")


@pytest.mark.parametrize("opening", [b"[", b'{"schema":', b'{"schema":"privemo.transfer/1","x":['])
def test_a_line_nested_too_deep_is_refused(sent: Sent, opening: bytes) -> None:
    sent.file.write_bytes(opening * 200_000 + b"\n")
    sent.refuse(MalformedError, "nested too deep")


def test_nothing_follows_the_end(sent: Sent) -> None:
    sent.file.write_bytes(b"".join(sent.lines) + b"{}\n")
    sent.refuse(TamperedError, f"^line {len(sent.lines) + 1}: stands after the end")


def test_mode_place_clock_and_keys(
    sent: Sent, full: ConsentRegistry, clock: MovableClock, simulation: ConsentRegistry
) -> None:
    sent.refuse(ModeMismatchError, "production registry, read as simulation", mode="simulation")
    sent.refuse(MalformedError, "mode", mode="both")
    sent.refuse(KeyFileError, "exists: keys are never overwritten", keys=full.keys.path)
    sent.refuse(KeyFileError, "is another registry's, or in use", keys=full.keys)
    sent.refuse(KeyFileError, "is another registry's, or in use", keys=simulation.keys)
    sent.refuse(KeyFileError, "is not sealed", passphrase=b"words")
    clock.forward(hours=-1)
    sent.refuse(ClockBackwardsError, "set the clock")
    clock.forward(hours=1)
    with pytest.raises(RegistryExistsError):
        read_transfer(
            sent.file, full.path, keys=sent.folder / "to.keys", mode="production", clock=clock
        )
    assert not (sent.folder / "to.keys").exists()
    with pytest.raises(RegistryMissingError, match="no transfer at"):
        read_transfer(sent.folder / "none", sent.folder / "to.sqlite", keys="k", mode="production")
    with pytest.raises(RegistryExistsError):
        write_transfer(full, sent.file, passphrase=None)
    sent.read()


def test_new_keys_may_have_a_root(sent: Sent, clock: MovableClock) -> None:
    root = PassphraseRoot(b"another")
    sent.read(root=root)
    with pytest.raises(KeyFileError):
        KeyFolder.open(sent.folder / "to.keys")
    with ConsentRegistry.open(
        sent.folder / "to.sqlite", mode="production", root=root, clock=clock
    ) as moved:
        moved.verify()


@pytest.mark.parametrize("word", [b"", "text"])
def test_an_empty_passphrase_seals_nothing(
    full: ConsentRegistry, tmp_path: Path, word: Any
) -> None:
    with pytest.raises(MalformedError, match="passphrase"):
        write_transfer(full, tmp_path / "x.jsonl", passphrase=word)
    assert not (tmp_path / "x.jsonl").exists()


@pytest.fixture(scope="module")
def shut(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Lines of a sealed transfer, of several blocks. Sealing is slow, as it should be: it is done once."""
    folder, clock, notice = tmp_path_factory.mktemp("shut"), MovableClock(), whole_notice(PARTY, 1)
    options: dict[str, Any] = {"mode": "production", "controller": PARTY, "clock": clock}
    with ConsentRegistry.create(folder / "consent.sqlite", **options) as registry:
        registry.notice(notice)
        fill(registry, Yes(notice))
        noise = hashlib.shake_256(b"noise").digest(60_000)
        items = [NewItem(person="anna", item_id=f"big{i}", body=noise) for i in range(4)]
        Vault(registry).put(items, SHOP)
        write_transfer(registry, folder / "shut.jsonl", passphrase=b"words")
    return (folder / "shut.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        (lambda lines: lines, KeyFileError, "give its passphrase"),
        (lambda lines: lines, KeyFileError, "another passphrase"),
        (lambda lines: [lines[0], *lines[2:]], KeyFileError, "does not open"),
        (lambda lines: [*lines[:2], *lines[3:]], TamperedError, "^line 3: does not open"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], TamperedError, "^line 4: "),
        (lambda lines: lines[:-1], TamperedError, "does not open: changed, moved, or cut off"),
        (lambda lines: [*lines, lines[-1]], TamperedError, "does not open"),
        (lambda lines: lines[:1], TamperedError, "^line 2: missing"),
        (lambda lines: [lines[0].replace(b"131072", b"16"), *lines[1:]], TamperedError, "^line 1: "),
        (lambda lines: [*lines[:2], b"{}\n", *lines[3:]], TamperedError, "^line 3: is no sealed block"),
    ],
)  # fmt: skip
def test_sealed_blocks_stand_as_they_were_written(
    shut: list[bytes],
    tmp_path: Path,
    clock: MovableClock,
    change: Callable[[list[bytes]], list[bytes]],
    kind: type[ConsentError],
    told: str,
) -> None:
    path = tmp_path / "shut.jsonl"
    path.write_bytes(b"".join(change(shut)))
    word = {"give its passphrase": None, "another passphrase": b"others"}.get(told, b"words")
    with pytest.raises(kind, match=told):
        read_transfer(
            path,
            tmp_path / "to.sqlite",
            keys=tmp_path / "to.keys",
            mode="production",
            clock=clock,
            passphrase=word,
        )
    assert not [path for path in tmp_path.iterdir() if "to." in path.name]
