"""The receipt that a person takes home: a signed JWS that proves whose consent stands in the log.

A receipt (ISO/IEC TS 27560 6.4; REQUIREMENTS 9) is a compact JWS (RFC 7515) over canonical JSON:
controller, notice, the leaves of the person's consents with purpose and term (BIPA 15(b)), their
inclusion proofs, and the signed checkpoint they lead to. It verifies offline, with any JOSE
library or with none (``docs/how-to/receipts.md``); `verify_receipt` also checks what is inside.

The person's subject key travels in the receipt, so that the subject tags of the leaves can be
recomputed. This is sound: the key is 32 random bytes drawn for this person alone, it opens nobody
else's leaves, and the receipt is in that person's hands. It cannot be used to claim another's
leaf, since that takes a second preimage of HMAC-SHA-256 under a key of fixed length, and the
registry's signature besides. Whoever is shown a receipt can tell which leaves are its person's: it
is a personal document, and a registry keeps no copy (erasure could not reach it).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_serializer

from . import leaves, merkle
from .canonical import canonical_bytes, parse_canonical
from .checkpoint import Checkpoint, open_checkpoint
from .errors import MalformedError, ProofError, SignatureError
from .keys import SigningKey, VerifyingKey
from .receipttoken import check_signature, key_of, kid, read_token, sign_token
from .records import ConsentEvent, Hex256, Language, Notice, Party, Text
from .times import iso, to_us

__all__ = [
    "MAX_ENTRIES",
    "ReceiptContent",
    "ReceiptEntry",
    "ReceiptNotice",
    "ReceiptRegistry",
    "issue_receipt",
    "verify_receipt",
]

#: Far more than a grant has purposes.
MAX_ENTRIES = 32
_MAX_PATH = 63  # sizes of logs are signed 64-bit integers
_SAFE = 2**53 - 1  # RFC 7493 section 2.2


class _Part(BaseModel):
    # Inputs stay out of errors: they hold the person's id and subject key.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ReceiptRegistry(_Part):
    """Which registry: its id, the origin of its log, and whether its people are simulated."""

    id: Text
    origin: Text
    simulated: bool


class ReceiptNotice(_Part):
    """What the person was shown, by hash, and how to withdraw (GDPR 7(1), 7(3))."""

    notice_id: Text
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    language: Language
    hash: Hex256
    withdrawal_method: Text
    retention_days: Annotated[int, Field(ge=1, le=3 * 366)]


class ReceiptEntry(_Part):
    """One leaf of the log, as it is hashed, and its inclusion proof as places in ``proof``."""

    seq: Annotated[int, Field(ge=0, le=_SAFE)]
    leaf: Annotated[str, Field(min_length=1, max_length=4096)]
    path: Annotated[tuple[int, ...], Field(max_length=_MAX_PATH)]


class ReceiptContent(_Part):
    """What a receipt says. The person's id and subject key stay out of its repr."""

    schema_version: Literal["privemo.receipt/1"] = "privemo.receipt/1"
    receipt_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    issued_at: AwareDatetime
    registry: ReceiptRegistry
    person: Annotated[str, Field(min_length=1, repr=False)]
    subject_key: Annotated[Hex256, Field(repr=False)]
    controller: Party
    notice: ReceiptNotice
    entries: Annotated[tuple[ReceiptEntry, ...], Field(min_length=1, max_length=MAX_ENTRIES)]
    #: Every hash of the inclusion proofs once: neighbours in the log share almost all of them.
    proof: Annotated[tuple[Hex256, ...], Field(max_length=_MAX_PATH * MAX_ENTRIES)]
    checkpoint: Annotated[str, Field(min_length=1, max_length=16_384)]

    @field_serializer("issued_at")
    def _as_in_the_log(self, value: datetime) -> str:
        return iso(to_us(value))

    @property
    def events(self) -> tuple[ConsentEvent, ...]:
        """The consents as records: purpose, state, term and the rest."""
        return tuple(
            leaves.event_of(entry.leaf.encode(), person=self.person, seq=entry.seq)
            for entry in self.entries
        )


def issue_receipt(
    *,
    person: str,
    subject_key: bytes,
    entries: Sequence[tuple[int, bytes, Sequence[bytes]]],
    checkpoint: str,
    controller: Party,
    notice: Notice,
    registry_id: str,
    simulated: bool,
    signer: SigningKey,
    issued_at: datetime,
    known: Iterable[VerifyingKey] = (),
) -> str:
    """Return the receipt of one person's consents as a compact JWS.

    What was made is verified before it is returned, so that nobody takes home what does not hold.

    Args:
        person: whose they are.
        subject_key: the 32 bytes under which the leaves name that person.
        entries: sequence number, leaf and inclusion proof of each consent; all of one notice.
        checkpoint: the signed head that the proofs lead to.
        controller: who answers for the data.
        notice: what the person was shown.
        registry_id: of the registry.
        simulated: whether the registry's people are simulated.
        signer: the log's key; its name is the log's origin.
        issued_at: now.
        known: further keys that may have signed the checkpoint, such as the one before a rotation.

    Raises:
        MalformedError: a part that no receipt can hold, or parts that contradict each other.
        ProofError: a proof does not lead to the checkpoint, or a leaf is not this person's.
        SignatureError: the checkpoint is signed by none of the keys.
        ModuleNotFoundError: joserfc is missing; the message says how to install it.
    """
    if not isinstance(subject_key, bytes) or len(subject_key) != 32:
        raise MalformedError("a subject key is 32 bytes")
    places: dict[bytes, int] = {}
    listed = [
        {
            "seq": seq,
            "leaf": leaf.decode("utf-8", "replace"),
            "path": [places.setdefault(value, len(places)) for value in proof],
        }
        for seq, leaf, proof in entries
    ]
    shown = ("notice_id", "version", "language", "hash", "withdrawal_method", "retention_days")
    payload = canonical_bytes(
        {
            "schema_version": "privemo.receipt/1",
            "receipt_id": secrets.token_hex(16),
            "issued_at": iso(to_us(issued_at)),
            "registry": {"id": registry_id, "origin": signer.name, "simulated": simulated},
            "person": person,
            "subject_key": subject_key.hex(),
            "controller": controller.model_dump(mode="json"),
            "notice": {name: getattr(notice, name) for name in shown},
            "entries": listed,
            "proof": [value.hex() for value in places],
            "checkpoint": checkpoint,
        }
    )
    token = sign_token(payload, signer)
    verify_receipt(token, [signer.verifying, *known], origin=signer.name)
    return token


def verify_receipt(
    token: str | bytes, keys: Iterable[VerifyingKey], *, origin: str | None = None
) -> ReceiptContent:
    """Check a receipt against the keys one trusts; return what it says.

    In this order, so that nothing is read before what it rests on holds: size and form, header,
    key, signature, schema, checkpoint, registry, then each entry's leaf, person, place in the log
    and notice.

    Args:
        token: the compact JWS.
        keys: the keys of the registry, old ones too unless they were revoked. None is ever taken
            from the token.
        origin: the log it has to be of; None for any whose key is known.

    Raises:
        MalformedError: not a receipt, of another registry, or parts that contradict each other.
        SignatureError: another algorithm, an unknown key, or a signature that does not hold.
        ProofError: an entry is not in the log of the checkpoint, or is not this person's.
        ModuleNotFoundError: joserfc is missing; the message says how to install it.
    """
    known = tuple(keys)
    text, header, payload = read_token(token)
    key = key_of(header, known)
    check_signature(text, key)
    content = _content(payload)
    head = _head(content, key, known, origin)
    for entry in content.entries:
        _check_entry(content, entry, head)
    _check_proof_is_used(content)
    return content


def _content(payload: bytes) -> ReceiptContent:
    try:
        parse_canonical(payload)  # pydantic would take the last of two equal keys
        content = ReceiptContent.model_validate_json(payload, strict=True)
        if canonical_bytes(content.model_dump(mode="json")) != payload:
            raise MalformedError(
                "not written as a receipt is: a field missing, or spelled otherwise"
            )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise MalformedError(f"{where}: {first['msg']}") from None
    except MalformedError as error:
        raise MalformedError(f"payload: {error}") from None
    return content


def _head(
    content: ReceiptContent, key: VerifyingKey, known: Sequence[VerifyingKey], origin: str | None
) -> Checkpoint:
    """Check that receipt, checkpoint, key and caller speak of one log."""
    named = content.registry.origin
    head, note = open_checkpoint(content.checkpoint, known, origin=named)
    if named not in note.verified:
        # The key of another log or of a witness vouches for less than the log's own.
        raise SignatureError(f"checkpoint: not signed by the log {named!r} itself")
    if key.name != named:
        raise MalformedError(f"signed by {kid(key)} for another registry, {named!r}")
    if origin is not None and origin != named:
        raise MalformedError(f"got a receipt of registry {named!r}, want {origin!r}")
    return head


def _check_entry(content: ReceiptContent, entry: ReceiptEntry, head: Checkpoint) -> None:
    name = f"entry {entry.seq}"
    data = entry.leaf.encode()
    try:
        leaf = leaves.parse(data)
        leaves.columns(leaf)  # its times are times
    except MalformedError as error:
        raise MalformedError(f"{name}: {error}") from None
    if leaf["kind"] != "consent":
        raise MalformedError(f"{name}: a {leaf['kind']} leaf, want a consent")
    if leaf["simulated"] is not content.registry.simulated:
        raise MalformedError(
            f"{name}: the leaf says simulated={leaf['simulated']}, the receipt not"
        )
    key = bytes.fromhex(content.subject_key)
    tag = leaves.subject_tag(key, leaf["record_id"], content.person)
    if not hmac.compare_digest(tag, leaf["subject"]):
        raise ProofError(f"{name}: the leaf is not of this receipt's person")
    if any(not 0 <= place < len(content.proof) for place in entry.path):
        raise MalformedError(f"{name}: its path leads out of the {len(content.proof)} hashes")
    path = [bytes.fromhex(content.proof[place]) for place in entry.path]
    try:
        merkle.verify_inclusion(merkle.leaf_hash(data), entry.seq, head.size, path, head.root)
    except (MalformedError, ProofError) as error:
        raise type(error)(f"{name}: {error}") from None
    if leaf["notice"] != content.notice.hash:
        raise MalformedError(f"{name}: consents to another notice, {leaf['notice']}")


def _check_proof_is_used(content: ReceiptContent) -> None:
    """Refuse what no check has touched: an entry told twice, a hash that proves nothing."""
    numbers = [entry.seq for entry in content.entries]
    if numbers != sorted(set(numbers)):
        raise MalformedError("entries stand twice or out of order")
    used = {place for entry in content.entries for place in entry.path}
    if used != set(range(len(content.proof))) or len(set(content.proof)) != len(content.proof):
        raise MalformedError("proof: a hash that no entry uses, or that stands twice")
