"""What travels in a secure sum, as Flower records: one place for both ends.

Each step of `privemo.secagg.member` is a message of its own, `train.<step>`. All carry the session; replies
carry the store's name, which the server holds against keys and signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo import protocol
from privemo.errors import RunError
from privemo.flower import Array, ArrayRecord, ConfigRecord, RecordDict
from privemo.secagg import Advert, Reveal, Session
from privemo.secure_store import Masked

__all__ = [
    "STEPS",
    "advert_from",
    "advert_record",
    "adverts_from",
    "adverts_record",
    "bytes_from",
    "bytes_record",
    "envelopes_from",
    "envelopes_record",
    "masked_from",
    "names_from",
    "pack_masked",
    "refusal_record",
    "reveal_from",
    "reveal_record",
    "session_from",
    "session_record",
    "signature_from",
    "signature_record",
    "text_from",
]

STEPS = ("advertise", "share", "mask", "confirm", "reveal")

SESSION, CONTENT, VECTOR, SEEDS, KEYS = "session", "content", "vector", "seeds", "keys"


def session_record(session: Session) -> ConfigRecord:
    """The session as a flat record."""
    return ConfigRecord(
        {
            "run-id": session.run_id,
            "round": session.round,
            "attempt": session.attempt,
            "order": session.order,
            "members": list(session.members),
            "enough": session.enough,
            "threshold": session.threshold,
        }
    )


def session_from(content: RecordDict) -> Session:
    """Read a session.

    Raises:
        RunError: it is incomplete.
        SecureSumError: it is no session that anybody may take part in.
    """
    record = _record(content, SESSION)
    try:
        return Session(
            run_id=_typed(record, "run-id", str),
            round=_typed(record, "round", int),
            attempt=_typed(record, "attempt", str),
            order=_typed(record, "order", str),
            members=tuple(str(name) for name in _typed(record, "members", list)),
            enough=_typed(record, "enough", int),
            threshold=_typed(record, "threshold", int),
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"A session is incomplete ({error}).") from error


def advert_record(name: str, advert: Advert) -> RecordDict:
    """A store's keys."""
    return RecordDict({CONTENT: ConfigRecord({"store": name, "advert": _three(advert)})})


def advert_from(content: RecordDict) -> Advert:
    """Read one store's keys.

    Raises:
        RunError: they are malformed.
    """
    return _advert(_record(content, CONTENT).get("advert"))


def refusal_record(name: str, reason: str) -> RecordDict:
    """Why a store does not take part."""
    return RecordDict({CONTENT: ConfigRecord({"store": name, "reason": reason})})


def adverts_record(adverts: Mapping[str, Advert]) -> ConfigRecord:
    """The keys of all, by store."""
    return ConfigRecord({name: _three(advert) for name, advert in adverts.items()})


def adverts_from(content: RecordDict) -> dict[str, Advert]:
    """Read the keys of all.

    Raises:
        RunError: they are malformed.
    """
    return {str(name): _advert(value) for name, value in _record(content, CONTENT).items()}


def envelopes_record(name: str, envelopes: Mapping[str, bytes], seal: bytes) -> RecordDict:
    """A store's envelopes by receiver, and its commitment."""
    said = ConfigRecord({"store": name, "seal": seal})
    return RecordDict({CONTENT: said, KEYS: bytes_record(envelopes)})


def envelopes_from(content: RecordDict) -> tuple[dict[str, bytes], bytes]:
    """Read envelopes and commitment.

    Raises:
        RunError: they are malformed.
    """
    seal = _record(content, CONTENT).get("seal")
    if not isinstance(seal, bytes):
        raise RunError("A store's envelopes come with a commitment.")
    return bytes_from(content, KEYS), seal


def signature_record(name: str, signature: bytes) -> RecordDict:
    """A store's signature under who is in the sum."""
    return RecordDict({CONTENT: ConfigRecord({"store": name, "signature": signature})})


def signature_from(content: RecordDict) -> bytes:
    """Read a signature.

    Raises:
        RunError: it is something else.
    """
    signature = _record(content, CONTENT).get("signature")
    if not isinstance(signature, bytes):
        raise RunError("A confirmation is a signature.")
    return signature


def bytes_record(values: Mapping[str, bytes]) -> ConfigRecord:
    """Bytes by name."""
    return ConfigRecord(dict(values))


def bytes_from(content: RecordDict, key: str = CONTENT) -> dict[str, bytes]:
    """Read bytes by name.

    Raises:
        RunError: a value is something else.
    """
    found = {}
    for name, value in _record(content, key).items():
        if not isinstance(value, bytes):
            raise RunError(f"{key} holds something else than bytes under {name!r}.")
        found[str(name)] = value
    return found


def names_from(content: RecordDict, key: str) -> list[str]:
    """Read a list of names.

    Raises:
        RunError: it is something else.
    """
    value = _record(content, CONTENT).get(key)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RunError(f"{key} is no list of names.")
    return [str(name) for name in value]


def text_from(content: RecordDict, key: str) -> str:
    """Read a text of at most 256 characters.

    Raises:
        RunError: it is something else.
    """
    value = _record(content, CONTENT).get(key)
    if not isinstance(value, str):
        raise RunError(f"{key} is no text.")
    return value[:256]


def pack_masked(masked: Masked) -> RecordDict:
    """A store's masked vector, or why there is none."""
    content = RecordDict({protocol.MANIFEST: protocol.signed_record(masked.signed)})
    if masked.vector is not None:
        content[VECTOR] = ArrayRecord({VECTOR: Array(masked.vector)})
    return content


def masked_from(content: RecordDict) -> Masked:
    """Read a masked vector, or why there is none.

    Raises:
        RunError: the reply is malformed.
    """
    record = content.get(VECTOR)
    vector: NDArray[np.uint32] | None = None
    if isinstance(record, ArrayRecord) and VECTOR in record:
        vector = record[VECTOR].numpy()
        if not isinstance(vector, np.ndarray):
            raise RunError("A masked vector is an array.")
    return Masked(vector, protocol.signed_from(content))


def reveal_record(name: str, reveal: Reveal) -> RecordDict:
    """Shares that a store gives away."""
    return RecordDict(
        {
            CONTENT: ConfigRecord({"store": name}),
            SEEDS: bytes_record(reveal.seeds),
            KEYS: bytes_record(reveal.keys),
        }
    )


def reveal_from(content: RecordDict) -> Reveal:
    """Read shares.

    Raises:
        RunError: they are malformed.
    """
    return Reveal(seeds=bytes_from(content, SEEDS), keys=bytes_from(content, KEYS))


def _three(advert: Advert) -> list[bytes]:
    return [advert.mask_key, advert.share_key, advert.signature]


def _advert(value: object) -> Advert:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(part, bytes) for part in value)
    ):
        raise RunError("Keys of a store are three byte strings.")
    return Advert(*value)


def _record(content: RecordDict, key: str) -> ConfigRecord:
    record = content.get(key)
    if not isinstance(record, ConfigRecord):
        raise RunError(f"A message of a secure sum lacks its {key}.")
    return record


def _typed(record: ConfigRecord, key: str, kind: type) -> Any:
    value = record[key]
    if type(value) is not kind:
        raise TypeError(f"{key} is {value!r}")
    return value
