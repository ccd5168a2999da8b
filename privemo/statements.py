"""What a store states of a round, under its own signature: round manifests are made of such statements.

A statement goes to the server, so it holds nothing but what is public already, and hashes of what nobody
can guess. How many people the gate admitted and refused is private: that stays in the store
(`statements.jsonl`), and the statement holds a hash of it, taken together with a random number, for a hash of
counts alone would confirm whoever guesses them. The audit, which reads both, holds one against the other.

Each statement names the server's history as far as the store was told it (`history`). So a server cannot
change a round afterwards without the signatures of every store that took part in a later one.
"""

from __future__ import annotations

import json
import platform
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from privemo.errors import RunError, UpdateRejected
from privemo.storeconfig import KEY_FILE

__all__ = [
    "FIRST",
    "STATEMENTS_FILE",
    "LedgerHead",
    "Signed",
    "Statement",
    "canonical_hash",
    "details_of",
    "read_signing_key",
    "sign",
    "versions",
]

FIRST = "0" * 64
"""The hash that a chain starts from."""

STATEMENTS_FILE = "statements.jsonl"
"""In a store's folder: what it signed, a line each."""

_SIGNED_AS = (
    b"privemo.statement/1\n"  # so that no signature of this key passes for another kind of text
)
_HEX = r"^[0-9a-f]{64}$"


class LedgerHead(BaseModel):
    """How far a ledger goes: its entries, and the hash of the last one (`FIRST` where there is none)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: int = Field(ge=0, lt=2**53)
    hash: str = Field(pattern=_HEX)


class Statement(BaseModel):
    """What a store did in a round.

    Attributes:
        run_id, round, store: which store in which round.
        order: digest of the order on the model it was given (`privemo.orders.order_digest`).
        model_in: hash of that model.
        history: hash of the round manifest before, as the server told it.
        status: whether it trained.
        reason: why not.
        update_sha256: of what it released.
        consent_log_root: of its registry, after the round's uses.
        ledger: how far its ledger goes, this round's entry with it.
        epsilon: what the people of this store have lost by its ledger, RDP, at the ledger's delta; None
            where it is empty.
        details: hash of what stays in the store.
        versions: of the software that did it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_: Literal["privemo.statement/1"] = Field("privemo.statement/1", alias="schema")
    run_id: str = Field(max_length=64)
    round: int = Field(ge=1, lt=2**53)
    store: str = Field(max_length=100)
    order: str = Field(pattern=_HEX)
    model_in: str = Field(pattern=_HEX)
    history: str = Field(pattern=_HEX)
    status: Literal["trained", "refused"]
    reason: str | None = Field(None, max_length=256)
    update_sha256: str | None = Field(None, pattern=_HEX)
    consent_log_root: str = Field(pattern=_HEX)
    ledger: LedgerHead
    epsilon: float | None = Field(None, ge=0, le=1e9)
    details: str = Field(pattern=_HEX)
    versions: dict[str, str] = Field(max_length=32)

    @model_validator(mode="after")
    def _trained_or_not(self) -> Self:
        trained = self.status == "trained"
        if trained != (self.update_sha256 is not None) or trained != (self.reason is None):
            raise ValueError("A store that trained names its update, one that did not the reason")
        return self

    def to_bytes(self) -> bytes:
        """Its one encoding (RFC 8785): what is signed, and what travels."""
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True))


@dataclass(frozen=True)
class Signed:
    """A statement as it travels: bytes, and an Ed25519 signature (64 bytes) over them."""

    text: bytes
    signature: bytes

    def verified(self, roster: Mapping[str, bytes]) -> Statement:
        """Read it, if it was signed by the store that it names.

        Args:
            roster: public key of each store.

        Raises:
            UpdateRejected: it is malformed, of no store of the roster, or not signed by it.
        """
        statement = self.unverified()
        key = roster.get(statement.store)
        if key is None:
            raise UpdateRejected("no such store takes part in this run")
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(self.signature, _SIGNED_AS + self.text)
        except InvalidSignature as error:
            raise UpdateRejected("its statement is not signed by this store") from error
        return statement

    def unverified(self) -> Statement:
        """Read it, whoever wrote it.

        Raises:
            UpdateRejected: it is malformed.
        """
        try:
            statement = Statement.model_validate(json.loads(self.text))
        except (ValueError, ValidationError, RecursionError) as error:
            raise UpdateRejected("its statement is malformed") from error
        if statement.to_bytes() != self.text:
            raise UpdateRejected("its statement is not in its one encoding")
        return statement

    def facts(self) -> dict[str, Any]:
        """What a manifest says of it: readable, and with the signature."""
        return {"statement": json.loads(self.text), "signature": self.signature.hex()}


def sign(statement: Statement, key: Ed25519PrivateKey) -> Signed:
    """Sign a statement with the store's own key."""
    text = statement.to_bytes()
    return Signed(text, key.sign(_SIGNED_AS + text))


def details_of(admission: Mapping[str, Any] | None, *, asked: str | None = None) -> dict[str, Any]:
    """What of a round stays in the store.

    Args:
        admission: how many the gate admitted and refused.
        asked: hash of the counts by group (`privemo.asked`), where the store made any.
    """
    return {
        "schema": "privemo.details/1",
        "nonce": secrets.token_hex(32),
        "admission": dict(admission) if admission is not None else None,
        **({} if asked is None else {"asked": asked}),
    }


def canonical_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 of the one encoding (RFC 8785) of some JSON, hex."""
    return sha256(rfc8785.dumps(dict(content))).hexdigest()


def read_signing_key(folder: Path) -> Ed25519PrivateKey:
    """The private key of a store's folder.

    Raises:
        RunError: there is none, or it is something else.
    """
    path = folder / KEY_FILE
    try:
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is no store's key ({error}). Restore it: the others know the store by it."
        ) from error


@cache
def versions() -> dict[str, str]:
    """Versions of what a store computes with."""
    names = ("privemo", "torch", "opacus", "flwr", "numpy")
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }
