"""A store whose keys are sealed with a passphrase, as by `privemo registry new --protect passphrase`."""

from __future__ import annotations

import shutil
from pathlib import Path

from privemo_consent import ConsentRegistry
from privemo_consent.copies.reading_transfer import read_transfer
from privemo_consent.copies.transfer import write_transfer
from privemo_consent.handle import Mode
from privemo_consent.keyfolder.roots import PassphraseRoot

WORD = b"a long passphrase of a store"


def seal_store(folder: Path, mode: Mode = "simulation") -> None:
    """Move a store's registry into one whose keys are sealed with `WORD`; consents stay live."""
    registry, keys = folder / "consent.sqlite", folder / "consent.keys"
    with ConsentRegistry.open(registry, mode=mode) as before:
        write_transfer(before, folder / "moving", passphrase=None, close=True)
    for path in folder.glob("consent.sqlite*"):
        path.unlink()
    shutil.rmtree(keys)
    root = PassphraseRoot(WORD)
    read_transfer(
        folder / "moving", registry, keys=keys, mode=mode, passphrase=None, known=None, root=root
    )
    (folder / "moving").unlink()
