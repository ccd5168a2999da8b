"""From the lines of a transfer to the rows of the tables: strict, and people sealed anew."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from .. import leaves
from ..bulk import check_person
from ..canonical import parse_canonical, sha256_hex
from ..items import ItemKind, seal_item
from ..keyfolder.folder import KeyFolder
from ..sealing import KEY_BYTES, PersonSecrets, seal_person
from ..times import parse_iso
from ..uses import parse_use

__all__ = ["TransferRows", "key_of", "whole_numbers"]

_NOBODY = {"handle": None, "sealed": None, "wrapped": None, "epoch": None}


class TransferRows:
    """Makes rows, in the order of the file. What a line says wrongly raises a ValueError or its like.

    Attributes:
        people: by row: what it holds, None for whoever was erased.

    """

    def __init__(self, folder: KeyFolder, registry_id: str, epoch: int) -> None:
        self._folder, self._registry_id, self._epoch = folder, registry_id, epoch
        self._nids: dict[str, int] = {}
        self._recorded = 0
        self.people: list[PersonSecrets | None] = []

    def notice(self, nid: int, line: dict[str, Any]) -> dict[str, Any]:
        """Return the row of a notice."""
        body = line["body"].encode()
        value, digest = parse_canonical(body), sha256_hex(body)
        self._nids[digest] = nid
        return {
            "nid": nid,
            "hash": digest,
            "notice_id": str(value["notice_id"]),
            "version": int(value["version"]),
            "body": body,
        }

    def person(self, pid: int, line: dict[str, Any]) -> dict[str, Any]:
        """Return the row of a person, sealed anew; an empty one for whoever was erased."""
        person, subject_key = line["person"], line["subject_key"]
        if person is None and subject_key is None:
            self.people.append(None)
            return {"pid": pid, **_NOBODY}
        row, secrets = seal_person(
            self._folder,
            registry_id=self._registry_id,
            epoch=self._epoch,
            pid=pid,
            person=check_person(person),
            subject_key=key_of(subject_key),
        )
        self.people.append(secrets)
        return row

    def event(self, _seq: int, line: dict[str, Any]) -> dict[str, Any]:
        """Return the columns of an event: all that its leaf says, and the person's row."""
        leaf = line["leaf"].encode()
        found = leaves.columns(leaves.parse(leaf))
        notice = found.pop("notice")
        self._recorded = found.setdefault("recorded", self._recorded)
        if line["pid"] is not None:
            whole_numbers(line["pid"])
        for name in ("purpose", "status", "role", "expires"):
            found.setdefault(name, None)
        nid = None if notice is None else self._nids[notice]
        return found | {"pid": line["pid"], "nid": nid, "leaf": leaf}

    def use(self, _seq: int, line: dict[str, Any]) -> dict[str, Any]:
        """Return the columns of a use."""
        leaf = line["leaf"].encode()
        whole_numbers(*line["persons"])
        packed = np.array(line["persons"], dtype="<i4").tobytes()
        recorded = parse_iso(parse_use(leaf)["recorded_at"])
        return {"recorded": recorded, "persons": packed, "leaf": leaf}

    def checkpoint(self, _number: int, line: dict[str, Any]) -> dict[str, Any]:
        """Return the row of a signed head."""
        whole_numbers(line["log"], line["size"])
        return {"log": line["log"], "size": line["size"], "note": str(line["note"])}

    def item(self, _number: int, line: dict[str, Any]) -> dict[str, Any]:
        """Return the row of an item, sealed anew."""
        whole_numbers(line["pid"])
        secrets = self.people[line["pid"]]
        if secrets is None:
            raise ValueError("an item of someone who was erased")
        return seal_item(
            self._registry_id,
            line["pid"],
            secrets,
            ItemKind(line["kind"]),
            item_id=str(line["id"]),
            facts=dict(line["facts"]),
            body=base64.b64decode(line["body"], validate=True),
        )


def whole_numbers(*values: object) -> None:
    """Refuse what is no number from 0 to 2**31 - 1.

    Raises:
        ValueError: one is not.

    """
    if any(type(value) is not int or not 0 <= value < 2**31 for value in values):
        raise ValueError("a number is none, or out of range")


def key_of(text: object) -> bytes:
    """Return 32 bytes out of their hexadecimal text.

    Raises:
        ValueError: it is none.

    """
    found = bytes.fromhex(text) if isinstance(text, str) else b""
    if len(found) != KEY_BYTES:
        raise ValueError(f"a key is {KEY_BYTES} bytes in hexadecimal")
    return found
