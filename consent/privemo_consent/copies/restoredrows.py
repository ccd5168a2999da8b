"""What a copy's log gets where it goes on: a new name, what stays ended, who has to be asked again.

For a backup that is restored, and for the file of a registry that goes on elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from .. import leaves, schema
from ..checkpoint import uses_origin
from ..errors import ConsentError, RegistryError
from ..keyfolder.folder import KeyFolder
from ..keys import KeyRing, VerifyingKey
from ..leaves import KINDS, STATUSES
from ..sealing import PersonSecrets
from ..terms import ConsentStatus
from ..times import iso
from ..transaction import plain_row
from ..verify_events import EventsCheck
from ..witness import Witness
from .copycheck import CopyCheck, Facts
from .restorekeys import next_key

__all__ = ["Additions"]

Row = dict[str, Any]


class Additions:
    """Makes the rows, all of the moment ``now``, in microseconds."""

    def __init__(self, facts: Facts, check: EventsCheck, now: int) -> None:
        self._facts = facts
        self._check = check
        self._now = now
        self._named = self._asked = False

    def new_name(self) -> Row:
        """Begin a signing key under an origin of its own."""
        self._named = True
        folder, ring = self._facts.keys, self._check.keys.ring
        key = next_key(folder, self._facts.registry_id, ring, _known_to_witness(folder, ring))
        # First the private half on the disk: a log that names a key nobody holds could not go on.
        folder.add_signer(key)
        # No overlap: an old key signing for the new name would tie the two histories together.
        return self._key_row("begin", str(key.verifying), ends=self._now)

    def revoked(self, keys: Iterable[VerifyingKey]) -> list[Row]:
        """End all trust in keys that had been revoked in the lost part."""
        return [self._key_row("revoke", str(key)) for key in keys]

    def epoch(self, number: int) -> Row:
        """Tell of the epoch of person keys under which everyone now stands."""
        return self._key_row("epoch", f"epoch:{number}")

    def suspensions(self, source: sa.Connection) -> list[Row]:
        """End every consent that stands in the copy, its term over or not: clocks can be set back."""
        self._asked = True
        table, last = schema.events, {}
        columns = (table.c.pid, table.c.purpose, table.c.status, table.c.nid, table.c.leaf)
        query = sa.select(*columns).where(table.c.kind == KINDS.index("consent"))
        for row in source.execute(query.order_by(table.c.seq)):
            last[row.pid, row.purpose] = row
        standing = [row for _, row in sorted(last.items()) if STATUSES[row.status].permits]
        return [self._suspension(row) for row in standing]

    def erasures(self) -> list[Row]:
        """Say of everyone whose key was destroyed since that they were erased; ask for these last.

        Raises:
            RegistryError: the registry was moved, and would permit here again.

        """
        if self._check.keys.moved and self._named and not self._asked:
            raise RegistryError(
                "this registry was moved, and people said no where it was moved to, if anywhere: "
                "restore with suspend=True (--suspend), so that they are asked again"
            )
        late = self._check.late if isinstance(self._check, CopyCheck) else ()
        return [self._erasure(pid) for pid in sorted(late)]

    def _key_row(self, op: str, key: str, ends: int | None = None) -> Row:
        simulated, now = self._facts.simulated, self._now
        leaf = leaves.key_leaf(op=op, key=key, ends_others=ends, recorded=now, simulated=simulated)
        return plain_row("key", leaf, now, simulated)

    def _suspension(self, last: Any) -> Row:
        record_id, now, said = os.urandom(16).hex(), iso(self._now), leaves.parse(last.leaf)
        leaf = leaves.consent_leaf(
            record_id=record_id,
            subject=self._subject(last.pid, record_id),
            purpose=said["purpose"],
            status=ConsentStatus.INVALIDATED.value,
            at=now,
            recorded_at=now,
            expires=None,
            entity="registry",
            role=said["role"],
            jurisdiction=said["jurisdiction"],
            notice=said["notice"],
            simulated=self._facts.simulated,
        )
        row = plain_row("consent", leaf, self._now, self._facts.simulated, nid=last.nid)
        coded = leaves.columns(leaves.parse(leaf))
        return row | {"pid": last.pid} | {k: coded[k] for k in ("purpose", "status", "role")}

    def _erasure(self, pid: int) -> Row:
        record_id = os.urandom(16).hex()
        leaf = leaves.erasure_leaf(
            record_id=record_id,
            subject=self._subject(pid, record_id),
            cause="restore",
            recorded=self._now,
            simulated=self._facts.simulated,
        )
        return plain_row("erasure", leaf, self._now, self._facts.simulated) | {"pid": pid}

    def _subject(self, pid: int, record_id: str) -> str:
        found = self._holds(pid)
        if found is None:
            # The key that made this person's tags is destroyed. Random digits are what an erased
            # person's tags look like to everybody: nobody can tell these from the true ones.
            return os.urandom(32).hex()
        return leaves.subject_tag(found.subject_key, record_id, found.person)

    def _holds(self, pid: int) -> PersonSecrets | None:
        check = self._check
        return check.readable_at(pid) if isinstance(check, CopyCheck) else check.people[pid]


def _known_to_witness(folder: KeyFolder, ring: KeyRing) -> Callable[[str], bool]:
    if folder.witness is None:
        return lambda _origin: False
    witness = Witness.open(folder.witness, known=[period.key for period in ring.periods])

    def taken(origin: str) -> bool:
        try:
            heads = [witness.latest(name) for name in (origin, uses_origin(origin))]
        except ConsentError:
            return True  # lines by keys that this copy does not know: another restore's
        return any(head is not None for head in heads)

    return taken
