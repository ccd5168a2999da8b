"""Cosignatures: a witness says "this is the longest head of that log that I saw, at this time".

https://github.com/C2SP/C2SP/blob/main/tlog-cosignature.md, the Ed25519 type 0x04. What is signed is
``cosignature/v1``, a line with the time, and the whole text of the checkpoint, so that such a
signature never passes for a log's own. It does not cover the cosigner's name: a key belongs to one
cosigner, and keys are counted by their public half.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .checkpoint import Checkpoint
from .errors import ClockBackwardsError, MalformedError, SignatureError
from .keys import SigningKey, VerifyingKey, key_parts
from .note import SignatureLine, add_signature, open_note, split_note
from .times import Clock, utcnow

__all__ = ["Cosignature", "Cosigner", "CosignerKey", "parse_key", "verify_cosignatures"]

_TYPE = b"\x04"  # C2SP signed-note: timestamped Ed25519 witness cosignatures
_TIME_BYTES = 8
_SIGNATURE_BYTES = _TIME_BYTES + 64
_LATEST = 2**63 - 1
#: Two clocks of honest machines may differ by this.
_SKEW = timedelta(minutes=5)
# A machine whose battery is empty reads 1970 or its build date; nothing was cosigned before this.
_EARLIEST = datetime(2023, 1, 1, tzinfo=UTC)


def _message(time: int, text: bytes) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time + text


@dataclass(frozen=True, slots=True)
class CosignerKey:
    """The public half of a cosigner's key; its id differs from the same key's as a log key."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        VerifyingKey(self.name, self.public)  # the same rules, checked there

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256 over name, newline, 0x04 and public key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _TYPE + self.public).digest()[:4]

    def __str__(self) -> str:
        """Return the encoding of C2SP signed-note: ``name+id+base64``."""
        encoded = base64.b64encode(_TYPE + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> CosignerKey:
        """Read what ``str`` writes.

        Raises:
            MalformedError: another form, another kind of key, or an id that does not match.
        """
        name, _, data = key_parts(text)
        if data[:1] != _TYPE:
            raise MalformedError(f"got a key of type {data[:1].hex()!r}, want 04 (a cosigner's)")
        key = cls(name, data[1:])
        if str(key) != text:
            raise MalformedError(f"got a key whose id is not {key.key_id.hex()!r}")
        return key

    def time_of(self, signature: bytes) -> int:
        """Return the seconds since 1970 that a cosignature states; nothing is verified.

        Raises:
            SignatureError: it is none: another length, or a time no signer may state.
        """
        if not isinstance(signature, bytes) or len(signature) != _SIGNATURE_BYTES:
            raise SignatureError(f"{self.name}: a cosignature is {_SIGNATURE_BYTES} bytes")
        time = int.from_bytes(signature[:_TIME_BYTES], "big")
        if not 0 < time <= _LATEST:
            raise SignatureError(f"{self.name}: got time {time}, want 1 to 2**63 - 1")
        return time

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a cosignature of a checkpoint's text.

        Raises:
            SignatureError: it is not this key's over ``message`` at the time it states.
        """
        signed = _message(self.time_of(signature), message)
        try:
            VerifyingKey(self.name, self.public).verify(signature[_TIME_BYTES:], signed)
        except SignatureError:
            who = f"{self.name}+{self.key_id.hex()}"
            raise SignatureError(f"{who}: bad signature (a cosignature)") from None


class Cosigner:
    """Signs checkpoints that its caller has checked; `witness.Witness` is such a caller.

    Args:
        key: of this cosigner alone; a log's key would let one machine vouch for itself.
        clock: where the time comes from.
    """

    def __init__(self, key: SigningKey, clock: Clock = utcnow) -> None:
        self._signing = key
        self._clock = clock
        self.key = CosignerKey(key.name, key.verifying.public)

    def cosign(self, note: str, *, not_before: int = 0) -> str:
        """Return the checkpoint with this cosigner's line added.

        Args:
            note: a signed checkpoint, known to extend all that were cosigned before.
            not_before: the time of the cosignature before this one, seconds since 1970.

        Raises:
            MalformedError: not a checkpoint, or one that this very key has signed as a log.
            ClockBackwardsError: the clock reads before ``not_before``, or before 2023.
        """
        text, lines = split_note(note)
        Checkpoint.parse(text)
        if any((line.name, line.key_id) == (self.key.name, self._signing.key_id) for line in lines):
            raise MalformedError(f"{self.key.name} signed this as a log: a witness is another")
        now = self._clock()
        time = int(now.timestamp())
        if now < _EARLIEST or time < not_before:
            raise ClockBackwardsError(
                f"the witness's clock reads {now.isoformat()}, which is over: set the clock"
            )
        signature = self._signing.sign(_message(time, text.encode()))
        stated = time.to_bytes(_TIME_BYTES, "big")
        return add_signature(
            note, SignatureLine(self.key.name, self.key.key_id, stated + signature)
        )


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature that holds: whose, and the latest time that it states."""

    key: CosignerKey
    time: datetime


def verify_cosignatures(
    note: str | bytes, known: Iterable[CosignerKey], *, now: datetime, quorum: int = 1
) -> tuple[Cosignature, ...]:
    """Check who of the known cosigners saw this checkpoint.

    Args:
        note: a signed checkpoint; the log's own signature is not looked at.
        known: the cosigners one trusts.
        now: no cosignature may be more than five minutes later.
        quorum: how many different keys must have signed; one key under two names counts once.

    Raises:
        MalformedError: not a checkpoint.
        SignatureError: a known key's cosignature does not hold or lies in the future, or too few.
    """
    opened = open_note(note, known)
    Checkpoint.parse(opened.text)
    found: dict[bytes, Cosignature] = {}
    for key in opened.keys:
        assert isinstance(key, CosignerKey)  # noqa: S101 - only these were given
        for line in opened.signatures:
            if (line.name, line.key_id) == (key.name, key.key_id):
                time = _sane(key, key.time_of(line.signature), now)
                have = found.get(key.public)
                if have is None or have.time < time:
                    found[key.public] = Cosignature(key, time)
    if len(found) < quorum:
        raise SignatureError(f"got cosignatures of {len(found)} keys, want {quorum}")
    return tuple(found.values())


def _sane(key: CosignerKey, seconds: int, now: datetime) -> datetime:
    if seconds > (now + _SKEW).timestamp():
        raise SignatureError(f"{key.name}: a cosignature of the future ({seconds} s since 1970)")
    return datetime.fromtimestamp(seconds, UTC)


def parse_key(text: str) -> VerifyingKey | CosignerKey:
    """Read a key of either kind, as C2SP signed-note writes it.

    Raises:
        MalformedError: neither a log's nor a cosigner's.
    """
    if key_parts(text)[2][:1] == _TYPE:
        return CosignerKey.parse(text)
    return VerifyingKey.parse(text)
