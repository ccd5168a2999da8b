"""Who a store is: two keys, made on its own machine and never sent anywhere.

The node key is what Flower's SuperLink knows a SuperNode by; with the signing key a store signs what other
stores must be able to check. What leaves the machine is a card with the two public halves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privemo.errors import RunError
from privemo.files import read_json, write_bytes, write_json
from privemo.storeconfig import KEY_FILE

__all__ = ["CARD_FILE", "NODE_KEY_FILE", "StoreCard", "enroll"]

CARD_FILE, NODE_KEY_FILE = "card.json", "node.key"


class StoreCard(BaseModel):
    """The public side of a store: to be carried to whoever draws up the roster, by a way that both trust."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["privemo.store-card/1"] = Field("privemo.store-card/1", alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    node_key: str = Field(pattern=r"^ecdsa-sha2-nistp384 [A-Za-z0-9+/=]+$")
    """OpenSSH text of the node's public key (ECDSA, P-384)."""
    signing_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Public Ed25519 key, hex."""

    @classmethod
    def read(cls, path: Path) -> StoreCard:
        """Read a card.

        Raises:
            RunError: it is missing, or no card.
        """
        if not path.exists():
            raise RunError(
                f"{path} does not exist. Each store makes its own: privemo federation enroll STORE"
            )
        content = read_json(path, schema="privemo.store-card/1")
        try:
            return cls(**content)
        except ValidationError as error:
            raise RunError(f"{path} is no store's card ({error.errors()[0]['msg']}).") from error


def enroll(folder: Path, name: str) -> StoreCard:
    """Make a store's keys and its card in `folder`; a store that has them keeps them.

    Args:
        folder: of the store.
        name: by which all others will know it.

    Raises:
        RunError: the folder holds the keys of a store of another name, or cannot be written.
    """
    card_path = folder / CARD_FILE
    if card_path.exists():
        card = StoreCard.read(card_path)
        if card.name != name:
            raise RunError(f"{folder} is the folder of {card.name}; choose another for {name}.")
        return card
    node, signing = ec.generate_private_key(ec.SECP384R1()), Ed25519PrivateKey.generate()
    node_key = node.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    try:
        card = StoreCard(
            name=name,
            node_key=node_key.decode(),
            signing_key=signing.public_key().public_bytes_raw().hex(),
        )
    except ValidationError as error:
        raise RunError(
            f"{name!r} is no name of a store: up to 64 letters, digits, dots, - and _."
        ) from error
    private = node.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    write_bytes(folder / NODE_KEY_FILE, private)
    write_bytes(folder / KEY_FILE, signing.private_bytes_raw())
    write_json(card_path, card.model_dump(mode="json", by_alias=True))  # last: it makes the store
    return card
