"""The staff's door and what stands behind it: counts, what is overdue, and whether the log is sound.

No person is named there and none can be looked up: whoever runs a registry has the command line for that.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from .. import leaves, schema
from ..errors import (
    ConsentError,
    KeyFileError,
    MalformedError,
    RegistryExistsError,
    RegistryFullError,
)
from ..registry import ConsentRegistry
from ..terms import ConsentStatus, Purpose, Role
from ..times import to_us

__all__ = ["Checked", "Figures", "StaffDoor", "figures", "write_password"]

_SCHEMA = "privemo.kiosk-staff/1"
#: OWASP's equals of N=2**17, p=1 for a machine with little memory: 32 MiB, three times over.
_N, _R, _P = 2**15, 8, 3
_SHORTEST = 12
_LONGEST = 1024


def _hash(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(password)


def write_password(path: str | os.PathLike[str], password: bytes, *, replace: bool = False) -> None:
    """Write the file that lets staff in: a salted scrypt hash, readable by its owner alone.

    Args:
        path: where.
        password: 12 bytes at least; there is no default and none is drawn.
        replace: write over a file that stands there.

    Raises:
        MalformedError: a password that is too short or too long.
        RegistryExistsError: something stands at ``path``.
        RegistryFullError: it cannot be written.

    """
    if not _SHORTEST <= len(password) <= _LONGEST:
        raise MalformedError(f"a password has {_SHORTEST} to {_LONGEST} bytes: choose a phrase")
    salt = secrets.token_bytes(16)
    body = {
        "schema": _SCHEMA,
        "salt": base64.b64encode(salt).decode(),
        "hash": base64.b64encode(_hash(password, salt, _N, _R, _P)).decode(),
    }
    target = Path(path)
    if target.exists() and not replace:
        raise RegistryExistsError(f"{target} exists: say --replace to set another password")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(body, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise RegistryFullError(f"{target} cannot be written: {error.strerror}") from error


class StaffDoor:
    """Checks the password of the staff; read once, when the kiosk starts.

    Raises:
        KeyFileError: no such file, open to others, or not one of `write_password`.

    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            mode = os.stat(path).st_mode
            body = json.loads(Path(path).read_bytes())
            self._salt, self._hash = (
                base64.b64decode(body[name], validate=True) for name in ("salt", "hash")
            )
            fits = body["schema"] == _SCHEMA and len(self._salt) == 16 and len(self._hash) == 32
        except OSError as error:
            raise KeyFileError(
                f"{path}: {error.strerror}: make it with `privemo kiosk-password {path}`"
            ) from error
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            raise KeyFileError(f"{path} is no file of `privemo kiosk-password`")
        if mode & 0o077:
            raise KeyFileError(f"{path} can be read by others: chmod 600 {path}")
        # One at a time: a flood of guesses must not take the memory of a small machine.
        self._lock = threading.Lock()

    def is_right(self, password: str) -> bool:
        """Return whether this is the password, in a time that does not tell how much of it is."""
        given = password.encode()
        if len(given) > _LONGEST:
            return False
        with self._lock:
            return hmac.compare_digest(_hash(given, self._salt, _N, _R, _P), self._hash)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the last verification of the whole log found.

    Attributes:
        at: when it ended.
        entries: how many entries were recomputed; 0 where it failed.
        fault: the first entry that is not as it was written, or None.

    """

    at: datetime
    entries: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What the staff page shows.

    Attributes:
        people: with a record.
        live: people whose consent to each purpose is given and not over.
        minors: turned away for their age, unknown ages included.
        staff: answers of staff and students that were turned away.
        overdue: things that should be destroyed by now, by kind.
        entries: of the log.
        root: of the log, in hexadecimal.
        witness: a key of the texts: is there one, and could it be asked?
        pending: copies of keys that could not be reached to destroy what was erased.

    """

    people: int
    live: dict[Purpose, int]
    minors: int
    staff: int
    overdue: dict[str, int]
    entries: int
    root: str
    witness: str
    pending: int


def figures(registry: ConsentRegistry) -> Figures:
    """Count what the staff page shows.

    Raises:
        ConsentError: the registry cannot be read.

    """
    head = registry.head()
    overdue = Counter(entry.what.value for entry in registry.overdue())
    people, live, staff = _people(registry)
    return Figures(
        people=people,
        live=live,
        minors=sum(registry.age_refusals().values()),
        staff=staff,
        overdue=dict(overdue),
        entries=head.seq,
        root=head.root,
        witness=_witness(registry),
        pending=len(registry.finish_erasures()),
    )


def _people(registry: ConsentRegistry) -> tuple[int, dict[Purpose, int], int]:
    """Count people with a record, who of them agrees to what, and staff turned away."""
    persons, events = schema.persons, schema.events
    known = sa.select(sa.func.count()).select_from(persons).where(persons.c.handle.is_not(None))
    staff = (
        sa.select(sa.func.count())
        .select_from(events)
        .where(
            events.c.status == leaves.STATUSES.index(ConsentStatus.INVALIDATED),
            events.c.role != leaves.ROLES.index(Role.SHOPPER),
        )
    )
    now = to_us(registry.now())
    given = [code for code, status in enumerate(leaves.STATUSES) if status.permits]
    live = {}
    with registry._journal.lock:
        state = registry._journal.refresh()
        for code, purpose in enumerate(leaves.PURPOSES):
            view = state.view(code)
            live[purpose] = int((np.isin(view.status, given) & (view.expires > now)).sum())
    with registry._store.read() as connection:
        return (
            int(connection.execute(known).scalar_one()),
            live,
            int(connection.execute(staff).scalar_one()),
        )


def _witness(registry: ConsentRegistry) -> str:
    if registry.keys.witness is None:
        return "staff_witness_none"
    try:
        registry.check_witnessed()
    except ConsentError:
        return "staff_witness_away"
    return "staff_witness_good"
